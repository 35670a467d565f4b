"""Threads of a test, each on a processor of its own, run one at a time up to a point while all others stand.

A processor that stands takes no interrupt, so whoever flushes TLBs would wait for it: where a thread takes interrupts
it is parked in a loop of `pause` instead, and taken back later. Where it does not (GUP-fast), the wait is what the
kernel excludes by.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from proofs.hardware.schedule.controls import Effect
from proofs.hardware.schedule.gdbstub import BREAKPOINT, READ, WRITTEN, Gone, Registers, Stop
from proofs.hardware.schedule.machine import (
    DIRECT_MAP,
    PAGE_STRUCT_BYTES,
    PAGE_STRUCTS,
    REFCOUNT,
    REST,
    TABLES_MM,
    SteeredMachine,
)
from proofs.hardware.schedule.points import DONE, LOCKED, PRESENT, Point

_STACK = 0x4000  # bytes of a kernel stack, and what it is aligned to
_SPIN = bytes.fromhex("f390ebfc")  # pause; jmp back to it
_NEVER_CALLED = ("kernel_halt",)  # of which four bytes become that loop: only reboot(2) with "halt" calls it
_SCANS, _RETURN = "task_numa_work", b"\xc3"  # balancing is on for the test's own scan: there is no other
_FRAME = 0x000FFFFFFFFFF000  # the frame's address in an entry of a page table
_SAMPLE, _SAMPLES = 0.15, 5  # seconds between looks at a thread that does not arrive; how many say that it waits
_LONGEST = 45.0  # seconds in which a thread arrives, or waits
_WAITS = re.compile(
    r"rwsem_down|down_(read|write)|__?mutex_lock|osq_lock|smp_call_function|on_each_cpu|queued_spin|_raw_spin_lock"
    r"|folio_wait|wait_on_page|__lock_page|__folio_lock|io_schedule|handle_userfault|synchronize_|wait_for_completion"
)
"""Functions in which a thread waits for another one."""
_CALL = 0xE8  # of x86, before the distance to what is called
_KINDS = {BREAKPOINT: "break", WRITTEN: "watch", READ: "rwatch"}
_PLUMBING = re.compile(r"schedule|__schedule|preempt_|_cond_resched|asm_|sysvec_|irqentry|ret_from")


@dataclass
class Racer:
    """A thread of the test. `cpu`: its processor; `stack`: of the kernel's, None until it is known; `parked`: where it
    is taken back to, and the loop in which it is; `pte`, `frame`: addresses of the page's PTE and struct page, 0
    without. `ahead`: points that it may come to; it has `reached` the last one, and stands `where`, or `waits` in that.
    `mm`: address of its mm_struct; `effects`: of a control, which has `hidden` so much of the page's reference count;
    `ends_in`: the function in which its operation is over, if it does not return; `passed`: where it was; `locked`: the
    page's flags while the debugger holds its lock, until the thread has `tried_in` that function to take it.
    """

    number: int
    cpu: int
    thread_pointer: int
    page: int = 0
    pte: int = 0
    frame: int = 0
    stack: int | None = None
    parked: tuple[int, int] | None = None
    reached: str = ""
    over: bool = False
    ahead: tuple[Point, ...] = ()
    where: str = ""
    waits: str = ""
    mm: int = 0
    effects: tuple[Effect, ...] = ()
    hidden: int = 0
    ends_in: str = ""
    passed: set[str] = field(default_factory=set)
    locked: int = 0
    tried_in: str = ""


@dataclass(frozen=True)
class Place:
    """What is inserted for a point; without one for the end of an operation, or the wait for userfaultfd's monitor
    (`waits`). `effect`: what a control does there."""

    kind: int
    address: int
    length: int
    point: Point | None = None
    waits: str = ""
    effect: Effect | None = None

    def met(self, stop: Stop, rip: int) -> bool:
        """This is what the machine stopped for."""
        at = rip if stop.kind == "break" else stop.address
        return _KINDS[self.kind] == stop.kind and self.address <= at < self.address + self.length


class Awaited:
    """A thread that is to come to one of the points ahead of it: what their conditions are asked of (points.Sight)."""

    def __init__(self, steering: Steering, racer: Racer) -> None:
        self.steering, self.racer = steering, racer
        self.places = list(steering._places(racer))
        self.registers, self.notes = steering.stub.registers(racer.cpu), steering.notes
        self.refcount_before = self.last_refcount = steering.refcount(racer) if racer.frame else 0

    @property
    def hidden(self) -> int:
        return self.racer.hidden

    def function(self) -> str:
        return self.steering.kernel.function_at(self.registers["rip"])

    def caller(self) -> str:
        return self.steering.kernel.function_at(self.steering.stub.number(self.registers["rsp"]))

    # What controls do (controls.Hand)

    def return_at_once(self) -> None:
        """The function that was just called does nothing."""
        stack = self.registers["rsp"]
        self.steering.stub.set_register(self.racer.cpu, "rip", self.steering.stub.number(stack))
        self.steering.stub.set_register(self.racer.cpu, "rsp", stack + 8)

    def go_to(self, function: str) -> None:
        """Another function was called instead."""
        self.steering.stub.set_register(self.racer.cpu, "rip", self.steering.kernel.first(function))

    def change_refcount(self, by: int) -> None:
        """The page has so many references more."""
        self.racer.hidden -= by
        self.write(self.racer.frame + REFCOUNT, struct.pack("<I", self.refcount + by))

    def unlock(self) -> None:
        """Who holds the page lock lets it go. The thread has tried it, where it stands."""
        self.steering.let_go(self.racer)
        self.racer.tried_in = self.function()

    @property
    def mm(self) -> int:
        return self.racer.mm

    @property
    def pte_address(self) -> int:
        return self.racer.pte

    def read(self, address: int, length: int) -> bytes:
        return self.steering.stub.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        self.steering.stub.write(address, data)

    def arrives(self, stop: Stop, registers: Registers) -> bool:
        """It stands at a point, which it has reached."""
        if not self.steering.mine(self.racer, registers):
            return False
        self.registers = registers
        for place in self.places:
            if not place.met(stop, registers["rip"]) or (place.point and not place.point.when(self)):
                continue
            if place.effect:
                place.effect.act(self)
                continue
            self.racer.waits = place.waits
            if not place.waits:
                self.racer.reached = place.point.name if place.point else DONE
                self.racer.over = place.point is None
                self.racer.passed.add(self.racer.reached)
            return True
        if self.racer.frame:
            self.last_refcount = self.refcount
        return False

    @property
    def reached(self) -> str:
        return self.racer.reached

    @property
    def page(self) -> int:
        return self.racer.frame

    @property
    def pte(self) -> int:
        return self.steering.stub.number(self.racer.pte)

    @property
    def refcount(self) -> int:
        return self.steering.refcount(self.racer)

    @property
    def refcount_was_read(self) -> bool:
        return self.refcount == self.last_refcount

    @property
    def flags_kept(self) -> bool:
        return self.steering.stub.number(self.racer.frame) == self.racer.locked


@dataclass
class Went:
    """How far a thread came: to `point` (empty: it waits), when it was to go to `wanted`; `where` it stands, or waits.
    """

    racer: int
    wanted: str
    point: str
    where: str = ""


@dataclass
class Steering:
    """One round of a test, from the program's asking for a test to its asking for the next one."""

    machine: SteeredMachine
    racers: dict[int, Racer] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
    _spin: int = 0

    def __post_init__(self) -> None:
        self.stub, self.kernel, self.marks = self.machine.stub, self.machine.kernel, self.machine.marks
        self._spin = self.kernel.first(*_NEVER_CALLED)
        self._syscall = self.kernel.first("do_syscall_64")

    # Beginning and end

    def begin(self, test: int, count: int, loads: frozenset[int], seconds: float) -> bool:
        """Let the test of that number run until its threads, `count` of them, stand before their operations. `loads`:
        threads whose processors have the page's PTE in their TLBs. False if the test ends before."""
        stub = self.stub
        stub.write(self._spin, _SPIN)
        stub.write(self.kernel.first(_SCANS), _RETURN)
        registers = stub.registers(REST)
        stub.write(registers["rdi"], struct.pack("<q", test))
        self.stub.step(REST)
        end = time.monotonic() + seconds
        while len(self.racers) < count:
            cpu, mark = self.machine.run_to_marks(("at_next", "at_ready"), max(1.0, end - time.monotonic()))
            if mark == "at_next":
                return False
            registers = stub.registers(cpu)
            number = registers["rdi"] + 1
            racer = self.racers[number] = Racer(number, cpu, registers["fs_base"])
            if number in loads:
                stub.write(registers["rsi"], b"\1")
            self.park(racer)
        for racer in self.racers.values():
            self._to_start(racer)
        return True

    def _to_start(self, racer: Racer) -> None:
        self.unpark(racer)
        racer.stack = (self._run_to_address(racer, self._syscall)["rsp"] - 1) & -_STACK
        registers = self._run_to_address(racer, self.marks["at_go"])
        racer.page = registers["rsi"]
        tables = PAGE_STRUCTS + (registers["cr3"] & _FRAME) // 4096 * PAGE_STRUCT_BYTES
        racer.mm = self.stub.number(tables + TABLES_MM)
        racer.pte = self._pte_address(registers["cr3"], racer.page)
        if racer.pte and (entry := self.stub.number(racer.pte)) & PRESENT:
            racer.frame = PAGE_STRUCTS + (entry & _FRAME) // 4096 * PAGE_STRUCT_BYTES
        self.park(racer)

    def finish(self, seconds: float) -> list[str]:
        """Let everything run until the program asks for the next test; what it has printed."""
        for racer in self.racers.values():
            self.unpark(racer)
        cpu, _ = self.machine.run_to_marks(("at_next",), seconds)
        assert cpu == REST
        return self.machine.lines()

    def lock(self, racer: Racer) -> None:
        """Hold the page's lock, as another one would."""
        self._change_flags(racer, LOCKED)

    def let_go(self, racer: Racer) -> None:
        """Let the page's lock go, if it is held."""
        if racer.locked:
            self._change_flags(racer, 0)

    def _change_flags(self, racer: Racer, lock: int) -> None:
        flags = self.stub.number(racer.frame) & ~LOCKED
        self.stub.write(racer.frame, struct.pack("<Q", flags | lock))
        racer.locked = (flags | lock) * lock

    # What is known of a thread

    def refcount(self, racer: Racer) -> int:
        """The reference count of the page that its PTE mapped at the beginning."""
        return self.stub.number(racer.frame + REFCOUNT, 4)

    def _pte_address(self, cr3: int, address: int) -> int:
        """Where in the direct map the PTE of that address is (the PMD, if that is a leaf); 0 without a page table."""
        table = cr3 & _FRAME
        for shift in (39, 30, 21, 12):
            at = DIRECT_MAP + table + (address >> shift & 511) * 8
            if shift == 12:
                return at
            entry = self.stub.number(at)
            if not entry & PRESENT:
                return 0
            if entry & 0x80:
                return at
            table = entry & _FRAME
        return 0

    def mine(self, racer: Racer, registers: Registers) -> bool:
        """Its processor runs the thread: its user space, or on its kernel stack."""
        if registers.user:
            return registers["fs_base"] == racer.thread_pointer
        return racer.stack is not None and registers["rsp"] & -_STACK == racer.stack

    def stack_of(self, racer: Racer, registers: Registers) -> list[tuple[int, str]]:
        """What looks like return addresses on a thread's kernel stack, and in which functions, the innermost first. Of
        one that sleeps, from where it called the scheduler."""
        if racer.stack is None or (registers.user and self.mine(racer, registers)):
            return []
        awake = self.mine(racer, registers)
        start = registers["rsp"] if awake else racer.stack
        raw = self.stub.read(start, racer.stack + _STACK - start)
        words = struct.unpack(f"<{len(raw) // 8}Q", raw[:len(raw) // 8 * 8])
        found = list(self.kernel.returns(words))
        if awake:
            return [(registers["rip"], self.kernel.name_at(registers["rip"])), *found]
        slept = next((n for n, (_, name) in enumerate(found) if name in ("schedule", "__schedule")), 0)
        return found[slept:]

    def _interrupted(self, racer: Racer, registers: Registers) -> bool:
        """Its processor is in an interrupt that came amid the thread: the stack of interrupts, four pages, has the
        thread's stack pointer at its top (call_on_irqstack)."""
        if racer.stack is None or registers.user or self.mine(racer, registers):
            return False
        first = registers["rsp"] & -4096
        for end in range(first + 4096, first + _STACK + 4096, 4096):
            try:
                if self.stub.number(end - 8) & -_STACK == racer.stack:
                    return True
            except Gone:  # beyond its end
                return False
        return False

    def _waits_in(self, racer: Racer, registers: Registers) -> str:
        """The function in which it waits for another thread; empty if it does not seem to."""
        if self._interrupted(racer, registers):
            return ""
        names = [name for _, name in self.stack_of(racer, registers)]
        if any("nanosleep" in name for name in names):  # for a time of its own
            return ""
        if self.mine(racer, registers) and (registers.user or not any(map(_WAITS.search, names[:3]))):
            return ""
        names = [name for name in names if not _PLUMBING.search(name)]
        return next(filter(_WAITS.search, names), names[0] if names else "a place that is not known")

    def _on_behalf_of(self, racer: Racer, function: str) -> str:
        """Who called a function on its stack, and is none itself in which one waits: each word is followed that returns
        from a call of the one before. Empty if that leads nowhere."""
        try:
            stack = self.stack_of(racer, self.stub.registers(racer.cpu))
            at = next((n for n, (_, name) in enumerate(stack) if name == function), len(stack))
            for word, name in stack[at + 1:]:
                call = self.stub.read(word - 5, 5)
                target = word + struct.unpack("<xi", call)[0] & (1 << 64) - 1
                if call[0] == _CALL and self.kernel.name_at(target) == function:
                    if not _WAITS.search(name):
                        return name
                    function = name
        except Gone:  # what looked like a return address was none
            pass
        return ""

    # Running one of them

    def run_to(self, racer: Racer, points: Sequence[Point]) -> Went:
        """Let the thread run until it is at the first of these points, or a later one, or its operation is over.
        Threads that wait for others go on by themselves once they can, to their own next points."""
        wanted = points[0].name if points else DONE
        if not racer.over:
            self.unpark(racer)
            racer.ahead, racer.waits = tuple(points), ""
            self._run(racer)
        return Went(racer.number, wanted, "" if racer.waits else racer.reached, racer.waits or racer.where)

    def _places(self, racer: Racer) -> Iterator[Place]:
        """What is inserted for the points ahead of a thread, and the end of its operation."""
        contents = DIRECT_MAP + (racer.frame - PAGE_STRUCTS) // PAGE_STRUCT_BYTES * 4096
        where = {
            "pte": (racer.pte, 8), "refcount": (racer.frame and racer.frame + REFCOUNT, 4),
            "contents": (racer.frame and contents, 1), "flags": (racer.frame, 8),
        }
        effects = [(effect.point, effect) for effect in racer.effects]
        for point, effect in [*effects, *((point, None) for point in racer.ahead)]:
            if point.access is None:
                yield Place(BREAKPOINT, self.kernel.first(*point.of), 1, point, effect=effect)
            elif isinstance(point.of, str) and where[point.of][0]:
                yield Place(point.access, *where[point.of], point, effect=effect)
        yield Place(BREAKPOINT, self.marks["at_wait"], 1, waits="userfaultfd, for its monitor")
        yield Place(BREAKPOINT, self.kernel.first(racer.ends_in) if racer.ends_in else self.marks["at_done"], 1)

    def _run(self, target: Racer) -> None:
        """Let it run until it is at a point, or seems to wait."""
        stub, samples, end = self.stub, 0, time.monotonic() + _LONGEST
        awaited = {r.cpu: Awaited(self, r) for r in self.racers.values() if r is target or (r.waits and not r.parked)}
        places = [place for each in awaited.values() for place in each.places]
        inserted = list(dict.fromkeys((place.kind, place.address, place.length) for place in places))
        codes = {address for kind, address, _ in inserted if kind == BREAKPOINT}
        for each in awaited.values():
            if each.registers["rip"] in codes:
                stub.step(each.racer.cpu)
        self._insert(inserted)
        try:
            while samples < _SAMPLES and time.monotonic() < end:
                stub.resume({*self._running(target), *awaited})
                stop = stub.wait(_SAMPLE) or stub.interrupt()
                registers = stub.registers(stop.cpu)
                at_code = stop.kind == "break" and registers["rip"] in codes
                who = awaited.get(stop.cpu)
                if who and (at_code or stop.kind != "break") and who.arrives(stop, registers):
                    del awaited[stop.cpu]
                    self._stands(who.racer, registers)
                    if who.racer is target:
                        return
                    continue
                if at_code:
                    self._remove(inserted)
                    stub.step(stop.cpu)
                    self._insert(inserted)
                elif stop.kind == "break":
                    target.waits = self._waits_in(target, stub.registers(target.cpu))
                    samples = samples + 1 if target.waits else 0
        finally:
            self._remove(inserted)
        caller = self._on_behalf_of(target, target.waits)
        target.waits = (target.waits or "nothing that is known") + f" for {caller}" * bool(caller)

    def _stands(self, racer: Racer, registers: Registers) -> None:
        """The thread has come to a point: it is parked there, if it may take interrupts."""
        racer.where = self.kernel.name_at(registers["rip"])
        if registers.interrupts:
            self.park(racer)

    def _run_to_address(self, racer: Racer, address: int) -> Registers:
        """Let a thread, whose stack need not be known, run until it executes that. Else raises Gone."""
        end = time.monotonic() + _LONGEST
        points = [(BREAKPOINT, address, 1)]
        while time.monotonic() < end:
            self._insert(points)
            try:
                self.stub.resume(self._running(racer))
                stop = self.stub.wait(_LONGEST) or self.stub.interrupt()
            finally:
                self._remove(points)
            registers = self.stub.registers(stop.cpu)
            if registers["rip"] == address:
                if stop.cpu == racer.cpu and self._of_thread(racer, registers):
                    return registers
                self.stub.step(stop.cpu)
        raise Gone(f"thread {racer.number} does not come to {self.kernel.name_at(address)}")

    def _of_thread(self, racer: Racer, registers: Registers) -> bool:
        """As `mine`; in the kernel a thread with an unknown stack has left its thread pointer where it was."""
        return registers["fs_base"] == racer.thread_pointer

    def _running(self, racer: Racer) -> list[int]:
        """The processors that run while this thread does: its own, that of the rest, and where threads are parked."""
        parked = (r.cpu for r in self.racers.values() if r is not racer and r.parked)
        return [racer.cpu, REST, *parked]

    def _insert(self, points: Sequence[tuple[int, int, int]]) -> None:
        for point in points:
            self.stub.insert(*point)

    def _remove(self, points: Sequence[tuple[int, int, int]]) -> None:
        for point in points:
            self.stub.remove(*point)

    # Parking

    def park(self, racer: Racer) -> None:
        """Let the thread spin where it is: it takes interrupts meanwhile."""
        registers = self.stub.registers(racer.cpu)
        spin = self.marks["at_spin"] if registers.user else self._spin
        racer.parked = registers["rip"], spin
        self.stub.set_register(racer.cpu, "rip", spin)

    def unpark(self, racer: Racer) -> None:
        """Take a parked thread back to where it was, as soon as it is in no interrupt. Raises Gone if it never is."""
        if racer.parked is None:
            return
        back, spin = racer.parked
        end = time.monotonic() + _LONGEST
        while time.monotonic() < end:
            registers = self.stub.registers(racer.cpu)
            if registers["rip"] in (spin, spin + 2) and self.mine(racer, registers):
                self.stub.set_register(racer.cpu, "rip", back)
                racer.parked = None
                return
            self.stub.insert(BREAKPOINT, spin)
            try:
                self.stub.resume(self._running(racer))
                if self.stub.wait(1.0) is None:
                    self.stub.interrupt()
            finally:
                self.stub.remove(BREAKPOINT, spin)
        raise Gone(f"thread {racer.number} does not come back from an interrupt")
