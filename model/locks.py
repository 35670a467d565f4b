"""The locks under which rules begin, where others are between two of their sub-steps (domain.md section 7).

A rule names its lock (`lock=` of its decorator): `read` or `write`, mmap_lock of its process p; `fault`, the same or
a per-VMA lock; `soft-dirty`, what the kernel takes for clear_refs; `rmap`, the page-table locks of what maps its frame.
CPUs, GUP-fast, unpinning and the other sub-steps of what has begun ask for none.
"""

from __future__ import annotations

from collections.abc import Mapping

from z3 import And, BoolVal, Not, Or

from model.decisions import Decisions
from model.logic import ModelError, Term, exists
from model.state import (
    Page,
    Proc,
    forking,
    maps_folio,
    mmap_read_held,
    mmap_write_held,
    pmd_splitting,
    pte_cleared,
    soft_dirty_flushing,
)

LOCKS = ("read", "write", "fault", "soft-dirty", "rmap")


def _table_locked(p: Term, v: Term) -> Term:
    """Somebody holds the page-table lock of (p, v)."""
    return Or(pte_cleared(p, v), pmd_splitting(p, v))


def asks(kernel: Decisions, lock: str, named: Mapping[str, Term]) -> list[Term]:
    """The conditions under which a rule with those parameters gets its lock. Raises ModelError for one there is not."""
    if not lock:
        return []
    if lock not in LOCKS:
        raise ModelError(f"no lock {lock!r}; there are {', '.join(LOCKS)}")
    needed = "f" if lock == "rmap" else "p"
    if needed not in named:
        raise ModelError(f"the lock {lock!r} is that of a parameter {needed!r}, which the rule has not")
    if lock == "rmap":
        f = named["f"]
        return [Not(exists(Proc, Page, lambda q, w: And(maps_folio(q, w, f), _table_locked(q, w))))]
    p = named["p"]
    if lock == "soft-dirty":
        lock = kernel.soft_dirty_lock
    clearing = {"read": BoolVal(False), "write": BoolVal(False), kernel.soft_dirty_lock: soft_dirty_flushing(p)}
    held = Or(mmap_write_held(p), clearing["write"])
    if lock == "write":
        held = Or(held, mmap_read_held(p), clearing["read"])
    elif lock == "fault" and not kernel.fork_excludes_faults:
        held = And(held, Not(forking(p)))
    table = _table_locked(p, named["v"]) if "v" in named else exists(Page, lambda v: _table_locked(p, v))
    return [Not(held), Not(table)]
