"""All decisions of a tree beside the kernel of the model that is nearest to it, and a kernel made of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from model.decisions import DECISIONS, value_text
from model.kernels import Kernel
from model.user_rules import arguments_of
from proofs.clock import done_by
from proofs.errors import Interrupted, OutOfTime
from proofs.naming.specs import variable_of
from proofs.source import collapse, entries, faults, granted, gup, migration, others, reclaim
from proofs.source.csource import Tree
from proofs.source.findings import ABSENCE, ALL, NOT_READ, PATTERN, READ, DecisionFinding, DecisionReader, Together
from proofs.source.patterns import PATTERNS, Pattern

ASKED: dict[str, DecisionReader | Together | Pattern] = {
    **{each.decision: each for each in (
        *faults.QUESTIONS, *entries.QUESTIONS, *gup.QUESTIONS, *others.QUESTIONS, *reclaim.QUESTIONS,
        *collapse.QUESTIONS, *migration.QUESTIONS)},
    **{each.decision: each for each in PATTERNS},
}
"""How each decision is read."""
EQUAL, DIFFERS = "equal", "differs"
SECONDS = 60.0
"""Time limit of reading one decision."""


@dataclass(frozen=True)
class DecisionRow:
    """One decision: what was found, the nearest kernel's value, and how the two compare."""

    finding: DecisionFinding
    value: Any
    status: str

    @property
    def decision(self) -> str:
        return self.finding.decision

    @property
    def reads(self) -> str:
        """What the tree decides, in a word or in words."""
        if self.status == EQUAL:
            return value_text(self.value)
        if self.finding.values:
            return value_text(self.finding.values[0])
        return self.finding.words or (self.finding.why if self.finding.decided else "")


@dataclass(frozen=True)
class Reading:
    """What was read of a tree: its folder, version, hash, commit if git knows it, the hash of each file, that of the
    configuration (Tree.configured); the nearest kernel, every decision, and what rules take for granted."""

    root: str
    version: str
    digest: str
    commit: str
    files: dict[str, str]
    configured: str
    nearest: Kernel
    rows: tuple[DecisionRow, ...]
    granted: tuple[DecisionRow, ...]

    @property
    def name(self) -> str:
        """What tells it from other trees, and from the same one otherwise configured, as part of files' names."""
        return "_".join(filter(None, (f"linux_{self.version}_{self.digest}", self.configured)))

    def differing(self) -> tuple[DecisionRow, ...]:
        return tuple(row for row in self.rows if row.status == DIFFERS)

    def replaced(self) -> tuple[DecisionRow, ...]:
        """Those that differ and can be said in the model."""
        return tuple(row for row in self.differing() if row.finding.values or row.finding.python)

    def lapses(self) -> tuple[tuple[DecisionRow, str], ...]:
        """What does not hold of what rules take for granted, and the name of the model's lapse that says so."""
        named = {question.decision: question.lapse for question in granted.GRANTED}
        return tuple((row, named[row.decision]) for row in self.granted
                     if row.status == DIFFERS and named[row.decision])

    def outside(self) -> tuple[DecisionRow, ...]:
        """What the kernel that was read does not say of the tree: not read, not to be said, or against all rules."""
        said = (*self.replaced(), *(row for row, _ in self.lapses()))
        return tuple(row for row in (*self.rows, *self.granted) if row.status != EQUAL and row not in said)

    def counts(self) -> dict[str, int]:
        """How many decisions are read path by path, found as patterns, found by absence, not read, and differ."""
        found = {how: sum(row.finding.how == how for row in self.rows) for how in (READ, PATTERN, ABSENCE, NOT_READ)}
        return {**found, DIFFERS: len(self.differing())}


def value_of(kernel: Kernel, decision: str) -> Any:
    """What a kernel decides; where it has no value of its own for sub-pages, that for pages."""
    value = getattr(kernel, decision)
    return kernel.reuse if decision == "reuse_large" and value is None else value


def survey(
    tree: Tree, progress: Callable[[str, int, int], Any] = lambda decision, done, of: None, seconds: float = SECONDS
) -> Reading:
    """Read every decision of a tree. What cannot be read, in so many `seconds` each, is a finding that says why;
    nothing is assumed for it. Raises Interrupted with a reading in which what was not come to is not read."""
    findings: list[DecisionFinding] = []
    facts: list[DecisionFinding] = []
    try:
        for n, decision in enumerate(DECISIONS):
            progress(decision, n, len(DECISIONS))
            findings.append(answer_of(ASKED[decision], tree, seconds) if decision in ASKED else DecisionFinding(
                decision, NOT_READ, why="no question and no pattern is known for it"))
        for question in granted.GRANTED:
            facts.append(answer_of(question, tree, seconds))
    except KeyboardInterrupt as error:
        # Not half a kernel: nothing is known of it before there is one decision.
        if not findings:
            raise
        names = [*DECISIONS][len(findings):], [question.decision for question in granted.GRANTED][len(facts):]
        left = ([DecisionFinding(name, NOT_READ, why="interrupted before") for name in some] for some in names)
        raise Interrupted(_reading(tree, *map(list.__add__, (findings, facts), left))) from error
    return _reading(tree, findings, facts)


def _reading(tree: Tree, findings: Sequence[DecisionFinding], facts: Sequence[DecisionFinding]) -> Reading:
    """The findings about the decisions, and about what rules take for granted, beside the nearest kernel."""
    near = nearest(tree.version, findings)
    rows = []
    for each in findings:
        value = value_of(near, each.decision)
        status = NOT_READ if not each.decided else EQUAL if each.has(value) else DIFFERS
        rows.append(DecisionRow(each, value, status))
    granted_rows = []
    for finding in facts:
        holds = finding.has(True) or None in finding.values
        status = NOT_READ if not finding.decided else EQUAL if holds else DIFFERS
        granted_rows.append(DecisionRow(finding, True, status))
    return Reading(
        str(tree.root), tree.version, tree.digest(), tree.commit, tree.hashes(), tree.configured(), near, tuple(rows),
        tuple(granted_rows))


def answer_of(question: DecisionReader | Together | Pattern, tree: Tree, seconds: float) -> DecisionFinding:
    try:
        with done_by(time.monotonic() + seconds):
            return question.ask(tree)
    except OutOfTime:
        why = f"out of time after {seconds:g} s, --time gives it more"
        return DecisionFinding(question.decision, NOT_READ, why=why)
    except RecursionError:
        return DecisionFinding(question.decision, NOT_READ, why="the source is nested too deep to be followed")


def nearest(version: str, findings: Sequence[DecisionFinding]) -> Kernel:
    """The kernel of the model that decides most of it alike; of several, that of the nearest version."""
    def distance(kernel: Kernel) -> tuple[int, int, float]:
        unlike = sum(f.decided and not f.has(value_of(kernel, f.decision)) for f in findings)
        own, tree = _number(kernel.name), _number(version)
        # An older kernel before a younger one, and a proposal, which has no version, last.
        apart = abs(tree - own) if own is not None and tree is not None else 1e6
        return unlike, int(own is None or tree is None or own > tree), apart
    return min(ALL, key=distance)


def _number(name: str) -> float | None:
    found = re.search(r"(\d+)\.(\d+)", name)
    return int(found[1]) * 1000 + int(found[2]) if found else None


def shown_configured(reading: Reading) -> str:
    """`, configured as HASH`; nothing for what Debian has."""
    return f", configured as {reading.configured}" if reading.configured else ""


def kernel_text(reading: Reading, about: str, name: str = "READ", left: Collection[str] = ()) -> str:
    """A Python file with the kernel that was read: the nearest one with the decisions that differ, but those `left`."""
    base = variable_of(reading.nearest)
    functions, given, cites = [], [], []
    for row in reading.replaced():
        if row.decision in left:
            continue
        finding, place = row.finding, "; ".join(row.finding.where)[:200]
        cites.append(f"        {row.decision!r}: {place!r},")
        value = finding.values[0] if finding.values else None
        if finding.values:
            shown = f"decisions.{value.__name__}" if callable(value) else repr(value)
            given.append(f"    {row.decision}={shown},")
        else:
            arguments = ", ".join(name for name, _ in arguments_of(row.decision))
            functions.append(
                f"def {row.decision}({arguments}):\n    \"\"\"{finding.words}.\n\n    {place}\n    \"\"\"\n"
                f"    return {finding.python}\n"
            )
            given.append(f"    {row.decision}={row.decision},")
    lapses = tuple(name for _, name in reading.lapses())
    if lapses:
        cites += [f"        {name!r}: {'; '.join(row.finding.where)[:200]!r}," for row, name in reading.lapses()]
        given.append(f"    lapses={lapses!r},")
    kept = ", ".join([*(row.decision for row in reading.outside()), *left]) or "nothing"
    unread = f"Not read, or not to be said, so as {reading.nearest.name} has it: {kept}."
    of = f"Linux {reading.version}{f', commit {reading.commit}' if reading.commit else ''}{shown_configured(reading)}"
    return "\n".join([
        f'"""{about}', "", f"{of}, files that are read: {reading.digest}.", unread, '"""', "",
        "from z3 import And, BoolVal, Not, Or", "", "from model import decisions", f"from model.kernels import {base}",
        "from model.decisions import page_mapcount_is_one", "from model.logic import exists",
        "from model.state import *", "", "", *([_STABLE, ""] if any("_needs_stable" in f for f in functions) else []),
        *(f"{text}\n" for text in functions),
        f"{name} = {base}.but(", f"    {name.lower()!r}, {about!r},", "    {", *cites, "    },", *given, ")", "",
    ])


_STABLE = '''def _needs_stable(f):
    """A device that needs stable pages writes the page."""
    return exists(Slot, lambda s: And(cached(s), slot_frame(s) == f, needs_stable_page(s)))

'''
