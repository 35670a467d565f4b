"""What was found out about one decision of a tree, and how a formula that was read is held against the known ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import z3

from model.decisions import value_text
from model.kernels import FURTHER, KERNELS, Kernel
from proofs.source.csource import NotRead, Tree
from proofs.source.expressions import Vocabulary
from proofs.source.paths import Path, Reader
from proofs.source.values import UNKNOWN, Term
from proofs.source.world import (
    F,
    P,
    S,
    V,
    abstracted,
    constants,
    in_words,
    python_of,
    said_by,
    solved,
    text_of,
    unknowns_of,
    words_in,
)

ALL: tuple[Kernel, ...] = (*KERNELS, *FURTHER)
READ, PATTERN, ABSENCE, NOT_READ = "read", "pattern", "absence", "not read"


@dataclass(frozen=True)
class Candidate:
    """A value that a decision can have, and the formula over the words that it comes to."""

    value: Any
    formula: Term


@dataclass(frozen=True)
class Finding:
    """What a tree decides.

    how: `read` (proved of all paths), `pattern` (found in the text), `absence` (nothing in the text shows
    otherwise), or `not read`. values: all known values that this is; empty if it is none of them. python, words:
    what it is instead, where the model's state functions can say it. why: the reason it is not read, or why it has
    no value; where: functions or lines; given: what was taken for granted, in words. differs: for a known value, a
    state in which the tree decides otherwise. ignored: what was met on the way and does not matter.
    """

    decision: str
    how: str
    values: tuple[Any, ...] = ()
    where: tuple[str, ...] = ()
    why: str = ""
    python: str = ""
    words: str = ""
    given: str = ""
    differs: tuple[tuple[Any, str], ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def decided(self) -> bool:
        return self.how != NOT_READ

    def has(self, value: Any) -> bool:
        return any(v is value or (isinstance(v, str | bool) and v == value and type(v) is type(value))
                   for v in self.values)

    def difference(self, value: Any) -> str:
        """A state in which the tree decides otherwise than that value, in words; "" if none is known."""
        return next((text for v, text in self.differs if v is value or v == value), "")


def predicates(decision: str, ask: Callable[[Any], Term] | None = None, more: Sequence[Any] = ()) -> list[Candidate]:
    """The values that kernels of the model have for a decision that is a predicate, with their formulas."""
    found: dict[int, Candidate] = {}
    for value in (*(getattr(k, decision) for k in ALL), *more):
        if value is not None and id(value) not in found:
            found[id(value)] = Candidate(value, abstracted((ask or (lambda d: d(P, V, F)))(value)))
    return list(found.values())


def of_slot(value: Any) -> Term:
    """A decision about swap-in, asked."""
    return value(P, V, S, F)


@dataclass(frozen=True)
class Question:
    """How one decision is read from C.

    functions: where it is taken; the first that there is counts. outcome: what a path decides, as a term, or None for a
    path that ends in a way the question knows nothing of. candidates: known values. given: what holds when the model
    asks, in words. settled: a finding that the tree allows unread. also: raises NotRead if reading would decide
    nothing. parameters: Python arguments of the predicate beside p, v, s and f. transform: makes the decision of the
    formula over all paths. when: on which paths the decision counts at all; compared: further facts where it is held
    against values.
    """

    decision: str
    functions: tuple[str, ...]
    vocabulary: Vocabulary
    outcome: Callable[[Path], Any]
    candidates: Callable[[], list[Candidate]]
    given: str = ""
    files: tuple[str, ...] = ()
    settled: Callable[[Tree], Finding | None] | None = None
    also: Callable[[Tree], None] | None = None
    parameters: tuple[tuple[str, Term], ...] = ()
    transform: Callable[[Term], Term] = z3.simplify
    when: Callable[[Path], Any] | None = None
    compared: tuple[Term, ...] = field(default=())

    def ask(self, tree: Tree) -> Finding:
        """What the tree decides. What cannot be read says why, and is no error."""
        try:
            if self.settled is not None and (finding := self.settled(tree)) is not None:
                return finding
            function = tree.function(*self.functions, files=self.files)
            if self.also is not None:
                self.also(tree)
            reader = Reader(tree, self.vocabulary)
            return self._found(reader, reader.paths(function))
        except NotRead as error:
            return Finding(self.decision, NOT_READ, why=str(error), given=self.given)
        except ValueError as error:
            return Finding(self.decision, NOT_READ, why=f"what the model asks has no word: {error}", given=self.given)

    def _found(self, reader: Reader, paths: Sequence[Path]) -> Finding:
        where = tuple(f"{name} {place}" for name, place in reader.functions.items())
        facts = (*self.vocabulary.facts, *self.compared)
        decided, ignored = [], set()
        for path in paths:
            outcome = self.outcome(path)
            blind = next((e for e in path.state.events if e.unknown), None)
            if path.end != "stuck" and blind is None and outcome is not None:
                decided.append(z3.And(path.condition, outcome))
            elif solved(facts, path.condition) is not None:
                raise NotRead(_why(path, blind))
        if self.when is not None:
            counts = z3.Or(*(z3.And(path.condition, self.when(path)) for path in paths if self.when(path) is not None))
            facts = (*facts, counts)
        formula = self.transform(z3.simplify(z3.Or(*decided)))
        if unknown := unknowns_of(formula, facts):
            raise NotRead("it depends on " + "; ".join(reader.seen.get(n, n.strip(UNKNOWN)) for n in unknown[:3]))
        met = {n for path in paths for n in constants(path.condition) if n.startswith(UNKNOWN)}
        ignored |= {reader.seen[n] for n in met if n in reader.seen}
        return self._compared(formula, facts, where, tuple(sorted(ignored)))

    def _compared(
        self, formula: Term, facts: Sequence[Term], where: tuple[str, ...], ignored: tuple[str, ...]
    ) -> Finding:
        values, differs = [], []
        for each in self.candidates():
            state = solved(facts, formula != each.formula)
            if state is None and each.value not in values:
                values.append(each.value)
            elif state is not None:
                here = z3.is_true(state.eval(formula, model_completion=True))
                names = {**constants(formula), **constants(each.formula)}
                differs.append((each.value, f"{in_words(state, names)}: the tree says {_yes(here)}, "
                                            f"{value_text(each.value)} {_yes(not here)}"))
        differs = [(value, said) for value, said in differs if value not in values]
        python = words = why = ""
        if not values:
            # A predicate of a kernel is asked of every state, also of those that other kernels never reach.
            anywhere = [fact for fact in facts if not any(fact.eq(known) for known in self.compared)]
            try:
                python, words = _said(formula, anywhere, self.parameters)
            except ValueError as error:
                why = f"the model has no state function for all of: {error}"
        return Finding(
            self.decision, READ, tuple(values), where, why, python, words, self.given, tuple(differs), ignored)


def _said(formula: Term, facts: Sequence[Term], parameters: Sequence[tuple[str, Term]]) -> tuple[str, str]:
    """The formula as Python and in words. Raises ValueError, naming what it depends on, if the words do not say it."""
    if parameters:
        (name, constant), *rest = parameters
        ways = [_said(z3.simplify(z3.substitute(formula, (constant, z3.BoolVal(on)))), [*facts, constant == on], rest)
                for on in (True, False)]
        if ways[0] == ways[1]:
            return ways[0]
        (yes, yes_words), (no, no_words) = ways
        return f"({yes} if {name} else {no})", f"with {constant}: {yes_words}; without: {no_words}"
    spoken = words_in(formula, facts)
    cubes = said_by(formula, facts, spoken)
    if cubes is None:
        raise ValueError(", ".join(sorted(n.rstrip(".") for n in constants(formula) if n.rstrip(".") not in spoken)))
    return python_of(cubes), text_of(cubes)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _why(path: Path, blind: Any) -> str:
    if path.end == "stuck":
        return f"a path cannot be followed: {path.value}"
    if blind is not None:
        return f"the vocabulary has no {blind.name}(), called at {blind.place}"
    how = "with a return" if path.end == "return" else f"at {path.value}"
    return f"a path ends otherwise than the question knows, {how}"
