"""A virtual machine whose processors a debugger steers: one for each operation at the same time, and one for the rest.

The first processor runs whatever else there is, all the time. Every other one belongs to a thread of the test. The
processors are emulated by one thread of qemu: with a thread each, its watchpoints miss atomic operations.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from model.logic import ModelError
from proofs.hardware import vm
from proofs.hardware.schedule import symbols
from proofs.hardware.schedule.gdbstub import BREAKPOINT, Gone, Stub

REST = 1
"""The processor that runs what is not steered, as the stub numbers it."""
DIRECT_MAP = 0xFFFF888000000000
"""Where all memory is mapped, with page tables of four levels (Documentation/arch/x86/x86_64/mm.rst)."""
PAGE_STRUCTS = 0xFFFFEA0000000000
PAGE_STRUCT_BYTES, REFCOUNT = 64, 0x34
"""struct page: its size, and where _refcount is; 5.10 to 7.3, x86-64."""
TABLES_MM = 32
"""Where a struct page of a top-level page table has its mm_struct (pt_mm)."""
_BASE = 0x30000000  # where the program's text is: no other program has anything there
_OPTIONS = ("-pthread", f"-Wl,-Ttext-segment={_BASE:#x}")
_MARKS = ("at_symbols", "at_next", "at_ready", "at_go", "at_wait", "at_done", "at_spin")
# Processors that stand are no fault of the kernel's.
_APPEND = "nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
_BOOT = 240.0


class SteeredMachine:
    """A machine that stands where the program asks for its first test. `marks`: places in the program by name."""

    def __init__(
        self, stub: Stub, process: subprocess.Popen[bytes], folder: Path, marks: Mapping[str, int], cpus: int
    ) -> None:
        self.stub, self.process, self.folder, self.marks, self.cpus = stub, process, folder, marks, cpus
        self.kernel = symbols.Symbols(())
        self._pending = b""

    @property
    def everyone(self) -> range:
        """All processors, as the stub numbers them."""
        return range(1, self.cpus + 1)

    def lines(self) -> list[str]:
        """What the program has printed since it was asked last, as far as it is there."""
        assert self.process.stdout
        while select.select([self.process.stdout], [], [], 0)[0]:
            got = os.read(self.process.stdout.fileno(), 1 << 16)
            if not got:
                break
            self._pending += got
        *complete, self._pending = self._pending.split(b"\n")
        return [text for line in complete if (text := line.decode("utf-8", "replace").strip())]

    def console(self) -> str:
        """The kernel's messages."""
        path = self.folder / "console"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def run_to_marks(self, names: tuple[str, ...], seconds: float) -> tuple[int, str]:
        """Let all processors run until one comes to one of these marks: which one, and which. Raises Gone."""
        for name in names:
            self.stub.insert(BREAKPOINT, self.marks[name])
        try:
            self.stub.resume(self.everyone)
            stop = self.stub.wait(seconds)
            if stop is None:
                self.stub.interrupt()
                said = self.console().splitlines() or ["nothing"]
                raise Gone(f"the program did not come to {names[-1]} in {seconds:g} s; the kernel said: {said[-1]}")
        finally:
            with contextlib.suppress(Gone):
                for name in names:
                    self.stub.remove(BREAKPOINT, self.marks[name])
        at = self.stub.registers(stop.cpu)["rip"]
        return stop.cpu, next(name for name in names if self.marks[name] == at)


@contextlib.contextmanager
def booted(vmlinuz: Path, text: str, racers: int, cache: Path) -> Iterator[SteeredMachine]:
    """A machine with so many processors for threads, that runs the C program `text` (runtime.c, section `scheduled`).

    `cache`: where symbols are kept. Raises ModelError if qemu or the compiler is missing, NotObservable without
    symbols, Gone if the kernel does not come so far.
    """
    qemu, found, cpus = vm.tool(vm.QEMU, "qemu-system-x86"), vm.find(vmlinuz), racers + 1
    known = symbols.kept(vmlinuz, cache)
    arguments = ["--allow-host-settings", *([] if known else ["symbols"])]
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(vm.compiled(text, "races", _OPTIONS))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proofs-vm-")))
        (folder / "initramfs").write_bytes(vm.initramfs(vm.files_of(found, program, arguments)))
        with (folder / "swap").open("wb") as disk:
            disk.truncate(vm.SWAP_BYTES)
        command = [
            qemu, "-accel", "tcg,thread=single", *vm.hardware(cpus, "max,la57=off"),
            "-drive", f"file={folder / 'swap'},{vm.DISK}",
            "-kernel", str(vm.entered_directly(vmlinuz, folder)), "-initrd", str(folder / "initramfs"),
            "-append", f"{vm.COMMAND_LINE} PROOFS_SECONDS=100000 {_APPEND}",
            "-serial", f"file:{folder / 'console'}", "-serial", "stdio",
            "-chardev", f"socket,path={folder / 'stub'},server=on,wait=off,id=stub", "-gdb", "chardev:stub", "-S",
        ]  # fmt: skip
        errors = stack.enter_context((folder / "errors").open("wb"))
        process = stack.enter_context(vm.running(command, errors))
        stub = Stub(folder / "stub")
        stack.callback(stub.close)
        machine = SteeredMachine(stub, process, folder, _marks(program), cpus)
        if known is None:
            pairs = _asked(machine)
            symbols.keep(vmlinuz, cache, pairs)
            known = symbols.Symbols(pairs)
        machine.kernel = known
        machine.run_to_marks(("at_next",), _BOOT)
        yield machine


def _asked(machine: SteeredMachine) -> list[tuple[int, str]]:
    """The symbols that the program has read for us: qemu writes the program's memory to a file."""
    cpu, _ = machine.run_to_marks(("at_symbols",), _BOOT)
    registers = machine.stub.registers(cpu)
    path = machine.folder / "kallsyms"
    machine.stub.monitor(f"cpu {cpu - 1}")
    machine.stub.monitor(f'memsave {registers["rdi"]:#x} {registers["rsi"]} "{path}"')
    return symbols.parsed(path.read_text("ascii", "replace") if path.exists() else "")


def _marks(program: Path) -> dict[str, int]:
    """Where in a program its marks are."""
    done = subprocess.run(
        [vm.tool("nm", "binutils"), str(program)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    words = (line.split() for line in done.stdout.splitlines())
    found = {word[2]: int(word[0], 16) for word in words if len(word) == 3 and word[2] in _MARKS}
    if missing := [name for name in _MARKS if name not in found]:
        raise ModelError(f"the compiled program has no {missing[0]}")
    return found
