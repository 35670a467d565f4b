"""What a check against another kernel comes to: as text for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from invariants import Invariant
from proofs.check.cells import LEGEND, mark
from proofs.compare.against import ASIDE, ORDER, WORSE, Compared, advice
from proofs.compare.changed import ALIKE, ANSWERS, OPEN, OTHERWISE, UNREACHED, UNREAD, Change, Changes
from proofs.compare.diff import Difference
from proofs.words import wrapped

WIDTH = 80


@dataclass(frozen=True)
class KernelComparison:
    """One kernel against another. `changes`: None where they were not worked out. `telling`: a shortest test that tells
    them apart; `untold`: why there is none. `scope`: in words. `statements`: of the invariants, by name."""

    old: str
    new: str
    about: str
    rows: tuple[Compared, ...]
    changes: Changes | None
    telling: Difference | None
    untold: str
    scope: str
    invariants: tuple[Invariant, ...]

    def statement(self, name: str) -> str:
        """What the invariant of that name claims, in words."""
        return next(i.statement for i in self.invariants if i.name == name)

    def counts(self) -> str:
        """`1 worse, 2 better, 9 the same`; what is put aside is not counted."""
        numbers = [(sum(row.judged == each for row in self.rows), each) for each in ORDER if each != ASIDE]
        return ", ".join(f"{number} {each}" for number, each in numbers if number) or "nothing to compare"


def to_text(answer: KernelComparison) -> str:
    """The comparison in 80 columns: verdicts, what is worse, decisions, a test, and what to do next."""
    lines = [*wrapped(f"{answer.new} against {answer.old}: {answer.counts()}", WIDTH), "", *_table(answer), ""]
    cells = [c for row in answer.rows for c in (row.old, row.new) if c is not None]
    for verdict, meaning in LEGEND.items():
        if verdict in {c.verdict for c in cells}:
            lines += wrapped(meaning, WIDTH, then="     ")
    lines += wrapped(f"Scope: {answer.scope}.", WIDTH)
    for row in answer.rows:
        if row.judged == WORSE and row.new is not None:
            lines += ["", *wrapped(f"Worse: {row.invariant}: {answer.statement(row.invariant)}", WIDTH, then="  ")]
            if row.new.trace:
                lines += [f"  python -m proofs show {row.new.trace}"]
    beside = to_text_beside(answer)
    return "\n".join(lines) + (f"\n\n{beside}" if beside else "") + "\n"


def to_text_beside(answer: KernelComparison) -> str:
    """What the comparison says beside verdicts, in 80 columns: decisions, a test, and what to do next."""
    parts = (
        [] if answer.changes is None else told_changes(answer.changes, WIDTH), _told_test(answer), _told_advice(answer)
    )
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _table(answer: KernelComparison) -> Iterator[str]:
    """A row for each invariant, the worst first; marks as in a table of kernels."""
    rows = [(row.invariant, mark(row.old), mark(row.new), row.judged) for row in answer.rows]
    new = answer.new if len(answer.new) <= WIDTH // 3 else "new"
    heads = ("", answer.old if len(answer.old) <= WIDTH // 3 else "old", new, "")
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(4)]
    for row in (heads, tuple("-" * w for w in widths), *rows):
        yield "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()


def told_changes(changes: Changes, width: int) -> list[str]:
    """Each decision that differs and whether it ever matters, in lines of that width."""
    if not changes.changes:
        return ["No decision and no rule differs."]
    lines = wrapped(f"Changed decisions, each put alone into {changes.old}", width)
    unread = [change.decision.name for change in changes.changes if change.answer == UNREAD]
    if unread:
        heading = "These change no rule by themselves with these features: "
        lines += wrapped(heading + ", ".join(unread) + ".", width, "  ", "    ")
    for change in (c for c in changes.changes if c.answer != UNREAD):
        d = change.decision
        cite = f" ({d.cite})" if d.cite else ""
        lines += wrapped(f"{d.name}: {d.of_a} -> {d.of_b}{cite}", width, "  ", "    ")
        if change.how:
            lines += wrapped(f"{change.how}.".capitalize(), width, "    ")
        said = _answered(change)
        lines += wrapped(said[:1].upper() + said[1:] + (":" if change.because else "."), width, "    ")
        for clause in change.because:
            lines += wrapped(clause, width, "      ", "        ")
    if not changes.alike and len(changes.changes) > 1 and any(c.answer in (ALIKE, UNREACHED) for c in changes.changes):
        lines += wrapped("What does nothing alone may matter together with the others.", width, "  ")
    if changes.alike:
        lines += wrapped(
            f"Proved by z3, for any number of processes, pages, frames, references and slots: no step of {changes.new} "
            f"is another than one of {changes.old}, in any state that is reached. Nothing tells them apart.", width,
        )
    return lines


def _answered(change: Change) -> str:
    """What is known of a change, in a sentence without its full stop."""
    said = ANSWERS[change.answer]
    if change.answer == OTHERWISE:
        after = ", ".join(step.rule.name for step in change.path)
        return f"{said}: {f'after {after}' if after else 'at once'}, {change.rule} does something else"
    if change.answer == OPEN:
        return f"{said}; {change.note}" if change.note else said
    asked = f" where {', '.join(change.rules)} ask{'s' * (len(change.rules) == 1)} it"
    return f"{said}{asked if change.answer == ALIKE else ''}: proved for any number of elements" + (
        ", by what holds in every state that is reached" if change.because else ""
    )


def _told_test(answer: KernelComparison) -> list[str]:
    if answer.telling is None:
        return wrapped(answer.untold, WIDTH) if answer.untold else []
    one, other = answer.telling.answers
    return [
        "A shortest test that tells them apart", "",
        *(f"  {line}" for line in answer.telling.text.splitlines() if not line.startswith("about")), "",
        *wrapped(f"{answer.old}: {one}; {answer.new}: {other}", WIDTH, "  "),
    ]


def _told_advice(answer: KernelComparison) -> list[str]:
    """What to do where something is open, in a line for each cell of the new kernel; the same advice once."""
    by_advice: dict[str, list[str]] = {}
    for row in answer.rows:
        for kernel, cell in ((answer.new, row.new), (answer.old, row.old)):
            if cell is not None and (what := advice(cell)):
                by_advice.setdefault(what, []).append(f"{row.invariant} on {kernel} ({cell.verdict})")
    lines: list[str] = []
    for what, cells in by_advice.items():
        lines += wrapped(f"Next, for {', '.join(cells)}: {what}.", WIDTH, then="  ")
    return lines


def to_json(answer: KernelComparison) -> dict[str, Any]:
    """The comparison as `check --against --json` has it beside the results."""
    changes = answer.changes
    return {
        "old": answer.old, "new": answer.new,
        "cells": [
            {"invariant": row.invariant, "judged": row.judged, "old": row.old and row.old.verdict,
             "new": row.new and row.new.verdict, "next": advice(row.new) if row.new else ""}
            for row in answer.rows
        ],
        "changes": None if changes is None else [
            {"decision": c.decision.name, "values": [c.decision.of_a, c.decision.of_b], "cite": c.decision.cite,
             "answer": c.answer, "rules": list(c.rules), "because": list(c.because),
             "how": c.how, "path": [step.rule.name for step in c.path], "differs_at": c.rule, "note": c.note}
            for c in changes.changes
        ],
        "alike": None if changes is None else changes.alike,
        "test": None if answer.telling is None else {
            "litmus": answer.telling.text, "answers": list(answer.telling.answers)},
        "no_test": answer.untold,
    }
