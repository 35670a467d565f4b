"""Whose rules does a kernel have? The smallest difference from a kernel of the model that explains what was observed.

A test's outcome under one record of decisions is its outcome under a whole region of them (litmus/reasons.py). z3 is
given the regions that do not have what was observed, and proposes the nearest record outside all of them; the tests
whose outcomes are not known there are executed under it; until a record explains everything, or there is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import z3

from model.decisions import value_text
from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError
from proofs.hardware.observing import Observation
from proofs.litmus import reasons
from proofs.litmus.execution import Outcome
from proofs.litmus.language import Litmus
from proofs.litmus.reasons import VALUES, Reason, Record, number_of, record_of
from proofs.naming.specs import variable_of

OTHERS = 3
"""So many further records that are as near are named."""
Seen = Mapping[str, frozenset[Outcome]]
"""Test to what was observed of it, once or several times."""


@dataclass(frozen=True)
class Identity:
    """What was found. `base`: the nearest kernel; `changes`: decision to another value than that kernel has.

    explained, unseen    names of tests: that the record explains; that say nothing (not observed, or not followed)
    open                 decision to further values that explain everything as well, all else being equal
    others               other sets of changes, as few, that explain everything
    conflict             the smallest set of tests that no record explains all of; empty if one explains all there are.
                         The record then explains as many as one can
    unexplained          the tests that the record does not explain
    """

    base: str
    changes: Mapping[str, Any]
    explained: tuple[str, ...]
    unseen: tuple[str, ...]
    open: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    others: tuple[Mapping[str, Any], ...] = ()
    conflict: tuple[str, ...] = ()
    unexplained: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The decisions."""
        base = next(k for k in (*KERNELS, *FURTHER) if k.name == self.base)
        return record_of(base) | dict(self.changes)


class Reasons:
    """How tests end under records, and for which others they do so too: each executed once for a region of records."""

    def __init__(self, step: Callable[[int], None] = lambda runs: None) -> None:
        self.step = step
        self.runs = 0
        self._known: dict[str, list[Reason]] = {}

    def reason(self, test: Litmus, record: Record) -> Reason:
        """Why the test ends as it does under the record."""
        known = self._known.setdefault(test.name, [])
        found = next((r for r in known if r.covers(record)), None)
        if found is None:
            found = reasons.reason(test, record)
            known.insert(0, found)
            self.runs += 1
            self.step(self.runs)
        return found


class Knowledge:
    """What was observed of tests, and how they end."""

    def __init__(self, tests: Sequence[Litmus], seen: Seen, ends: Reasons) -> None:
        self.tests = {t.name: t for t in tests if seen.get(t.name) and reasons.followed(t)}
        self.seen = seen
        self.ends = ends

    def refutes(self, test: str, record: Record) -> Reason | None:
        """The reason why the test does not end as was observed under the record; None if it may.

        A record under which some operation has no rule is that of no kernel, so it explains only what it ends in.
        """
        found = self.ends.reason(self.tests[test], record)
        return None if self.seen[test] <= found.outcomes else found

    def explains(self, record: Record, tests: Iterable[str] | None = None) -> bool:
        """All of the tests may end so under the record."""
        wanted = self.tests if tests is None else tests
        return not any(self.refutes(test, record) for test in wanted)


class RecordSearch:
    """The nearest records by z3; `bases`: the kernels from one of which the difference is to be small."""

    def __init__(self, known: Knowledge, bases: Sequence[Kernel]) -> None:
        self.known = known
        self.bases = bases
        self.cells = {d: [z3.Bool(f"{d}={n}") for n in range(len(values))] for d, values in VALUES.items()}
        self.differs = {d: z3.Bool(f"differs {d}") for d in VALUES}
        self.chosen = [z3.Bool(f"base {kernel.name}") for kernel in bases]
        self.holds = {test: z3.Bool(f"test {test}") for test in known.tests}
        self.facts = [z3.PbEq([(cell, 1) for cell in cells], 1) for cells in self.cells.values()]
        self.facts.append(z3.PbEq([(base, 1) for base in self.chosen], 1))
        for kernel, base in zip(bases, self.chosen, strict=True):
            for decision, value in record_of(kernel).items():
                same = self.cells[decision][number_of(decision, value)]
                self.facts.append(z3.Implies(base, z3.Or(same, self.differs[decision])))
        self.learnt: list[z3.BoolRef] = []
        self.taken: set[tuple[str, int]] = set()

    def learn(self, test: str, reason: Reason) -> None:
        """What was observed of the test is not what the records of that region do."""
        if (test, id(reason)) not in self.taken:
            self.taken.add((test, id(reason)))
            self.learnt.append(z3.Or(z3.Not(self.holds[test]), *(
                self.cells[d][n] for d, numbers in reason.region.items() for n in range(len(VALUES[d]))
                if n not in numbers
            )))

    def nearest(
        self, tests: Collection[str], wish: Collection[str] = (), besides: Iterable[z3.BoolRef] = (),
        most: int | None = None,
    ) -> tuple[Kernel, dict[str, Any]] | None:
        """The nearest kernel and a record that explains all of those tests, and of `wish` as many as can be.

        `besides`: what else the record is to satisfy; `most`: how many decisions may differ. None if there is none.
        """
        besides = list(besides)
        while True:
            found = self._proposal(tests, wish, besides, most)
            if found is None:
                return None
            base, record, wanted = found
            before = len(self.learnt)
            for test in wanted:
                refuted = self.known.refutes(test, record)
                if refuted is not None:
                    self.learn(test, refuted)
            if len(self.learnt) == before:
                return base, record

    def _proposal(
        self, tests: Collection[str], wish: Collection[str], besides: Sequence[z3.BoolRef], most: int | None
    ) -> tuple[Kernel, dict[str, Any], list[str]] | None:
        """What explains the tests as far as it is learnt, and which tests z3 believes it to explain."""
        solver = z3.Optimize()
        solver.add(*self.facts, *self.learnt, *besides, *(self.holds[test] for test in tests))
        if most is not None:
            solver.add(z3.PbLe([(differs, 1) for differs in self.differs.values()], most))
        for test in wish:
            solver.add_soft(self.holds[test], len(VALUES) + 1)
        for differs in self.differs.values():
            solver.add_soft(z3.Not(differs), 1)
        if solver.check() != z3.sat:
            return None
        answer = solver.model()

        def true(term: z3.BoolRef) -> bool:
            return bool(z3.is_true(answer.eval(term, model_completion=True)))

        record = {
            d: next(VALUES[d][n] for n, cell in enumerate(cells) if true(cell)) for d, cells in self.cells.items()
        }
        base = next(kernel for kernel, chosen in zip(self.bases, self.chosen, strict=True) if true(chosen))
        return base, record, [*tests, *(test for test in wish if true(self.holds[test]))]

    def conflict(self, tests: Collection[str]) -> tuple[str, ...]:
        """The smallest set of those tests that no record explains; empty if one explains all.

        Every such set has a test in common with what a record leaves unexplained; so the smallest set that meets all
        that is known of this kind is tried, and if a record explains it, what that leaves is one more.
        """
        left: list[list[str]] = []
        while True:
            solver = z3.Optimize()
            solver.add(*(z3.Or(*(self.holds[test] for test in some)) for some in left))
            for test in dict.fromkeys(itertools.chain(*left)):
                solver.add_soft(z3.Not(self.holds[test]), 1)
            solver.check()
            core = [t for t in dict.fromkeys(itertools.chain(*left)) if z3.is_true(solver.model()[self.holds[t]])]
            found = self.nearest(core, [test for test in tests if test not in core])
            if found is None:
                return tuple(core)
            left.append([test for test in tests if self.known.refutes(test, found[1])])
            if not left[-1]:
                return ()


def identify(
    tests: Sequence[Litmus], seen: Seen, base: Kernel | None = None, ends: Reasons | None = None
) -> Identity:
    """Find the record that explains what was observed, near the base, or near any kernel of the model without one.

    `ends`: what is known of the tests already; what is found out is added. Raises
    ModelError if nothing was observed, or the base is one whose decisions the model's kernels do not have.
    """
    known = Knowledge(tests, seen, ends or Reasons())
    unseen = tuple(t.name for t in tests if t.name not in known.tests)
    if not known.tests:
        raise ModelError("nothing was observed of any test that can be followed")
    bases = [base] if base is not None else [*KERNELS, *FURTHER]
    try:
        search = RecordSearch(known, bases)
    except KeyError as error:
        raise ModelError(f"no kernel of the model has {error.args[0]}: start from another one") from None
    conflict: tuple[str, ...] = ()
    found = search.nearest(known.tests)
    if found is None:
        conflict = search.conflict(list(known.tests))
        found = search.nearest([], list(known.tests))
        assert found is not None
    nearest, record = found
    explained = [test for test in known.tests if not known.refutes(test, record)]
    changes = differences(nearest, record)
    return Identity(
        nearest.name, changes, tuple(explained), unseen, dict(_open(known, record, explained)),
        tuple(_others(search, nearest, changes, explained)), conflict,
        tuple(test for test in known.tests if test not in explained),
    )


def differences(base: Kernel, record: Record) -> dict[str, Any]:
    """The decisions of the record that are not those of the kernel."""
    own = record_of(base)
    return {d: value for d, value in record.items() if number_of(d, value) != number_of(d, own[d])}


def _open(known: Knowledge, record: Record, tests: Sequence[str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The decisions that may have other values, one by one."""
    for decision, values in VALUES.items():
        number = number_of(decision, record[decision])
        further = tuple(
            value for n, value in enumerate(values)
            if n != number and known.explains({**record, decision: value}, tests)
        )
        if further:
            yield decision, further


def _others(
    search: RecordSearch, base: Kernel, changes: Mapping[str, Any], tests: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Other records as near to the kernel, in which some decision that changed is the kernel's own."""
    own = record_of(base)
    chosen = search.chosen[search.bases.index(base)]
    told = [changes]
    while len(told) <= OTHERS and changes:
        besides = [chosen] + [
            z3.Or(*(search.cells[d][number_of(d, own[d])] for d in some)) for some in told
        ]
        found = search.nearest(tests, besides=besides, most=len(changes))
        if found is None:
            return
        told.append(differences(base, found[1]))
        yield dict(told[-1])


# Observing

def seen_in(tests: Sequence[Litmus], observed: Iterable[Sequence[Observation]]) -> dict[str, frozenset[Outcome]]:
    """What was observed of each test, row by row of observations as `observing.observe` gives them."""
    found: dict[str, frozenset[Outcome]] = {}
    for row in observed:
        for test, observation in zip(tests, row, strict=True):
            if observation.outcome is not None:
                found[test.name] = found.get(test.name, frozenset()) | {observation.outcome}
    return found


# Telling

def _python(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def source(base: str, changes: Mapping[str, Any], about: str, name: str = "MINE") -> str:
    """The kernel as text for a file of a user's."""
    kernel = next(k for k in (*KERNELS, *FURTHER) if k.name == base)
    variable = variable_of(kernel)
    modules: dict[str, set[str]] = {"model.kernels": {variable}}
    for value in changes.values():
        if callable(value):
            modules.setdefault(value.__module__, set()).add(value.__name__)
    lines = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items())]
    said = "".join(f"\n    {decision}={_python(value)}," for decision, value in changes.items())
    return "\n".join([*lines, "", f'{name} = {variable}.but(\n    "{name.lower()}", "{about}",{said}\n)']) + "\n"


def to_text(identity: Identity, release: str, left: Sequence[Any]) -> str:
    """What was found, for people; `left`: what would tell the open decisions (telling.py)."""
    count = f"{len(identity.explained)} tests explained, {len(identity.unseen)} say nothing"
    if identity.conflict:
        count += f", {len(identity.unexplained)} not explained"
    lines = [f"{release}: nearest is {identity.base}, with {len(identity.changes)} decisions changed ({count})"]
    if identity.conflict:
        lines += [f"No record of decisions explains all of: {', '.join(identity.conflict)}",
                  f"Not explained by what follows: {', '.join(identity.unexplained)}"]
    lines += ["", source(identity.base, identity.changes, f"as identified: {release}").rstrip()]
    for other in identity.others:
        changed = ", ".join(f"{decision}={value_text(value)}" for decision, value in other.items())
        lines += ["", f"As well: {changed}"]
    said: dict[str, list[str]] = {}
    texts = [each.test for each in left if each.test.startswith("litmus ")]
    for each in left:
        test = each.test.split(maxsplit=2)[1] if each.test in texts else each.test
        how = f"{test} {'would' if each.surely else 'may'} tell" if test else ""
        said.setdefault(" (".join(filter(None, (how, each.why))) + ")" * bool(how and each.why), []).append(
            f"{each.decision} = {value_text(identity.record()[each.decision])} or {each.value}"
        )
    if left:
        lines += ["", "Not told apart by what was observed:"]
    for how, which in said.items():
        lines += [f"  {how}:", *(f"    {what}" for what in which)]
    return "\n".join([*lines, *(f"\n{text.rstrip()}" for text in texts)]) + "\n"


def to_json(identity: Identity, release: str, left: Sequence[Any]) -> dict[str, Any]:
    """The same as data; values by their names."""
    def named(changes: Mapping[str, Any]) -> dict[str, str]:
        return {decision: value_text(value) for decision, value in changes.items()}

    return {
        "release": release, "kernel": identity.base, "changes": named(identity.changes),
        "source": source(identity.base, identity.changes, f"as identified: {release}"),
        "others": [named(other) for other in identity.others],
        "open": [asdict(each) for each in left],
        "explained": identity.explained, "unseen": identity.unseen,
        "conflict": identity.conflict, "unexplained": identity.unexplained,
    }
