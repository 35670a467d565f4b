"""What was found out about one decision of a tree, and how a formula that was read is held against the known ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import z3

from model.decisions import value_text
from model.kernels import FURTHER, KERNELS, Kernel
from proofs.errors import OutOfTime
from proofs.source.csource import CFunction, NotRead, Tree, defect
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
class DecisionFinding:
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


def holds() -> list[Candidate]:
    """Of a fact: that it holds, and that it does not."""
    return [Candidate(True, z3.BoolVal(True)), Candidate(False, z3.BoolVal(False))]


def anchored(tree: Tree, files: Sequence[str], anchors: Sequence[str], missing: str) -> str:
    """Where the first of those functions is, in which what is missing would stand.

    Raises NotRead if none of them is there, or it does not parse: then that something is missing shows nothing.
    """
    for name in anchors:
        if (found := tree.find(name, tuple(files))) is not None:
            if (wrong := defect(found.node)) is not None:
                raise NotRead(f"there is no {missing}, but {name}, where it would stand, does not parse at "
                              f"{found.place(wrong)}")
            return f"{name} {found.place()}"
    raise NotRead(f"there is no {missing} in {', '.join(files)}, but no {' or '.join(anchors)} either, where it would "
                  "stand")


def plain(pattern: str) -> str:
    """The name that a regular expression looks for, without its signs."""
    return re.sub(r"\\[bs][*+]?|\\?\($|[\\^$?]", "", pattern).strip()


def absent(
    decision: str, value: Any, *words: str, files: tuple[str, ...], anchors: tuple[str, ...]
) -> Callable[[Tree], DecisionFinding | None]:
    """That value, if none of the words (regular expressions) is in the files, and one of the anchors is.

    anchors: functions in which the words would stand. A name that is much like one that is missing may be its new
    name, so nothing is found then.
    """
    def settled(tree: Tree) -> DecisionFinding | None:
        if any(tree.text(file) is None for file in files) or any(tree.mentions(word, *files) for word in words):
            return None
        what = ", ".join(plain(word) for word in words)
        place = anchored(tree, files, anchors, what)
        for word in words:
            if like := similar(tree, plain(word), files):
                raise NotRead(f"there is no {plain(word)} in {', '.join(files)}, but {like}, which may be its new name")
        said = f"absent: looked for {what} in {', '.join(files)}; {place}"
        return DecisionFinding(decision, ABSENCE, (value,), (said,))
    return settled


def no_exclusive_bit(decision: str, value: Any = None) -> Callable[[Tree], DecisionFinding | None]:
    """That value, if the tree has no PG_anon_exclusive (before 5.19)."""
    return absent(decision, value, r"\bPageAnonExclusive\b", files=("include/linux/page-flags.h",),
                  anchors=("PageAnon", "folio_test_anon"))


def similar(tree: Tree, name: str, files: Sequence[str]) -> str | None:
    """A name in the files that is much like that one, None if there is none."""
    known = {n.decode() for file in files for n in re.findall(rb"\b[A-Za-z_]\w{5,}\b", tree.text(file) or b"")}
    return next(iter(difflib.get_close_matches(name, known, 1, 0.87)), None)


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


_FOLLOWED: WeakKeyDictionary[Tree, dict[tuple[int, str], tuple[Reader, list[Path]] | NotRead | OutOfTime]] = (
    WeakKeyDictionary()
)


def _followed(tree: Tree, vocabulary: Vocabulary, function: CFunction) -> tuple[Reader, list[Path]]:
    """The paths of a function, which several questions may ask of with one vocabulary, and who followed them."""
    known = _FOLLOWED.setdefault(tree, {})
    key = (id(vocabulary), function.name)
    if key not in known:
        reader = Reader(tree, vocabulary)
        try:
            known[key] = reader, reader.paths(function)
        except (NotRead, OutOfTime) as error:
            # The next question would only find that out again.
            known[key] = error
    found = known[key]
    if isinstance(found, Exception):
        raise found
    return found


@dataclass(frozen=True)
class DecisionReader:
    """How one decision is read from C.

    functions: where it is taken; the first that there is counts. outcome: what a path decides, as a term, or None for a
    path that ends in a way the question knows nothing of. candidates: known values. given: what holds when the model
    asks, in words. settled: a finding that the tree allows unread. also: raises NotRead if reading would decide
    nothing. parameters: Python arguments of the predicate beside p, v, s and f. transform: makes the decision of the
    formula over all paths. when: on which paths the decision counts at all; compared: further facts where it is held
    against values. lapse: of what rules take for granted: what a kernel lacks that does not do so (model/lapses.py).
    beyond: what the model has not, and takes as not so where a new rule is said.
    """

    decision: str
    functions: tuple[str, ...]
    vocabulary: Vocabulary
    outcome: Callable[[Path], Any]
    candidates: Callable[[], list[Candidate]]
    given: str = ""
    files: tuple[str, ...] = ()
    settled: Callable[[Tree], DecisionFinding | None] | None = None
    also: Callable[[Tree], None] | None = None
    parameters: tuple[tuple[str, Term], ...] = ()
    transform: Callable[[Term], Term] = z3.simplify
    when: Callable[[Path], Any] | None = None
    compared: tuple[Term, ...] = field(default=())
    lapse: str = ""
    beyond: tuple[Term, ...] = ()

    def ask(self, tree: Tree) -> DecisionFinding:
        """What the tree decides. What cannot be read says why, and is no error."""
        try:
            if self.settled is not None and (finding := self.settled(tree)) is not None:
                return finding
            function = tree.function(*self.functions, files=self.files)
            if self.also is not None:
                self.also(tree)
            return self._found(*_followed(tree, self.vocabulary, function))
        except NotRead as error:
            return DecisionFinding(self.decision, NOT_READ, why=str(error), given=self.given)
        except ValueError as error:
            why = f"what the model asks has no word: {error}"
            return DecisionFinding(self.decision, NOT_READ, why=why, given=self.given)

    def _found(self, reader: Reader, paths: Sequence[Path]) -> DecisionFinding:
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
    ) -> DecisionFinding:
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
        if not values and self.candidates is not holds:
            # A predicate of a kernel is asked of every state, also of those that other kernels never reach.
            anywhere = [fact for fact in facts if not any(fact.eq(known) for known in self.compared)]
            try:
                inside = z3.simplify(z3.substitute(formula, *((c, z3.BoolVal(False)) for c in self.beyond)))
                python, words = _said(inside, anywhere, self.parameters)
            except ValueError as error:
                why = f"the model has no state function for all of: {error}"
        return DecisionFinding(
            self.decision, READ, tuple(values), where, why, python, words, self.given, tuple(differs), ignored)


@dataclass(frozen=True)
class Together:
    """A decision that several functions take together. joined: its values, of the values that each has."""

    decision: str
    parts: tuple[DecisionReader, ...]
    joined: Callable[[list[Any]], list[Any]]

    @property
    def functions(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.functions)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(file for part in self.parts for file in part.files))

    def ask(self, tree: Tree) -> DecisionFinding:
        """What the tree decides, if each part is read and has a known value."""
        found = [part.ask(tree) for part in self.parts]
        open_ones = [f for f in found if not f.decided or not f.values]
        if open_ones:
            return open_ones[0]
        values = self.joined([f.values[0] for f in found])
        where = tuple(dict.fromkeys(line for f in found for line in f.where))
        why = "" if values else "its parts differ: " + "; ".join(
            f"{value_text(f.values[0])} at {f.where[0]}" for f in found)
        how = READ if any(f.how == READ for f in found) else ABSENCE
        given = "; ".join(dict.fromkeys(f.given for f in found if f.given))
        ignored = tuple(sorted({line for f in found for line in f.ignored}))
        return replace(found[0], how=how, values=tuple(values), where=where, why=why, given=given, ignored=ignored)


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
