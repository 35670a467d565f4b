"""A kernel's verdicts against those of another one: what is worse, better, the same, and what to do where it is open.

WORSE       the old kernel keeps a promise that the new one breaks
BETTER      it breaks one that the new one keeps
SAME        both keep it, or both break it. How long the counterexamples are is no difference, nor whether it is kept in
            every state of the scope (EXHAUSTED) or proved beyond it
UNDECIDED   it may be worse: one is not known (UNKNOWN, BOUNDED), and neither is the old one known to break it nor the
            new one to keep it
ASIDE       one is not known, but it cannot be worse; or one of the kernels is not asked
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.check.cells import Cell, CellKey, Table
from proofs.errors import INCONCLUSIVE, OK, VIOLATION

WORSE, BETTER, SAME, UNDECIDED, ASIDE = "worse", "better", "the same", "undecided", "aside"
ORDER = (WORSE, UNDECIDED, BETTER, SAME, ASIDE)
"""As they are told."""
_HOLDS = ("PROVED", "EXHAUSTED")


@dataclass(frozen=True)
class Compared:
    """One invariant on both kernels; None where it is not asked of one. `judged`: of ORDER."""

    invariant: str
    old: Cell | None
    new: Cell | None
    judged: str


def judged(old: Cell | None, new: Cell | None) -> str:
    """What became of one promise, of ORDER."""
    if old is None or new is None:
        return ASIDE
    kept, broken = ([cell.verdict in verdicts for cell in (old, new)] for verdicts in (_HOLDS, ("VIOLATED",)))
    if kept[0] and broken[1]:
        return WORSE
    if broken[0] and kept[1]:
        return BETTER
    if all(kept) or all(broken):
        return SAME
    return ASIDE if broken[0] or kept[1] else UNDECIDED


def compared(table: Table, old: str, new: str, found: Mapping[CellKey, Cell]) -> list[Compared]:
    """The rows of two kernels of the table, invariant by invariant, what is worse first."""
    rows = []
    for each in table.invariants:
        one, other = (found.get((table.name, table.spec(spec, each), each.name)) for spec in (old, new))
        if one is not None or other is not None:
            rows.append(Compared(each.name, one, other, judged(one, other)))
    return sorted(rows, key=lambda row: ORDER.index(row.judged))


def exit_code(rows: Sequence[Compared]) -> int:
    """1 if something is worse, else 3 if something that could be worse is not decided, else 0."""
    found = {row.judged for row in rows}
    return VIOLATION if WORSE in found else INCONCLUSIVE if UNDECIDED in found else OK


def advice(cell: Cell) -> str:
    """What to do next where a cell is not decided for any number of elements; empty where it is."""
    if cell.verdict == "UNKNOWN":
        if "memory" in cell.note:
            return "more --memory, or a smaller --scope; what was explored is kept"
        if "time" in cell.note:
            return "a longer --timeout; it goes on from where it was"
        return "the same command again; what is done is kept"
    if cell.verdict == "BOUNDED":
        return "a larger --depth, or --engine all, which explores and proves"
    if cell.verdict != "EXHAUSTED":
        return ""
    if "no proof" not in cell.note:
        return "--engine all seeks a proof for any number of elements"
    _, found, cti = cell.note.partition(", see ")
    if found:
        return f"see whether {cti} begins in a reachable state; if not, say why in a lemma (docs/proofs.md)"
    if "no proof after" in cell.note:
        return "a longer --proof-time, a lemma (docs/proofs.md), or a larger --scope"
    return "a lemma (docs/proofs.md), or a larger --scope"
