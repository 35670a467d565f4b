"""Protections that a debugger takes away, so that what they exclude must appear: does a schedule see anything at all?

Each is named by symbols and conditions, not by offsets of one build. What is read of structures is the same in
5.10.262, 6.1.192, 6.12.118 and 7.2.13 on x86-64.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from model.logic import ModelError
from proofs.hardware.schedule.gdbstub import READ, WRITTEN
from proofs.hardware.schedule.points import FORK, PAGEOUT, PIN, TRYLOCK, Point, Sight


class Hand(Sight, Protocol):
    """What a control can do where a thread stands (steering.Awaited). `mm`, `pte_address`: of its mm_struct and
    of the page's PTE; `notes` are kept until the run is over."""

    notes: dict[str, bytes]

    @property
    def mm(self) -> int: ...
    @property
    def pte_address(self) -> int: ...
    def return_at_once(self) -> None: ...
    def go_to(self, function: str) -> None: ...
    def change_refcount(self, by: int) -> None: ...
    def unlock(self) -> None: ...
    def read(self, address: int, length: int) -> bytes: ...
    def write(self, address: int, data: bytes) -> None: ...


MM_BYTES = 0x200
"""The part of mm_struct in which write_protect_seq is."""
_MOST_VMAS = 64
SWAP_EXCLUSIVE = 1 << 3
"""_PAGE_SWP_EXCLUSIVE of x86 (arch/x86/include/asm/pgtable_64_types.h), from 5.19 on."""


@dataclass(frozen=True)
class Effect:
    """What is done each time a thread comes to a point, which does not stop there."""

    point: Point
    act: Callable[[Hand], None]


@dataclass(frozen=True)
class Control:
    """A protection that is taken away. `effects`: an operation's word to what is done to the thread that does it."""

    name: str
    about: str
    effects: Mapping[str, tuple[Effect, ...]]


def _instead(caller: str, callee: str, other: str) -> Effect:
    point = Point(callee, f"{caller} calls {callee}", None, (callee,), lambda at: at.caller() == caller)
    return Effect(point, lambda hand: hand.go_to(other))


def _left_out(callers: tuple[str, ...], callee: str) -> Effect:
    point = Point(callee, f"{callers[0]} calls {callee}", None, (callee,), lambda at: at.caller() in callers)
    return Effect(point, lambda hand: hand.return_at_once())


LOSES_LOCK = Effect(TRYLOCK, lambda hand: hand.unlock())
"""Who holds the page lock lets it go as soon as somebody has tried it in vain: no control, but what a test says."""


def _begin(hand: Hand) -> None:
    if "at" in hand.notes:
        _put_back(hand)
    hand.notes.setdefault("mm", hand.read(hand.mm, MM_BYTES))


def _put_back(hand: Hand) -> None:
    """write_protect_seq is what it was when fork began: two more for each VMA that was copied, odd amid one."""
    before = hand.notes["mm"]
    if "at" not in hand.notes:
        now = hand.read(hand.mm, MM_BYTES)
        words = ((at, *(int.from_bytes(text[at:at + 4], "little") for text in (before, now)))
                 for at in range(0, MM_BYTES, 4))
        found = [at for at, old, new in words if not old & 1 and new & 1 and 0 < new - old < 2 * _MOST_VMAS]
        if len(found) != 1:
            return
        hand.notes["at"] = struct.pack("<I", found[0])
    at = int.from_bytes(hand.notes["at"], "little")
    hand.write(hand.mm + at, before[at:at + 4])


_SEQUENCE = (
    Effect(Point("begin", "fork begins to copy a VMA's page tables", None, ("copy_page_range",)), _begin),
    Effect(Point("look", FORK[0].about, READ, "refcount"), _put_back),
    Effect(Point("share", FORK[1].about, WRITTEN, "pte"), _put_back),
    Effect(Point("end", FORK[2].about, None, ("flush_tlb_mm_range",)), _put_back),
)
def _share(hand: Hand) -> None:
    hand.change_refcount(PIN)
    hand.write(hand.pte_address, struct.pack("<Q", hand.pte & ~SWAP_EXCLUSIVE))


_CLEAR, _UNMAP = PAGEOUT[2], PAGEOUT[3]
CONTROLS = (
    Control(
        "fork-sequence", "mm->write_protect_seq is put back as soon as fork raises it: GUP-fast sees no fork",
        {"fork": _SEQUENCE},
    ),
    Control(
        "unmap-pins", "the page's _refcount lacks a pin from the emptied PTE to the swap entry: try_to_unmap sees "
        "none; and the entry loses its exclusive bit, which would do by itself",
        {"pageout": (
            Effect(Point("empty", _CLEAR.about, WRITTEN, "pte", lambda at: at.reached == "add" and at.pte == 0
                         and at.refcount > PIN), lambda hand: hand.change_refcount(-PIN)),
            Effect(Point("full", _UNMAP.about, WRITTEN, "pte", lambda at: at.hidden > 0 and at.pte != 0), _share),
        )},
    ),
    Control(
        "soft-dirty-lock", "clear_refs_write takes mmap_lock for reading: faults run beside it",
        {"clear-soft-dirty": (
            _instead("clear_refs_write", "down_write_killable", "down_read_killable"),
            _instead("clear_refs_write", "up_write", "up_read"),
        )},
    ),
    Control(
        "fault-flush", "do_wp_page does not flush a pending change of a page that userfaultfd watches",
        dict.fromkeys(("get", "pin", "write"), (_left_out(("do_wp_page", "flush_tlb_page"), "flush_tlb_mm_range"),)),
    ),
)  # fmt: skip


def named(name: str) -> Control:
    """The control of that name. Raises ModelError."""
    for control in CONTROLS:
        if control.name == name:
            return control
    raise ModelError(f"{name} is no protection that can be taken away: {', '.join(c.name for c in CONTROLS)}")
