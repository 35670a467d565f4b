"""What two kernels do differently, as a user can see it: litmus tests that they answer otherwise, by cause.

The sequences come from lockstep.py. A cause is a set of decisions: taken over by the first kernel, they make it end as
the second one does. Every test shown is asked again of the litmus engine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from model.kernels import Kernel, differing, own_operations, sources_of
from model.logic import ModelError
from proofs.compare.alike import proved_alike
from proofs.compare.lockstep import (
    ALWAYS,
    INTERRUPTED,
    PAGES,
    PROCESSES,
    REFERENCES,
    Bounds,
    Move,
    Pages,
    SearchResult,
    Side,
    search,
)
from proofs.derive.interpreter import Interpreter, interpreter_of
from proofs.errors import EngineError, Interrupted
from proofs.litmus import execution, parser
from proofs.litmus.execution import End, Run
from proofs.litmus.facts import Fact, value_loaded, value_seen
from proofs.litmus.history import smallest
from proofs.litmus.instances import untaken_rules
from proofs.litmus.language import Litmus
from proofs.naming.specs import features_of, file_name, find_kernel, system_of, system_with, with_features

NOT_FOLLOWED = ("huge",)
"""Features with which names stand for several pages or references at once: the search does not make such tests."""
PROOF_SECONDS = 60.0
"""Time limit, at most, for proving that there is no difference."""
OWN = "own_rules"
"""Stands among the decisions for the rules of a user's own that some operation takes."""
NOTHING = SearchResult(0, 0, True, "", 0)
"""No search was needed."""
Seen = dict[tuple[str, tuple[int, ...]], Any]
"""What one execution shows, in words of Fact: ("refused", (2,)) to whether it is so, ("loads", (p, v)) and
("sees", (k,)) to the number of the value, None where there is nothing."""


@dataclass(frozen=True)
class Decision:
    """A decision that differs: what each kernel decides, and the commit or other source, as far as it is cited."""

    name: str
    of_a: str
    of_b: str
    cite: str


@dataclass(frozen=True)
class Difference:
    """A sequence as a litmus test. `answers`: of the two kernels. `shows`: for each kernel its outcomes in words, of
    what is not the same in all of them. `parting`: the first operation that takes other steps, and which on each."""

    name: str
    text: str
    answers: tuple[str, str]
    shows: tuple[tuple[str, ...], tuple[str, ...]]
    parting: tuple[str, tuple[str, ...], tuple[str, ...]] | None


@dataclass(frozen=True)
class Cause:
    """Decisions that, taken over from B by A, make A end as B does; with any of them left out it does not.

    `others`: how many further sequences were found that they explain.
    """

    decisions: tuple[Decision, ...]
    differences: tuple[Difference, ...]
    others: int


@dataclass(frozen=True)
class Report:
    """What `diff` found. `silent`: decisions that differ, but in no cause. `elsewhere`: those that concern other parts
    of the domain. `same`: the kernels have the same terms for these operations, so there is no difference at all.
    `left_out`: rules that a user's kernel adds, of which no operation takes any. `proved`: by so many clauses it is
    proved that no step differs, of any number of elements, whatever decides it; None if that is not known."""

    a: str
    b: str
    features: tuple[str, ...]
    bounds: Bounds
    search: SearchResult
    causes: tuple[Cause, ...]
    silent: tuple[str, ...]
    elsewhere: tuple[str, ...]
    same: bool = False
    left_out: tuple[str, ...] = ()
    proved: int | None = None


class Causes:
    """Sorts the sequences that are found by what makes the difference; keeps the first `each` for every cause."""

    def __init__(self, a: Side, b: Side, features: Sequence[str], each: int) -> None:
        self.a, self.b, self.features, self.each = a, b, features, each
        self.differing = (*unlike(a.kernel, b.kernel), *[OWN] * (a.kernel.own_rules != b.kernel.own_rules))
        self._hybrids: dict[frozenset[str], Side] = {frozenset(): a, frozenset(self.differing): b}
        self.kept: dict[tuple[str, ...], list[tuple[Pages, tuple[Move, ...]]]] = {}
        self.count: dict[tuple[str, ...], int] = {}

    def hybrid(self, decisions: Iterable[str]) -> Side:
        """A with those decisions of B."""
        taken = frozenset(decisions)
        if taken not in self._hybrids:
            fields = {*taken, *["own_operations"] * (OWN in taken)}
            kernel = self.a.kernel.but(
                f"{self.a.kernel.name}+{'+'.join(sorted(taken))}", "between two kernels",
                **{name: getattr(self.b.kernel, name) for name in fields},
            )
            self._hybrids[taken] = Side(kernel, kernel.system(self.features), self.a.bounds)
        return self._hybrids[taken]

    def explains(self, decisions: Iterable[str], pages: Pages, sequence: Sequence[Move]) -> bool:
        """With those decisions of B, A ends as B does."""
        return self.hybrid(decisions).outcomes(pages, sequence) == self.b.outcomes(pages, sequence)

    def add(self, pages: Pages, sequence: tuple[Move, ...]) -> None:
        """Sort in a sequence that differs."""
        known = [cause for cause in self.kept if self.is_cause(cause, pages, sequence)]
        if known and all(len(self.kept[cause]) >= self.each for cause in known):
            for cause in known:
                self.count[cause] += 1
            return
        cause = self.cause(pages, sequence)
        self.count[cause] = self.count.get(cause, 0) + 1
        kept = self.kept.setdefault(cause, [])
        words = [_words(before) for _, before in kept]
        if len(kept) < self.each and _words(sequence) not in words and self.minimal(cause, pages, sequence):
            kept.append((pages, sequence))
        if not kept:
            del self.kept[cause], self.count[cause]

    def is_cause(self, decisions: tuple[str, ...], pages: Pages, sequence: tuple[Move, ...]) -> bool:
        """They explain the sequence, and none of them is in vain."""
        if not self.explains(decisions, pages, sequence):
            return False
        fewer = itertools.combinations(decisions, len(decisions) - 1)
        return not any(self.explains(rest, pages, sequence) for rest in fewer)

    def cause(self, pages: Pages, sequence: tuple[Move, ...]) -> tuple[str, ...]:
        """Decisions that explain the sequence, none of them in vain: one alone if one does."""
        return smallest(self.differing, lambda names: self.explains(names, pages, sequence))

    def minimal(self, cause: tuple[str, ...], pages: Pages, sequence: tuple[Move, ...]) -> bool:
        """No operation can be left out so that these decisions still make a difference."""
        for i in range(len(sequence)):
            rest = sequence[:i] + sequence[i + 1:]
            if _sensible(rest):
                outcomes = self.a.outcomes(pages, rest), self.hybrid(cause).outcomes(pages, rest)
                if outcomes[0] != outcomes[1]:
                    return False
        return True


def _words(sequence: Sequence[Move]) -> list[str]:
    """What kinds of operation it is made of."""
    return sorted(move.operation.word for move in sequence)


def _sensible(sequence: Sequence[Move]) -> bool:
    """Every process and reference is made before it is used."""
    alive, held = {0}, set()
    for move in sequence:
        bound = dict(move.bound)
        if move.p not in alive or ("k" in bound and not move.operation.reference and bound["k"] not in held):
            return False
        if "child" in bound:
            alive.add(bound["child"])
        if move.operation.reference:
            held.add(bound["k"])
    return True


def unlike(a: Kernel, b: Kernel) -> tuple[str, ...]:
    """The decisions in which two kernels differ, and `lapses` if they have not the same ones."""
    return (*differing(a, b), *(("lapses",) if a.lapses != b.lapses else ()))


def decisions(a: Kernel, b: Kernel, names: Iterable[str]) -> tuple[Decision, ...]:
    """Those decisions of the two kernels, with the source that only the second one cites."""
    before = sources_of(a)
    cites = {what: commit for what, commit in sources_of(b).items() if before.get(what) != commit}
    values = [
        {**k.decisions(), OWN: ", ".join(template.name for template in k.own_rules) or "none",
         "lapses": ", ".join(k.lapses) or "none"}
        for k in (a, b)
    ]
    return tuple(Decision(n, values[0][n], values[1][n], cites.get(n, "")) for n in names)


def compare(
    a: str, b: str, features: Sequence[str], bounds: Bounds, each: int = 2,
    progress: Callable[[int, int, int], Any] = lambda depth, done, of: None,
) -> Report:
    """Compare two kernels, by their specs; `each`: how many sequences to keep for a cause.

    Interrupted, it is the report of what was found before; KeyboardInterrupt where nothing was looked for yet. Raises
    ModelError for a kernel or feature that there is not; EngineError if the litmus engine disagrees.
    """
    for feature in features:
        if feature in NOT_FOLLOWED:
            raise ModelError(f"diff does not follow {feature}: there a name may stand for several pages")
    wanted = features_of(with_features(a, (*ALWAYS, *features)))[1]
    kernels = find_kernel(a), find_kernel(b)
    systems = system_of(with_features(a, wanted)), system_of(with_features(b, wanted))
    others = unlike(*kernels)
    if systems[0].text() == systems[1].text():
        return Report(a, b, wanted, bounds, NOTHING, (), (), others, True)
    proved = proved_alike(kernels, systems, min(PROOF_SECONDS, bounds.seconds or PROOF_SECONDS))
    if proved is not None:
        return Report(a, b, wanted, bounds, NOTHING, (), *_here_and_elsewhere(kernels, others, wanted), proved=proved)
    own = [name for k, s in zip(kernels, systems, strict=True) for name in untaken_rules(k, s)]
    kernels, sides = _sides(kernels, wanted, bounds)
    causes = Causes(*sides, wanted, each)
    try:
        searched = search(*sides, wanted, bounds, causes.add, progress)
    except Interrupted as error:
        searched = error.so_far
    shown_causes, whole = _shown((a, b), kernels, causes)
    if not whole:
        searched = replace(searched, stopped=INTERRUPTED)
    silent, elsewhere = _here_and_elsewhere(
        kernels, [d for d in others if not any(d in names for names in causes.kept)], wanted
    )
    return Report(
        a, b, wanted, bounds, searched, tuple(shown_causes), silent, elsewhere,
        left_out=tuple(dict.fromkeys(own)),
    )


def _shown(specs: tuple[str, str], kernels: tuple[Kernel, Kernel], causes: Causes) -> tuple[list[Cause], bool]:
    """The causes with their sequences as tests; not whole where an interrupt left tests out."""
    shown: list[Cause] = []
    whole = True
    found = [(names, kept) for names, kept in causes.kept.items() if kept]
    for n, (names, kept) in enumerate(found, 1):
        name = f"{file_name('-'.join(specs), kept='A-Za-z0-9_.-')}-{n}"
        tests: list[Difference] = []
        try:
            for i, each in enumerate(kept if whole else (), 1):
                tests.append(as_test(specs, kernels, *each, f"{name}-{i}"))
        except KeyboardInterrupt:
            whole = False
        shown.append(Cause(decisions(*kernels, names), tuple(tests), causes.count[names] - len(tests)))
    return shown, whole


def _sides(
    kernels: tuple[Kernel, Kernel], features: Sequence[str], bounds: Bounds
) -> tuple[tuple[Kernel, Kernel], tuple[Side, Side]]:
    """The kernels without rules of a user's own that no operation takes, and how the search has them."""
    taken = {name for operation in own_operations(kernels) for name in operation.rules}
    a, b = (kernel.plain(taken) for kernel in kernels)
    return (a, b), (Side(a, a.system(features), bounds), Side(b, b.system(features), bounds))


def shortest(
    a: str, b: str, features: Sequence[str], bounds: Bounds,
    progress: Callable[[int, int, int], Any] = lambda depth, done, of: None,
) -> tuple[Difference | None, SearchResult]:
    """A shortest sequence that the two kernels end otherwise, as a litmus test, and how far it was looked for.

    Rules of a user's own that no operation takes are left out. Raises as `compare` does.
    """
    wanted = features_of(with_features(a, (*ALWAYS, *features)))[1]
    kernels, sides = _sides((find_kernel(a), find_kernel(b)), wanted, bounds)
    found: list[tuple[Pages, tuple[Move, ...]]] = []

    def first(pages: Pages, sequence: tuple[Move, ...]) -> bool:
        found.append((pages, sequence))
        return True

    searched = search(*sides, wanted, bounds, first, progress)
    name = f"{file_name(f'{a}-{b}', kept='A-Za-z0-9_.-')}-1"
    return as_test((a, b), kernels, *found[0], name) if found else None, searched


def _here_and_elsewhere(
    kernels: tuple[Kernel, Kernel], names: Sequence[str], features: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those decisions that the kernels' rules with these features ask, and the others."""
    elsewhere = tuple(d for d in names if _says_nothing(kernels, d, features))
    return tuple(d for d in names if d not in elsewhere), elsewhere


def _says_nothing(kernels: tuple[Kernel, Kernel], decision: str, features: Sequence[str]) -> bool:
    """Neither kernel has other terms with the other's decision."""
    for one, other in (kernels, kernels[::-1]):
        changed = one.but(one.name, one.about, **{decision: getattr(other, decision)})
        if changed.system(features).text() != one.system(features).text():
            return False
    return True


# A sequence as a litmus test


def program_of(pages: Pages, sequence: Sequence[Move]) -> tuple[list[str], list[str]]:
    """The declarations of the pages that it uses, and the operations; every reference has a name of its own."""
    used = {value for move in sequence for name, value in move.bound if name in "vw"}
    declared = [" ".join(["page  ", PAGES[v], *sorted(pages[v])]) for v in sorted(used)]
    lines = []
    fresh = iter((*REFERENCES, *(f"r{i}" for i in range(2, 100))))
    names: dict[int, str] = {}
    for move in sequence:
        operation, bound = move.operation, dict(move.bound)
        if operation.reference:
            names[bound["k"]] = next(fresh)
        gives = [names[bound["k"]], "="] if operation.reference else []
        arguments = [_named(name, bound[name], names) for name in operation.arguments]
        # In the order in which people say them.
        said = ("write", "longterm", "ro", "rw")
        flags = [*(f for f in said if f in operation.flags), *sorted(operation.flags.difference(said))]
        actor = "*" if operation.actor != "process" and move.p == 0 else PROCESSES[move.p]
        lines.append(f"{actor}: {' '.join([*gives, operation.word, *arguments, *flags])}")
    return declared, lines


def _named(parameter: str, value: int, references: dict[int, str]) -> str:
    """An argument as a test names it."""
    match parameter:
        case "n":
            return str(value)
        case "k":
            return references[value]
        case "child":
            return PROCESSES[value]
        case _:
            return PAGES[value]


def litmus_text(name: str, about: str, program: tuple[list[str], list[str]], condition: str) -> str:
    heading = [f"litmus {name}", *([f"about  {about}"] if about else [])]
    return "\n".join([*heading, *program[0], *program[1], condition]) + "\n"


def executions(test: Litmus, kernel: Kernel) -> list[tuple[Seen, End]]:
    """Every execution of the test by the litmus engine, and what it shows."""
    interpreter = interpreter_of(system_with(kernel, test.features), test.scope())
    ends, stuck = Run(test, kernel, interpreter).ends()
    if stuck:
        raise EngineError(f"the litmus engine does not follow what the search for differences followed: {stuck}")
    return [(_seen(test, interpreter, end), end) for end in ends]


def _seen(test: Litmus, interpreter: Interpreter, end: End) -> Seen:
    state = end.situation.state
    seen: Seen = {}
    for k in range(len(test.references)):
        seen["sees", (k,)] = value_seen(interpreter, state, k)
    for p, v in itertools.product(range(len(test.processes)), range(len(test.pages))):
        seen["loads", (p, v)] = value_loaded(interpreter, state, p, v)
    for number in range(len(test.statements)):
        seen["refused", (number + 1,)] = number in end.refused
        seen["blocked", (number + 1,)] = number in end.blocked
    return seen


class _Fact(NamedTuple):
    """Something that a condition can say: of `look` shows `value`, or with `other` anything else."""

    rank: tuple[int, int]
    text: str
    look: tuple[str, tuple[int, ...]]
    value: Any
    other: bool = False

    def holds(self, seen: Seen) -> bool:
        return (seen[self.look] == self.value) is not self.other


def _text_of(test: Litmus, look: tuple[str, tuple[int, ...]], value: Any) -> str:
    """What an execution shows in words, which if something is there are a condition."""
    what, of = look
    if isinstance(value, bool):
        text = Fact(what, of).text(test.names())
        return text if value else f"not {text}"
    if value is not None:
        return Fact(what, (*of, value)).text(test.names())
    where = test.references[of[0]] if what == "sees" else f"{test.processes[of[0]]}.{test.pages[of[1]].name}"
    return f"{where} is not there"


def _facts(test: Litmus, mine: Seen, others: Sequence[Seen]) -> Iterator[_Fact]:
    """Facts that are true of an execution, and may not be of others."""
    for place, (look, value) in enumerate(mine.items()):
        if value is not None:
            yield _Fact((int(value is False), place), _text_of(test, look, value), look, value)
        for there in dict.fromkeys(o[look] for o in others):
            if there is not None and not isinstance(there, bool) and there != value:
                yield _Fact((1, place), f"not {_text_of(test, look, there)}", look, there, True)


def _condition(test: Litmus, mine: Seen, others: Sequence[Seen]) -> tuple[tuple[Any, ...], str] | None:
    """(rank, text) of a shortest conjunction that is true of one execution and of none of the others."""
    facts = list(_facts(test, mine, others))
    for size in range(1, len(mine) + 1):
        fitting = [
            (size, tuple(f.rank for f in chosen), " and ".join(f.text for f in chosen))
            for chosen in itertools.combinations(facts, size)
            if not any(all(f.holds(o) for f in chosen) for o in others)
        ]
        if fitting:
            *rank, text = min(fitting)
            return tuple(rank), text
    return None


def as_test(
    specs: tuple[str, str], kernels: tuple[Kernel, Kernel], pages: Pages, sequence: Sequence[Move], name: str
) -> Difference:
    """The sequence, which ends otherwise on the two kernels, as a test with a question that they answer otherwise."""
    own = own_operations(kernels)
    program = program_of(pages, sequence)
    plain = program_of((frozenset(),) * len(pages), sequence)
    for candidate in (plain, program):
        text = litmus_text(name, "", candidate, "exists refused 1")
        test = parser.parse(text, "a difference", own)
        found = [executions(test, kernel) for kernel in kernels]
        seen = [[s for s, _ in ends] for ends in found]
        only = [[s for s in seen[i] if s not in seen[1 - i]] for i in (0, 1)]
        if only[0] or only[1]:
            break
    conditions = [(best[0], i, best[1]) for i in (0, 1) for s in only[i] if (best := _condition(test, s, seen[1 - i]))]
    if not conditions:
        raise EngineError(f"the litmus engine sees no difference in\n{text}")
    _, side, condition = min(conditions)
    looks = [n for n in seen[0][0] if len({s[n] for s in (*seen[0], *seen[1])}) > 1]
    shows = tuple(
        tuple(dict.fromkeys(", ".join(_text_of(test, n, s[n]) for n in looks) for s in seen[i])) for i in (0, 1)
    )
    about = "; ".join(f"{spec}: {' or '.join(shows[i])}" for i, spec in enumerate(specs))
    text = litmus_text(name, about, candidate, f"exists {condition}")
    test = parser.parse(text, name, own)
    answers = tuple(str(execution.answer(test, k, system_with(k, test.features)).answer) for k in kernels)
    expected = ("Allowed", "Forbidden") if side == 0 else ("Forbidden", "Allowed")
    if answers != expected:
        raise EngineError(f"the litmus engine answers {' and '.join(answers)}, the search expects otherwise of\n{text}")
    ends = [next(e for s, e in found[i] if not only[i] or s in only[i]) for i in (0, 1)]
    return Difference(name, text, (answers[0], answers[1]), (shows[0], shows[1]), _parting(test, ends))


def _parting(test: Litmus, ends: Sequence[End]) -> tuple[str, tuple[str, ...], tuple[str, ...]] | None:
    """The first operation for which the two executions take other rules."""
    for number, statement in enumerate(test.statements):
        one, other = (tuple(step.rule.name for n, step in end.steps if n == number) for end in ends)
        if one != other:
            return statement.text, one, other
    return None
