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
from proofs.hardware.schedule.points import PAGEOUT, PIN, Point, Sight


class Hand(Sight, Protocol):
    """What a control can do where a thread stands (steering.Awaited). `address`: what was accessed."""

    address: int

    def return_at_once(self) -> None: ...
    def go_to(self, function: str) -> None: ...
    def change_refcount(self, by: int) -> None: ...
    def note(self, name: str, value: int) -> None: ...
    def write(self, address: int, data: bytes) -> None: ...
    def number(self, address: int, length: int) -> int: ...


@dataclass(frozen=True)
class Effect:
    """What is done each time a thread comes to a point, which does not stop there."""

    point: Point
    act: Callable[[Hand], None]


@dataclass(frozen=True)
class Control:
    """A protection that is taken away. `effects`: an operation's word to what is done to the thread that does it;
    `fast` stands for every operation by GUP-fast."""

    name: str
    about: str
    effects: Mapping[str, tuple[Effect, ...]]


def _instead(caller: str, callee: str, other: str) -> Effect:
    point = Point(callee, f"{caller} calls {callee}", None, (callee,), lambda at: at.caller() == caller)
    return Effect(point, lambda hand: hand.go_to(other))


def _left_out(callers: tuple[str, ...], callee: str) -> Effect:
    point = Point(callee, f"{callers[0]} calls {callee}", None, (callee,), lambda at: at.caller() in callers)
    return Effect(point, lambda hand: hand.return_at_once())


def _put_back(hand: Hand) -> None:
    now = hand.number(hand.address, 4)
    if now & 1:
        hand.write(hand.address, struct.pack("<I", now - 1))


# GUP-fast reads write_protect_seq last of all in mm_struct before it turns interrupts off.
_SEQUENCE_READ = Effect(
    Point("sequence", "GUP-fast reads mm->write_protect_seq", READ, "mm", lambda at: at.registers.interrupts),
    lambda hand: hand.note("sequence", hand.address),
)
_CLEAR, _UNMAP = PAGEOUT[2], PAGEOUT[3]
CONTROLS = (
    Control(
        "fork-sequence", "mm->write_protect_seq is put back as soon as fork raises it: GUP-fast sees no fork",
        {"fast": (_SEQUENCE_READ,), "fork": (Effect(
            Point("raise", "fork raises mm->write_protect_seq", WRITTEN, "sequence"), _put_back
        ),)},
    ),
    Control(
        "unmap-pins", "the page's _refcount lacks a pin from the emptied PTE to the swap entry: try_to_unmap sees none",
        {"pageout": (
            Effect(Point("empty", _CLEAR.about, WRITTEN, "pte", lambda at: at.reached == "add" and at.pte == 0
                         and at.refcount > PIN), lambda hand: hand.change_refcount(-PIN)),
            Effect(Point("full", _UNMAP.about, WRITTEN, "pte", lambda at: at.hidden > 0 and at.pte != 0),
                   lambda hand: hand.change_refcount(PIN)),
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
