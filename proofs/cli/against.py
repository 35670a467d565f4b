"""`check --against`: what is asked beside the table, and how it is told."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from model.logic import ModelError
from proofs.check.cells import Cell, CellKey, Table
from proofs.check.scopes import in_words
from proofs.cli.app import PROJECT, version
from proofs.compare import against as rows
from proofs.compare.answer import KernelComparison, to_text
from proofs.compare.changed import SECONDS, changes
from proofs.compare.diff import NOT_FOLLOWED, Difference, shortest
from proofs.compare.lockstep import Bounds
from proofs.compare.mail import to_mail
from proofs.naming.specs import features_of, find_kernel

TELL = 20.0
"""Seconds for the search of a test that tells two kernels apart, unless others are said."""


def check_asked(against: str | None, kernel: Sequence[str] | None, full: bool, mail: bool, as_json: bool) -> None:
    """Raises ModelError for options that do not go together."""
    if against is None:
        if mail:
            raise ModelError("--mail is for a comparison: say --against too")
        return
    if not kernel:
        raise ModelError("--against is for kernels of -k: say which, as -k mine.py:MINE")
    if full:
        raise ModelError("--against compares the kernels of -k: leave --full out")
    if mail and as_json:
        raise ModelError("--mail and --json are two forms: say one of them")


def check_kernels(specs: Sequence[str]) -> None:
    """Raises ModelError for kernels that cannot be compared, the old one first."""
    old, *others = specs
    if not others:
        raise ModelError(f"{old} is compared with itself")
    for new in others:
        if features_of(new)[1] != features_of(old)[1]:
            raise ModelError(f"{new} and {old} have other features: say --with or --split for both")


def answers(
    table: Table, found: Mapping[CellKey, Cell], tell: float, memory: int,
    progress: Callable[[str], Any] = lambda stage: None,
) -> list[KernelComparison]:
    """The first kernel of the table against each of the others.

    `tell`: seconds for a test that tells them apart; `memory`: bytes for an exploration.
    """
    told = []
    for plain in verdicts_alone(table, found, ""):
        changed = changes(
            plain.old, plain.new, table.scope, without=table.without, seconds=min(SECONDS, table.timeout or SECONDS),
            memory=memory, progress=progress,
        )
        telling: Difference | None = None
        untold = ""
        if not changed.alike:
            progress("looking for a test that tells them apart")
            telling, untold = _test(plain.old, plain.new, tell)
        told.append(replace(plain, changes=changed, telling=telling, untold=untold))
    return told


def verdicts_alone(table: Table, found: Mapping[CellKey, Cell], stopped: str) -> list[KernelComparison]:
    """As `answers`, of the verdicts alone. `stopped`: why there is no more."""
    (old, _), *others = table.kernels
    huge = "huge" in features_of(old)[1]
    return [
        KernelComparison(
            old, new, kernel.about, tuple(rows.compared(table, old, new, found)), None, None,
            f"Decisions and tests were not compared: {stopped}." if stopped else "", in_words(table.scope, huge),
            table.invariants,
        )
        for new, kernel in others
    ]


def print_answers(told: Sequence[KernelComparison], given: Sequence[str] | None) -> None:
    """As text, or with the arguments `given` on the command line as a mail."""
    for number, each in enumerate(told):
        if number:
            print()
        command = shlex.join(("python", "-m", "proofs", *(given or ())))
        print(to_text(each) if given is None else to_mail(each, command, f"{PROJECT} {version()}"), end="")


def exit_code(told: Sequence[KernelComparison]) -> int:
    """1 if something is worse, else 3 if that is not decided, else 0."""
    return rows.exit_code([row for each in told for row in each.rows])


def _test(old: str, new: str, tell: float) -> tuple[Difference | None, str]:
    """A shortest test that they end otherwise, or why there is none."""
    by_hand = f"python -m proofs diff {shlex.quote(old)} {shlex.quote(new)}"
    if set(features_of(old)[1]) & set(NOT_FOLLOWED):
        return None, f"No test was sought: none is with {', '.join(NOT_FOLLOWED)}."
    if not tell:
        return None, f"No test was sought that tells them apart; {by_hand} does."
    test, searched = shortest(old, new, (), Bounds(seconds=tell))
    if test is not None:
        return test, ""
    own = "; rules of one's own are left out" if find_kernel(old).own_rules or find_kernel(new).own_rules else ""
    length = "of any length" if searched.complete else f"of at most {searched.depth} operations"
    more = "" if searched.complete else f"; {by_hand} searches longer, as does --tell SECONDS"
    return None, f"No test {length} tells them apart{own}{more}."
