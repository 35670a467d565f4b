"""Operations at the same time in an order that a debugger decides: proofs/hardware/schedule."""

from __future__ import annotations

import json
import math
import re
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_kernels import needs_compiler, real_kernels

from model.logic import ModelError
from proofs import errors
from proofs.cli import main
from proofs.cli import races as schedule_cli
from proofs.data import SUITE
from proofs.errors import NotObservable
from proofs.hardware import reproducer, vm
from proofs.hardware.conform import AGREE, DISAGREE, NOT_OBSERVABLE
from proofs.hardware.schedule import controls, gdbstub, orders, points, races, report, symbols
from proofs.hardware.schedule.gdbstub import BREAKPOINT, Gone, Registers, Stop, Stub
from proofs.hardware.schedule.races import NOT_SEEN, Course, Race
from proofs.hardware.schedule.steering import Went
from proofs.litmus import matrix, parser
from proofs.litmus.execution import Outcome
from proofs.litmus.language import Litmus
from proofs.litmus.suite import text_of

NOTHING: frozenset[int] = frozenset()


def named(name: str) -> Litmus:
    return parser.read(SUITE / f"{name}.litmus")


S7 = "2:age 1:read 2:add 1:grab 1:check 2:clear 2:unmap 2:done 1:done"
F9R, F4, F19 = (named(name) for name in ("F9r-swap-pin-race", "F4-gup-fast-fork", "F19-soft-dirty-stale-tlb"))


# The protocol


@dataclass
class FakeStub:
    """The other side of the protocol, in a thread: two processors, some memory, and what is resumed is noted."""

    listener: socket.socket
    memory: bytearray = field(default_factory=lambda: bytearray(range(256)) * 16)
    registers: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(240), 2: bytearray(240)})
    stops: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    now: int = 1
    wrong_checksum: bool = False

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            buffer = b""
            while got := connection.recv(4096):
                buffer += got
                while found := re.match(rb"[+]*(?:\$([^#]*)#(..)|(\x03))", buffer, re.DOTALL):
                    buffer = buffer[found.end():]
                    if found[3]:
                        self.asked.append("interrupt")
                        self.say(connection, b"T02thread:01;")
                        continue
                    text = found[1].decode()
                    assert int(found[2], 16) == sum(found[1]) & 255
                    self.asked.append(text)
                    for answer in self.answers(text):
                        self.say(connection, answer)

    def say(self, connection: socket.socket, data: bytes) -> None:
        checksum = (sum(data) + self.wrong_checksum) & 255
        connection.sendall(b"+$" + data + b"#%02x" % checksum)

    def answers(self, text: str) -> Iterator[bytes]:
        if text.startswith("vCont;"):
            if self.stops:
                yield self.stops.pop(0)
        elif text == "vCont?":
            yield b"vCont;c;C;s;S"
        elif text.startswith("Hg"):
            self.now = int(text[2:], 16)
            yield b"OK" if self.now in self.registers else b"E22"
        elif text == "g":
            yield self.registers[self.now].hex().encode()
        elif text.startswith("P"):
            number, value = text[1:].split("=")
            at = int(number, 16) * 8
            self.registers[self.now][at:at + 8] = bytes.fromhex(value)
            yield b"OK"
        elif text.startswith("m"):
            address, length = (int(word, 16) for word in text[1:].split(","))
            yield self.memory[address:address + length].hex().encode() if address + length <= 4096 else b"E14"
        elif text.startswith("M"):
            where, data = text[1:].split(":")
            address, length = (int(word, 16) for word in where.split(","))
            self.memory[address:address + length] = bytes.fromhex(data)
            yield b"OK"
        elif text.startswith("qRcmd,"):
            yield b"O" + bytes.fromhex(text[6:]).upper().hex().encode()
            yield b"O" + b"!".hex().encode()
            yield b"OK"
        else:
            yield b"OK"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeStub]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "stub"))
    listener.listen()
    stub = FakeStub(listener)
    thread = threading.Thread(target=stub.serve, daemon=True)
    thread.start()
    yield stub
    listener.close()
    thread.join(5)


@pytest.fixture
def stub(fake: FakeStub, tmp_path: Path) -> Iterator[Stub]:
    found = Stub(tmp_path / "stub")
    yield found
    found.close()


def test_a_processors_registers_lie_where_qemu_describes_them(fake: FakeStub, stub: Stub) -> None:
    raw = fake.registers[2]
    struct.pack_into("<Q", raw, 5 * 8, 0x1234)  # rdi
    struct.pack_into("<QII", raw, 16 * 8, 0xFFFFFFFF81000000, 0x202, 0x10)  # rip, eflags, cs
    struct.pack_into("<Q", raw, 164, 0x7F00)  # fs_base
    struct.pack_into("<Q", raw, 164 + 5 * 8, 0xABC000)  # cr3
    found = stub.registers(2)
    assert [found[name] for name in ("rdi", "rip", "cr3", "fs_base")] == [0x1234, 0xFFFFFFFF81000000, 0xABC000, 0x7F00]
    assert found.interrupts
    assert not found.user
    stub.set_register(2, "rip", 0x5555)
    assert stub.registers(2)["rip"] == 0x5555
    assert stub.registers(1)["rip"] == 0


def test_memory_is_read_in_parts_and_written(fake: FakeStub, stub: Stub) -> None:
    assert stub.read(0x100, 3000) == bytes(fake.memory[0x100:0x100 + 3000])
    assert sum(text.startswith("m") for text in fake.asked) == 3
    stub.write(0x10, b"\xff\x01\0\0")
    assert stub.number(0x10, 4) == 0x1FF
    with pytest.raises(Gone, match="nothing can be read at 0x1000"):
        stub.read(0xC00, 1025)


def test_only_the_processors_that_are_named_are_resumed(fake: FakeStub, stub: Stub) -> None:
    fake.stops += [b"T05thread:02;watch:ffff888000001008;", b"T05thread:01;"]
    stub.insert(BREAKPOINT, 0x30000000)
    stub.resume([2, 1])
    assert stub.wait(5) == Stop(2, "watch", 0xFFFF888000001008)
    stub.step(2)
    assert fake.asked[-3:] == ["Z1,30000000,1", "vCont;c:2;c:1", "vCont;s:2"]


def test_what_does_not_stop_by_itself_is_interrupted(fake: FakeStub, stub: Stub) -> None:
    stub.resume([1])
    assert stub.wait(0.01) is None
    assert stub.interrupt() == Stop(1, "break")
    assert fake.asked[-1] == "interrupt"


def test_the_monitors_words_are_joined(stub: Stub) -> None:
    assert stub.monitor("info cpus") == "INFO CPUS!"


@pytest.mark.parametrize("answer", [b"W00", b"X09", b"T05"])
def test_a_machine_that_ends_is_gone(answer: bytes) -> None:
    with pytest.raises(Gone, match="has ended"):
        gdbstub.stop_of(answer)


@pytest.mark.parametrize(("answer", "stop"), [
    (b"T05thread:03;", Stop(3, "break")),
    (b"T05thread:0a;rwatch:10;", Stop(10, "rwatch", 16)),
    (b"T05thread:p01.02;awatch:ff;", Stop(2, "awatch", 255)),
])
def test_a_stop_says_where_and_why(answer: bytes, stop: Stop) -> None:
    assert gdbstub.stop_of(answer) == stop


def test_what_is_damaged_on_its_way_is_not_believed(fake: FakeStub, stub: Stub) -> None:
    fake.wrong_checksum = True
    with pytest.raises(Gone, match="wrong checksum"):
        stub.read(0, 4)


def test_without_a_stub_it_is_not_observable(tmp_path: Path) -> None:
    with pytest.raises(NotObservable, match="gdbstub does not answer"):
        Stub(tmp_path / "nothing", seconds=0.01)


def test_what_qemu_does_not_do_is_said(stub: Stub) -> None:
    with pytest.raises(Gone, match="Hg7 is answered by b'E22'"):
        stub.registers(7)


# Symbols

KALLSYMS = """\
ffffffff81000000 T _stext
ffffffff81000100 t do_wp_page
ffffffff81000200 T handle_mm_fault.isra.0
ffffffff81000300 T _etext
ffffffff82000000 D jiffies
ffffffffc0000000 t probe_open\t[gup_probe]
0000000000000000 A fixed_percpu_data
"""


def test_symbols_are_functions_of_the_kernel_itself() -> None:
    found = symbols.Symbols(symbols.parsed(KALLSYMS))
    assert found.names == ["_stext", "do_wp_page", "handle_mm_fault.isra.0", "_etext"]
    assert found.first("handle_mm_fault") == 0xFFFFFFFF81000200
    assert found.first("only_newer", "do_wp_page") == 0xFFFFFFFF81000100
    assert found.name_at(0xFFFFFFFF81000123) == "do_wp_page"
    assert found.name_at(0x30000000) == "user"
    with pytest.raises(NotObservable, match="no symbol one or two"):
        found.first("one", "two")


def test_a_part_of_a_function_that_the_compiler_moved_is_not_its_beginning() -> None:
    """Debian's 7.2 has change_protection.cold long before change_protection."""
    pairs = [(0x10, "change.cold"), (0x20, "copy.part.0"), (0x30, "look.isra.0.cold"), (0x40, "look.isra.0"),
             (0x50, "change")]
    found = symbols.Symbols((0xFFFFFFFF81000000 + at, name) for at, name in pairs)
    assert [found.first(name) & 0xFF for name in ("change", "look", "look.isra.0", "change.cold")] == [
        0x50, 0x40, 0x40, 0x10]
    with pytest.raises(NotObservable, match="no symbol copy"):
        found.first("copy")
    assert found.function_at(0xFFFFFFFF81000044) == "look"


def test_of_a_stack_only_what_can_be_a_return_address_counts() -> None:
    found = symbols.Symbols(symbols.parsed(KALLSYMS))
    begin, inside, beyond = 0xFFFFFFFF81000100, 0xFFFFFFFF81000110, 0xFFFFFFFF82000000
    words = [5, begin, inside, beyond, inside + 0x100]
    assert [name for _, name in found.returns(words)] == ["do_wp_page", "handle_mm_fault.isra.0"]


def test_a_kernel_that_hides_its_symbols_is_not_observable() -> None:
    with pytest.raises(NotObservable, match="does not say its symbols"):
        symbols.parsed("0000000000000000 T _stext\n")


def test_symbols_are_kept_by_the_images_contents(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(b"one")
    symbols.keep(image, tmp_path / "cache", symbols.parsed(KALLSYMS))
    again = symbols.kept(image, tmp_path / "cache")
    assert again is not None
    assert again.names == symbols.Symbols(symbols.parsed(KALLSYMS)).names
    image.write_bytes(b"two")
    assert symbols.kept(image, tmp_path / "cache") is None


# Points


def sight(**known: int | bool | str) -> SimpleNamespace:
    flags = 0x200 if known.pop("interrupts", True) else 0
    cs = 0x33 if known.pop("user", False) else 0x10
    registers = Registers({"eflags": flags, "cs": cs, "rdi": int(known.pop("rdi", 0))})
    stands_in = str(known.pop("function", "do_wp_page"))
    start = {"reached": "", "refcount_before": 1, "refcount": 1, "refcount_was_read": False, "pte": 0x67, "page": 64}
    return SimpleNamespace(registers=registers, function=lambda: stands_in, **(start | known))


def point(test: Litmus, thread: int, name: str) -> points.Point:
    return next(p for p in points.points_of(orders.statements_of(test)[thread - 1]) if p.name == name)


def test_gup_fast_is_told_by_interrupts_being_off() -> None:
    read, check = point(F4, 1, "read"), point(F4, 1, "check")
    assert read.when(sight(interrupts=False))
    assert not read.when(sight())
    assert check.when(sight(interrupts=False, reached="grab"))
    assert not check.when(sight(interrupts=False, reached="read"))


def test_a_pin_is_grabbed_when_all_of_it_is_counted() -> None:
    """Two writes on 5.10 and 6.1: one reference, then the other 1023 of the bias."""
    grab = point(F4, 1, "grab")
    assert not grab.when(sight(interrupts=False, refcount=2))
    assert grab.when(sight(interrupts=False, refcount=1 + 1024))
    got = point(named("F4g-gup-fast-fork-get"), 1, "grab")
    assert got.when(sight(interrupts=False, refcount=2))


def test_pageout_clears_the_accessed_bit_before_it_takes_the_page() -> None:
    """madvise_cold_or_pageout_pte_range empties the PTE for a moment to make it old: that is no unmapping yet."""
    age, add, clear, unmap = (point(F9R, 2, name) for name in ("age", "add", "clear", "unmap"))
    assert age.when(sight(pte=0x47))
    assert not age.when(sight(pte=0x67))
    assert not age.when(sight(pte=0))
    assert add.when(sight(rdi=64))
    assert not add.when(sight(rdi=128))
    assert clear.when(sight(pte=0, reached="add"))
    assert not clear.when(sight(pte=0, reached=""))
    assert unmap.when(sight(pte=0x5000))
    assert not unmap.when(sight(pte=0))


def test_fork_has_looked_when_the_count_is_read_and_stays() -> None:
    assert point(F4, 2, "test").when(sight(refcount_was_read=True))
    assert not point(F4, 2, "test").when(sight())
    copy = point(F4, 2, "copy")
    assert copy.when(sight(pte=0x65))
    assert not copy.when(sight(pte=0x67))


def test_a_lock_that_is_tried_in_vain_leaves_the_flags_as_they_were() -> None:
    """folio_trylock is a test_and_set_bit. do_wp_page sets PG_anon_exclusive, and lru_add_drain PG_lru."""
    assert points.TRYLOCK.when(sight(flags_kept=True))
    assert points.TRYLOCK.when(sight(flags_kept=True, function="wp_can_reuse_anon_folio"))
    assert not points.TRYLOCK.when(sight(flags_kept=False))
    assert not points.TRYLOCK.when(sight(flags_kept=True, function="lru_add_fn"))


def test_a_numa_hint_is_a_pte_that_is_not_present() -> None:
    """change_pte_range takes the PTE away (ptep_modify_prot_start) before it writes it with PAGE_NONE."""
    hint = point(named("F18r-numa-pin-race"), 2, "hint")
    assert hint.when(sight(pte=0xFFFFFFD14F962))
    assert not hint.when(sight(pte=0))
    assert not hint.when(sight(pte=0x8000000002EB0867))


def test_every_operation_of_the_suites_races_has_points_in_order() -> None:
    for test in races_of_the_suite():
        for statement in orders.statements_of(test):
            names = orders.all_points(statement)
            assert names[-1] == points.DONE
            assert len(set(names)) == len(names)


# Orders


def races_of_the_suite() -> list[Litmus]:
    tests = (parser.parse(row.text, row.name) for row in matrix.read_suite().rows)
    return [test for test in tests if orders.racing(test)]


def test_an_order_is_text_and_names_every_point() -> None:
    text = "1:read 2:age 2:add 1:grab 1:check 2:clear 2:unmap 1:done 2:done"
    assert orders.shown(orders.parsed(text, F9R)) == text
    short = orders.parsed("2:add 1:done", F9R)
    assert orders.shown(short) == "2:age 2:add 1:read 1:grab 1:check 1:done 2:clear 2:unmap 2:done"


@pytest.mark.parametrize(("text", "message"), [
    ("3:read", "3:read: F9r-swap-pin-race has the threads 1 to 2"), ("x", "x: F9r.*threads 1 to 2"),
    ("1:unmap", "1:unmap: thread 1 comes to read, grab, check, done"),
])
def test_an_order_that_the_test_has_not_is_refused(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        orders.parsed(text, F9R)


def test_the_models_counterexample_is_an_order() -> None:
    """S7: reclaim has added the page to the swap cache when GUP-fast takes its reference, and unmaps it afterwards. It
    has cleared the accessed bit before GUP-fast reads the PTE, which is another one otherwise when it looks again."""
    asked = races.prepared(F9R, "5.10.0-46-amd64", "debian-5.10")
    order, loads = races.first_order(asked)
    assert (asked.answer, asked.source, loads) == ("Broken", "debian-5.10", frozenset())
    assert orders.shown(order) == S7


def test_a_kernel_that_holds_borrows_the_order_of_one_that_does_not() -> None:
    asked = races.prepared(F9R, "6.1.0-56-amd64", "v6.1")
    order, _ = races.first_order(asked)
    assert (asked.answer, asked.source) == ("Holds", "v5.18")
    assert order.index((2, "add")) < order.index((1, "check")) < order.index((2, "unmap"))


def test_a_test_of_ones_own_that_holds_begins_thread_by_thread() -> None:
    test = parser.parse("litmus t\npage x\nA: write x 1\nA: fork C || A: mprotect x ro\nnever A.x == 2", "t.litmus")
    asked = races.prepared(test, "6.1.0", "v6.1")
    order, loads = races.first_order(asked)
    assert (asked.source, loads) == ("", frozenset())
    assert orders.shown(order) == "1:test 1:copy 1:flush 1:done 2:change 2:done"


def test_a_store_through_a_stale_entry_is_one_whose_processor_has_it() -> None:
    """F19 on 5.9: the store of 3 goes through an entry that clear_refs is yet to flush; the GUP of thread 2 faults."""
    asked = races.prepared(F19, "5.9.0", "v5.9")
    order, loads = races.first_order(asked)
    assert (asked.answer, loads) == ("Broken", {3})
    at = {step: number for number, step in enumerate(order)}
    assert at[1, "change"] < at[2, "copy"] < at[3, "done"] < at[1, "done"]


def test_a_forced_write_looks_again_after_each_fault() -> None:
    """F15: what MADV_DONTNEED may take away between the fault and the second look of get_user_pages."""
    forced, dropped = orders.statements_of(named("F15-dirty-cow"))
    assert orders.all_points(forced) == ["decide", "copy", "again", "done"]
    assert points.point_after(forced, "cow-fault", last=False) == "again"
    assert points.point_after(forced, "force-write", last=True) == points.DONE
    assert points.point_after(dropped, "dontneed", last=True) == points.DONE
    order, _ = races.first_order(races.prepared(named("F15-dirty-cow"), "4.8.0", "v4.8"))
    assert order.index((1, "again")) < order.index((2, "done")) < order.index((1, "done"))


def test_orders_beside_one_are_all_interleavings_nearest_first() -> None:
    order = orders.parsed("1:read 1:grab 1:check 1:done 2:test 2:copy 2:flush 2:done", F4)
    found = list(orders.around(order))
    assert found[0] == order
    assert len(found) == len(set(found)) == math.comb(8, 4)
    for each in found:
        for thread in (1, 2):
            assert [step for step in each if step[0] == thread] == [step for step in order if step[0] == thread]
    assert [sum(a != b for a, b in zip(order, each, strict=True)) for each in found[1:2]] == [2]


# Programs


def steerable(test: Litmus) -> bool:
    try:
        races.check(test)
    except NotObservable:
        return False
    return True


@needs_compiler
def test_every_race_of_the_suite_is_a_program_that_a_debugger_can_steer(tmp_path: Path) -> None:
    tests = [test for test in races_of_the_suite() if steerable(test)]
    assert {test.name for test in races_of_the_suite()} - {test.name for test in tests} == {
        "F33r-uffd-move-race", "F33s-uffd-move-reused", "F41-swap-sync-race", "F41r-swap-sync-race-read",
    }  # fmt: skip
    for test in tests:
        with pytest.raises(NotObservable, match=r"no program decides which comes first|attempt at a page lock fail"):
            reproducer.check(test)
    text = reproducer.program(tests, end="scheduled")
    with vm.compiled(text, "races", ["-pthread", "-Wall", "-Wextra", "-Werror"]) as program:
        # Nobody tells it what to do: it ends without a test.
        done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert [set(json.loads(line)) for line in done.stdout.splitlines()] == [{"release"}]


def test_each_operation_at_the_same_time_is_a_racer() -> None:
    text = reproducer.program([F9R], end="scheduled")
    line = re.findall(r"^\t(racer|race|step)\((?:[A-Z]+, \"([^\"]*)\", (\w+))?", text, re.MULTILINE)
    assert line == [
        ("step", "A: write x 1", "store"), ("racer", "A: r = pin x write fast", "take_by_probe"),
        ("racer", "*: pageout x", "page_out_here"), ("race", "", ""), ("step", "A: read x", "load"),
        ("step", "A: write x 2", "store"),
    ]  # fmt: skip


def test_a_write_that_loses_the_page_lock_is_steered_alone() -> None:
    text = reproducer.program([named("trylock-fails-copy")], end="scheduled")
    line = re.findall(r"^\t(racer|race|step)\((?:\w+, \"([^\"]*)\", (\w+))?", text, re.MULTILINE)
    assert line[-3:] == [
        ("step", "*: trylock-fails", "left_to_debugger"), ("racer", "A: write x 2", "store"), ("race", "", ""),
    ]  # fmt: skip
    with pytest.raises(NotObservable, match="nobody in user space"):
        reproducer.check(named("trylock-fails-copy"))


@pytest.mark.parametrize("lines", [
    ("*: trylock-fails", "A: read x"), ("*: trylock-fails", "A: fork C", "A: write x 2"), ("*: trylock-fails",),
    ("*: trylock-fails", "A: write x 2", "*: trylock-fails", "A: write x 3"),
    ("*: trylock-fails", "A: write x 2 || A: mprotect x ro"),
], ids=["a load", "another operation", "nothing", "twice", "two threads"])
def test_which_attempt_at_the_page_lock_would_fail_is_not_known_of_others(lines: tuple[str, ...]) -> None:
    test = parser.parse("\n".join(["litmus t", "page x", *lines, "never A.x == 5"]), "t.litmus")
    with pytest.raises(NotObservable, match=r"nobody in user space|which the test has not"):
        races.check(test)


def test_a_test_without_operations_at_the_same_time_has_no_schedule() -> None:
    with pytest.raises(NotObservable, match="which the test has not"):
        races.check(named("F8-mprotect-pin"))


# What is told


def course(condition: bool | None, *went: Went, reason: str = "") -> Course:
    outcome = None if condition is None else Outcome(NOTHING, NOTHING, condition)
    return Course(orders.completed([], F9R), went, outcome, reason, 1.0)


def race(*courses: Course, allowed: tuple[bool, ...] = (False, True), stuck: str = "") -> Race:
    expected = frozenset(Outcome(NOTHING, NOTHING, condition) for condition in allowed)
    return Race(F9R, "5.10.0-46-amd64", "debian-5.10", "Broken", expected, stuck, "debian-5.10", list(courses))


@pytest.mark.parametrize(("seen", "status"), [
    (race(course(False), course(True)), AGREE),
    (race(course(False), allowed=(False,)), AGREE),
    (race(course(False), course(True), allowed=(False,)), DISAGREE),
    (race(course(False), course(False)), NOT_SEEN),
    (race(course(None, reason="it hung")), NOT_OBSERVABLE),
    (race(), NOT_OBSERVABLE),
    (race(course(False), stuck="line 3"), NOT_OBSERVABLE),
])
def test_all_orders_of_a_test_are_judged_together(seen: Race, status: str) -> None:
    """What the model forbids is a disagreement wherever it is seen; what it allows need not come in each order."""
    assert seen.status == status
    assert bool(report.reason_of(seen)) == (status != AGREE)


def test_a_report_says_in_what_an_excluded_thread_waited() -> None:
    waits = Went(2, "done", "", "smp_call_function_single for flush_tlb_mm_range")
    text = report.to_text(race(course(True, Went(1, "read", "read"), waits), course(False, waits)))
    assert text.splitlines()[0] == "F9r-swap-pin-race on 5.10.0-46-amd64 (debian-5.10 in the model: Broken): agree"
    assert "  excluded in 2: thread 2 waits in smp_call_function_single for flush_tlb_mm_range" in text.splitlines()
    assert "condition true in 1" in text
    assert "1:read 2:done=waits" in text
    [told] = report.to_json([race(course(True, waits))])
    assert told["status"] == AGREE
    assert told["courses"][0]["went"][0]["where"].startswith("smp_call_function")


def test_the_matrix_has_a_row_a_test_and_a_column_a_kernel() -> None:
    assert report.to_markdown([race(course(True), course(False))]).splitlines()[-1] == (
        "| F9r-swap-pin-race | Broken +, 1 of 2 |"
    )


# Controls


@dataclass
class FakeHand:
    """A thread whose mm_struct is some words: the third one is a sequence count, the others change as they like."""

    words: list[int]
    mm: int = 0x1000
    notes: dict[str, bytes] = field(default_factory=dict)

    def read(self, address: int, length: int) -> bytes:
        return struct.pack(f"<{len(self.words)}I", *self.words).ljust(length, b"\0")

    def write(self, address: int, data: bytes) -> None:
        [self.words[(address - self.mm) // 4]] = struct.unpack("<I", data)


def test_a_sequence_count_is_known_by_what_fork_does_to_it() -> None:
    """Two more for each VMA that is copied, odd amid one: it is put back to what it was when fork began."""
    begin, look, _, end = (effect.act for effect in controls.named("fork-sequence").effects["fork"])
    hand = FakeHand([7, 1, 4, 10])
    begin(hand)  # the first VMA, of another page
    hand.words = [7, 2, 6, 12]
    begin(hand)
    hand.words[2] = 7  # amid the page's VMA
    look(hand)
    assert hand.words == [7, 2, 4, 12]
    hand.words[2] = 5  # its end
    begin(hand)
    hand.words[2] = 6
    end(hand)
    assert hand.words == [7, 2, 4, 12]


def test_what_cannot_be_told_apart_is_left_alone() -> None:
    begin, look, *_ = (effect.act for effect in controls.named("fork-sequence").effects["fork"])
    hand = FakeHand([2, 4])
    begin(hand)
    hand.words = [3, 5]
    look(hand)
    assert hand.words == [3, 5]


def test_a_control_that_there_is_not_is_refused() -> None:
    with pytest.raises(ModelError, match="nothing is no protection that can be taken away: fork-sequence, "):
        controls.named("nothing")


def test_without_a_protection_the_counterexample_has_to_be_seen() -> None:
    seen = race(course(False), allowed=(False,))
    seen.control = controls.named("fork-sequence")
    assert seen.status == NOT_SEEN
    seen.courses.append(course(True))
    assert seen.status == AGREE


# The command line


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_the_running_kernel_is_never_steered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["replay", "F9r", "--schedule"]) == errors.USAGE
    assert "not on the running kernel: name some with --vmlinuz" in line_of(capsys)


def test_an_order_needs_a_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["replay", "F9r", "--order", "1:read"]) == errors.USAGE
    assert "--order, --repeat, --without and --out are for --schedule" in line_of(capsys)


def bzimage(path: Path) -> Path:
    setup = bytearray(0x400)
    setup[0x1F1], setup[0x1FE:0x206] = 1, b"\x55\xaa\xeb\x66HdrS"
    struct.pack_into("<HI", setup, 0x206, 0x020F, 0)
    struct.pack_into("<H", setup, 0x20E, 0x300 - 0x200)
    setup[0x300:0x30B] = b"6.1.0-test\0"
    path.write_bytes(setup)
    return path


def test_without_qemu_it_is_not_observable_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    image = bzimage(tmp_path / "vmlinuz")
    assert main.main(["conform", "--races", "F4-gup-fast-fork", "F9r", "--vmlinuz", str(image)]) == errors.INCONCLUSIVE
    told = capsys.readouterr().out.splitlines()
    assert [line.split(": ", 2)[2] for line in told] == [
        "not-observable; qemu-system-x86_64 is not installed (Debian package qemu-system-x86)"
    ] * 2


def test_a_race_is_a_directory_whose_script_asks_for_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is one in which the test ended as it asks about, though another one was the first."""
    race = races.prepared(F9R, "5.10.0-46-amd64", "debian-5.10")
    race.first, late = orders.parsed("1:read 2:add", F9R), orders.parsed(S7, F9R)
    broken = next(outcome for outcome in race.expected if outcome.condition)
    held = next(outcome for outcome in race.expected if not outcome.condition)
    race.courses = [Course(race.first, (), held, "", 1.0), *[Course(late, (), broken, "", 1.0)] * 2]
    schedule_cli.write_directory([race], text_of(F9R.name), tmp_path / "sent")
    files = {path.name for path in (tmp_path / "sent").iterdir()}
    assert files == {f"{F9R.name}.litmus", f"{F9R.name}.c", "schedule", "run.sh"}
    assert "its condition was true in 2 of 2 runs" in (tmp_path / "sent" / "run.sh").read_text()
    # What stands for Python prints its arguments.
    echo = tmp_path / "python"
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    echo.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(echo))
    asked = subprocess.run(
        [tmp_path / "sent" / "run.sh", "vmlinuz", "50"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert asked[:3] == ["-m", "proofs", "replay"]
    assert asked[4:] == ["--schedule", "--order", orders.shown(late), "--orders", "1", "--repeat", "50",
                         "--vmlinuz", "vmlinuz"]
    assert parser.parse(Path(asked[3]).read_text(), F9R.name).statements == F9R.statements


def test_of_a_test_that_cannot_be_steered_no_directory_is_written(tmp_path: Path) -> None:
    race = races.prepared(F9R, "5.10.0-46-amd64", "debian-5.10")
    schedule_cli.write_directory([race], text_of(F9R.name), tmp_path / "sent")
    assert not (tmp_path / "sent").exists()


# Real kernels


@real_kernels
def test_gup_fast_pins_what_reclaim_has_taken(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S7, F9r: 5.10 unmaps the page all the same. Later ones have PG_anon_exclusive: try_to_unmap looks again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old = image.parent.name.startswith("5.10")
    order = orders.parsed(S7, F9R)
    between = orders.parsed("1:read 2:age 2:add 1:check 2:unmap", F9R)
    with races.Runner(image, [F9R, named("F4g-gup-fast-fork-get")]) as runner:
        found = runner.run(F9R, order)
        assert found.outcome is not None, found
        assert found.outcome.condition == old, found
        seen = [went.point for went in found.went]
        assert seen.index("read") < seen.index("grab")
        assert seen.index("add") < seen.index("grab") < seen.index("check") < seen.index("clear")
        changed = runner.run(F9R, between)
        assert changed.outcome is not None, changed
        assert not changed.outcome.condition, changed
        # F4g: a FOLL_GET that is complete before fork write-protects the PTE is lost, on every kernel.
        get = runner.tests[1]
        late = runner.run(get, orders.parsed("1:check 2:copy 1:done", get))
        assert late.outcome is not None, late
        assert late.outcome.condition, late


LOST = """\
litmus lost
page x
A: write x 1
A: fork C
C: exit
*: trylock-fails
A: write x 2
always A.x == 2 and writable A.x
"""


@real_kernels
def test_a_write_that_loses_the_page_lock_copies(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """do_wp_page and wp_can_reuse_anon_folio try the lock of a page that is the process's own again, but not that of
    one that is PG_anon_exclusive, which they reuse (from 5.19 on)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own, lost = named("trylock-fails-copy"), parser.parse(LOST, "lost.litmus")
    with races.Runner(image, [own, lost]) as runner:
        for test, copies in ((own, image.parent.name.startswith("5.10")), (lost, True)):
            found = runner.run(test, orders.completed([], test))
            assert found.outcome is not None, found
            assert found.outcome.condition, found
            assert [went.point for went in found.went] == ["trylock", "decide", "copy", "done"][3 * (not copies):]
