"""Which access or call of a kernel is which sub-step of the model: where a thread stands after it.

The points are accesses to the page's PTE, its reference count and its contents, and calls of few functions, so that
they lie on the sub-steps in inlined code as well, whatever the compiler made. Read in 5.10.262, 6.1.192, 6.12.118 and
7.2.13: gup_pte_range, copy_present_pte, madvise_cold_or_pageout_pte_range, try_to_unmap_one, do_wp_page,
remove_migration_ptes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proofs.hardware.schedule.gdbstub import READ, WRITTEN, Registers
from proofs.litmus.language import Statement

DONE = "done"
"""The point at which a thread's operation is over."""
PRESENT, WRITABLE, YOUNG = 1, 2, 1 << 5
LOCKED = 1
"""PG_locked, the first of a page's flags (include/linux/page-flags.h)."""
PIN = 1024
"""What a FOLL_PIN adds to the reference count (GUP_PIN_COUNTING_BIAS)."""
_ALLOCATES = (
    "__alloc_frozen_pages_noprof", "__alloc_pages_noprof", "__alloc_pages", "__alloc_pages_nodemask",
)
"""The page allocator, newest name first."""


class Sight(Protocol):
    """What is known where a thread has just stopped: its registers, the point that it has `reached` before, and the
    page's state; `refcount_before` as it began to run, `hidden`: how much a control has taken off it since;
    `flags_kept`: those of the page are what they were when the debugger took its lock."""

    registers: Registers
    refcount_before: int

    @property
    def hidden(self) -> int: ...
    @property
    def reached(self) -> str: ...
    @property
    def pte(self) -> int: ...
    @property
    def refcount(self) -> int: ...
    @property
    def refcount_was_read(self) -> bool: ...
    @property
    def page(self) -> int: ...
    @property
    def flags_kept(self) -> bool: ...

    def function(self) -> str:
        """The function in which the thread stands."""
        ...

    def caller(self) -> str:
        """The function that has just called the one at whose first instruction the thread stands."""
        ...


@dataclass(frozen=True)
class Point:
    """Where a thread is to stand. `of`: "pte", "refcount", "flags" or "contents", with `access` READ or WRITTEN; or,
    without an access, the names of a function that is called, the first that the kernel has. `when`: not at every such
    place."""

    name: str
    about: str
    access: int | None
    of: str | tuple[str, ...]
    when: Callable[[Sight], bool] = lambda at: True


FAST = (
    Point("read", "GUP-fast has read the PTE", READ, "pte", lambda at: not at.registers.interrupts),
    Point("grab", "it has taken the reference", WRITTEN, "refcount",
          lambda at: not at.registers.interrupts and at.refcount > at.refcount_before),
    Point("check", "it has read the PTE again", READ, "pte",
          lambda at: not at.registers.interrupts and at.reached == "grab"),
)  # fmt: skip
_PINNING = Point("grab", FAST[1].about, WRITTEN, "refcount",
                 lambda at: not at.registers.interrupts and at.refcount - at.refcount_before >= PIN)
FORK = (
    Point("test", "fork has looked whether the page may be pinned", READ, "refcount", lambda at: at.refcount_was_read),
    Point("copy", "it has write-protected the parent's PTE", WRITTEN, "pte",
          lambda at: at.pte & (PRESENT | WRITABLE) == PRESENT),
    Point("flush", "it is to flush TLBs", None, ("flush_tlb_mm_range",)),
)  # fmt: skip
PAGEOUT = (
    Point("age", "MADV_PAGEOUT has cleared the accessed bit", WRITTEN, "pte",
          lambda at: at.pte & (PRESENT | YOUNG) == PRESENT),
    Point("add", "the page is in the swap cache", None, ("try_to_unmap",),
          lambda at: at.registers["rdi"] == at.page),
    Point("clear", "the PTE is empty", WRITTEN, "pte", lambda at: at.reached == "add" and at.pte == 0),
    Point("unmap", "the swap entry is in its place", WRITTEN, "pte", lambda at: at.pte != 0 and not at.pte & PRESENT),
)  # fmt: skip
FAULT = (
    Point("decide", "a write fault is to copy, and allocates", None, _ALLOCATES, lambda at: at.registers.interrupts),
    Point("copy", "it has read the page's first bytes", READ, "contents", lambda at: not at.registers.user),
)
TRYLOCK = Point("trylock", "a write fault has tried the page lock, which another one holds", WRITTEN, "flags",
                lambda at: at.flags_kept and at.function() in ("do_wp_page", "wp_can_reuse_anon_folio"))
"""In a test whose next attempt at a page lock fails: it writes the flags as they were. PG_lru and PG_anon_exclusive are
written in the same fault."""
GUP = (
    *FAULT,
    Point("again", "the fault is over, get_user_pages looks at the PTE again", None, ("follow_page_pte",),
          lambda at: at.reached in ("decide", "copy")),
)  # fmt: skip
PROTECT = (
    Point("change", "PTEs are changed, TLBs not yet flushed", None, ("flush_tlb_mm_range",)),
)
MIGRATE = (
    Point("unmap", "migration entries are in the place of PTEs, which are about to come back", None,
          ("rmap_walk",), lambda at: at.pte != 0 and not at.pte & PRESENT),
)
NUMA = (
    Point("scan", "balancing is on, the scan begins", None, ("change_protection",)),
    Point("hint", "the PTE is protnone", WRITTEN, "pte", lambda at: at.pte != 0 and not at.pte & PRESENT),
)  # fmt: skip
NO_RETURN = {"exit": "do_task_dead"}
"""Operations that do not return to the program: where they are over."""
_SLOW = frozenset({"force-write", "get", "pin", "process_vm_writev", "populate"})
_CHANGES = frozenset({"uffd-wp", "uffd-unwp", "clear-soft-dirty", "mprotect", "dontneed"})


def points_of(statement: Statement) -> tuple[Point, ...]:
    """The points of an operation in the order in which it comes to them; it need not come to each."""
    operation = statement.operation
    if operation.quick:
        return (FAST[0], _PINNING, FAST[2]) if operation.word == "pin" else FAST
    if operation.word == "fork":
        return FORK
    if operation.word == "pageout":
        return PAGEOUT
    if operation.word == "migrate":
        return MIGRATE
    if operation.word == "numa":
        return NUMA
    if operation.word == "write":
        return FAULT
    if operation.word in _SLOW:
        return GUP
    return PROTECT if operation.word in _CHANGES else ()


def point_after(statement: Statement, rule: str, last: bool) -> str:
    """The point at which a thread stands after a step of the model, by the rule's name (`fork.copy`). `last`: its
    operation takes no other step after that one. Empty where no point tells."""
    stage, known = rule.rpartition(".")[2], {point.name for point in points_of(statement)}
    if stage == "copy" and statement.operation.word == "fork":
        return "flush"
    if stage in known:
        return stage
    return DONE if last else "again" * ("again" in known)
