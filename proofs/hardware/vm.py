"""A static test program, run by a Linux kernel of one's choice in a virtual machine (qemu).

The machine has one processor, two NUMA nodes, a swap disk, two slow disks that are off, and an initramfs that holds the
program, `replay/init.c` as its first process, and the kernel's modules where a folder `modules` lies beside its image
(`tools/fetch-kernels` makes such). The program's standard output is the second serial port: kernel messages never mix
with it.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import math
import os
import re
import select
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from model.logic import ModelError
from proofs.hardware import vmlinuz as image
from proofs.hardware.reproducer import REPLAY
from proofs.parallel import end_with_parent

QEMU = "qemu-system-x86_64"
SWAP_BYTES = 64 << 20
SLOW_BYTES = 8 << 20
SLOW_LABEL = b"cow-gup-slow"
SLOW_RATE = 2048  # bytes that the slow disks together write a second; reads are as fast as of the swap disk
NODE_MEGABYTES = 384  # of each of the two NUMA nodes; with less than 512 in all, huge pages are off


# What takes time or makes a page move on its own is off; an oops ends the machine, and warnings are on the console.
COMMAND_LINE = (
    "console=ttyS0,115200 loglevel=5 panic=-1 oops=panic numa_balancing=disable transparent_hugepage=madvise "
    "zswap.enabled=0 proc_mem.force_override=always mitigations=off nokaslr random.trust_cpu=on cryptomgr.notests"
)

MOVABLE = "movablecore=256M"
"""What gives the machine a ZONE_MOVABLE, on both nodes; user memory is taken from there first."""


def hardware(cpus: int = 1, cpu: str = "max,-erms,-fsrm") -> list[str]:
    """qemu's arguments for a machine with so many processors of that kind, all of them on the near node.

    Without erms and fsrm Linux clears and copies pages by words; qemu emulates a word as fast as a byte.
    """
    near = f"node,nodeid=0,cpus=0{f'-{cpus - 1}' * (cpus > 1)},memdev=near"
    return [
        "-machine", "pc", "-cpu", cpu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-smp", str(cpus), "-m", f"{2 * NODE_MEGABYTES}M",
        "-object", f"memory-backend-ram,id=near,size={NODE_MEGABYTES}M", "-numa", near,
        "-object", f"memory-backend-ram,id=far,size={NODE_MEGABYTES}M", "-numa", "node,nodeid=1,memdev=far",
    ]  # fmt: skip


DISK = "format=raw,if=virtio,cache=unsafe"
_SLOW = f"throttling.bps-write={SLOW_RATE},throttling.group=slow"
_LAST = re.compile(r"@timeout|@exit (\d+)")  # a line of init.c's
_FAILURE = re.compile(r"Kernel panic|BUG:|Oops|general protection|unable to handle")

@dataclass(frozen=True)
class Machine:
    """A kernel image and what lies beside it. `release` is its `uname -r`; `config` the configuration it was built
    with; `modules` a folder with a file `order`; `probe` the module `gup_probe.ko`."""

    vmlinuz: Path
    release: str
    modules: Path | None
    probe: Path | None
    config: Path | None


@dataclass(frozen=True)
class Boot:
    """What a machine did. `lines` are the program's, without empty ones; `console` the kernel's and standard error's.
    `ended`: "done" (the program ended with `status`), "timeout", "silent" (it said nothing for too long), or "panic"
    (the machine ended by itself without that); `reason` says more, in a line, unless "done". `seconds` of wall time
    from qemu's start to its end, with `accelerator` "kvm" or "tcg"."""

    lines: tuple[str, ...]
    status: int | None
    ended: Literal["done", "timeout", "silent", "panic"]
    reason: str
    console: str
    seconds: float
    accelerator: str


def find(vmlinuz: Path) -> Machine:
    """The kernel at `vmlinuz` with its modules, probe module and configuration (`config` or `config-RELEASE`) as far as
    they lie beside it. Raises ModelError if it is not a kernel image, or its folder `modules` is incomplete."""
    release = image.release(vmlinuz)

    def beside(*names: str) -> Path | None:
        return next((path for name in names if (path := vmlinuz.parent / name).exists()), None)

    if modules := beside("modules"):
        _modules(modules)
    return Machine(vmlinuz, release, modules, beside("gup_probe.ko"), beside("config", f"config-{release}"))


def digest(machine: Machine) -> str:
    """Hash of the image and of what is loaded with it."""
    whole = hashlib.sha256()
    for path in (machine.vmlinuz, *(_modules(machine.modules) if machine.modules else ()), machine.probe):
        whole.update(hashlib.sha256(image.contents(path)).digest() if path else b"")
    return whole.hexdigest()[:16]


def boot(
    machine: Machine, suite: Path, arguments: Sequence[str] = (), *, seconds: float, append: str = "",
    on_line: Callable[[str], None] = lambda line: None, quiet: float = math.inf,
    meanwhile: Callable[[], bool] = lambda: False,
) -> Boot:
    """Run the static program `suite` with `arguments` as the only program of a fresh machine, for at most `seconds`
    of wall time, boot included, and until it has said nothing for `quiet` seconds. `append` is added to the kernel's
    command line; `on_line` gets each line as it comes. `meanwhile` is called as long as there is none to read: it does
    a little of the caller's work, and says whether there is more of it.

    Raises ModelError if qemu or the C compiler is missing or fails, or a file cannot be read."""
    qemu = tool(QEMU, "qemu-system-x86")
    accelerator = accelerator_of(qemu, machine.vmlinuz)
    archive = initramfs(files_of(machine, suite, arguments))
    with tempfile.TemporaryDirectory(prefix="proofs-vm-") as name:
        folder = Path(name)
        (folder / "initramfs").write_bytes(archive)
        kernel = entered_directly(machine.vmlinuz, folder) if accelerator == "tcg" else machine.vmlinuz
        for drive, size in (("swap", SWAP_BYTES), ("slow", SLOW_BYTES), ("busy", SLOW_BYTES)):
            with (folder / drive).open("wb") as disk:
                if drive != "swap":
                    disk.write(swap_header(size, SLOW_LABEL))
                disk.truncate(size)
        command = [
            qemu, "-accel", accelerator, *hardware(),
            "-drive", f"file={folder / 'swap'},{DISK}",
            "-drive", f"file={folder / 'slow'},{DISK},{_SLOW}", "-drive", f"file={folder / 'busy'},{DISK},{_SLOW}",
            "-kernel", str(kernel), "-initrd", str(folder / "initramfs"),
            "-append", f"{COMMAND_LINE} PROOFS_SECONDS={math.ceil(seconds)} {append}".strip(),
            "-serial", f"file:{folder / 'console'}", "-serial", "stdio",
        ]  # fmt: skip
        lines: list[str] = []
        status, cut = None, ""
        start = time.monotonic()
        with (folder / "errors").open("wb") as errors, running(command, errors) as process:
            try:
                for line in _lines(process, start + seconds, quiet, meanwhile):
                    lines.append(line)
                    if _LAST.fullmatch(line):
                        break
                    on_line(line)
                else:
                    status = process.wait(max(0.0, start + seconds - time.monotonic()))
            except subprocess.TimeoutExpired:
                cut = "silent" if time.monotonic() < start + seconds else "timeout"
            wall = time.monotonic() - start
        if status:
            said = _text(folder / "errors").splitlines() or [f"ended with status {status}"]
            raise ModelError(f"{QEMU}: {said[-1].removeprefix(QEMU + ': ')}")
        limit = quiet if cut == "silent" else seconds
        return _verdict(lines, cut, limit, _text(folder / "console"), wall, accelerator)


def entered_directly(vmlinuz: Path, folder: Path) -> Path:
    """The unpacked kernel, written into that folder; the image itself where it cannot be unpacked."""
    unpacked = image.unpacked(vmlinuz)
    if unpacked is None:
        return vmlinuz
    (folder / "vmlinux").write_bytes(unpacked)
    return folder / "vmlinux"


def swap_header(size: int, label: bytes) -> bytes:
    """The first page of a swap area of that size, as mkswap writes it: union swap_header, version 1."""
    described = struct.pack("<III16s16s", 1, size // 4096 - 1, 0, b"", label)
    return bytes(1024) + described + bytes(4096 - 1024 - len(described) - 10) + b"SWAPSPACE2"


def _verdict(lines: list[str], cut: str, limit: float, console: str, wall: float, accelerator: str) -> Boot:
    """`cut`: why it was killed, if not for its last line: it had not ended after the `limit` in seconds ("timeout"), or
    said nothing for so long ("silent")."""
    last = _LAST.fullmatch(lines[-1]) if lines else None
    if last:
        lines.pop()
    said = console.splitlines() or ["nothing"]
    worst = next((line for line in said if _FAILURE.search(line)), said[-1])
    ended: Literal["done", "timeout", "silent", "panic"]
    if last and last[1]:
        ended, reason = "done", ""
    elif last or cut == "timeout":
        ended, reason = "timeout", f"not done after {limit:g} s; the kernel said: {worst}"
    elif cut:
        ended, reason = "silent", f"it said nothing for {limit:g} s; the kernel said: {worst}"
    else:
        ended, reason = "panic", f"the machine ended by itself; the kernel said: {worst}"
    return Boot(tuple(lines), int(last[1]) if last and last[1] else None, ended, reason, console, wall, accelerator)


def _lines(
    process: subprocess.Popen[bytes], deadline: float, quiet: float = math.inf,
    meanwhile: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """What the process prints, line by line without the empty ones, until it closes its output, the deadline passes, or
    it is quiet for so long. `meanwhile`: as of `boot`.

    Raises subprocess.TimeoutExpired at the deadline, or when that time of quiet is over."""
    assert process.stdout
    pending = b""
    busy, end = True, min(deadline, time.monotonic() + quiet)
    while True:
        ready = select.select([process.stdout], [], [], 0 if busy else max(0.0, end - time.monotonic()))[0]
        if not ready and time.monotonic() >= end:
            break
        if not ready:
            busy = meanwhile()
            continue
        end = min(deadline, time.monotonic() + quiet)
        got = os.read(process.stdout.fileno(), 1 << 16)
        *complete, pending = (pending + got).split(b"\n")
        for line in complete + ([] if got else [pending]):
            if text := line.decode("utf-8", "replace").rstrip("\r"):
                yield text
        if not got:
            return
    raise subprocess.TimeoutExpired(process.args, 0)


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


def initramfs(files: Mapping[str, bytes]) -> bytes:
    """A gzipped cpio archive ("newc") of executable files by path, such as "modules/order", with their folders."""
    folders = {str(parent): b"" for path in files for parent in Path(path).parents if str(parent) != "."}
    archive = bytearray()
    for number, (path, data) in enumerate([*sorted(folders.items()), *files.items(), ("TRAILER!!!", b"")]):
        mode = 0o040755 if path in folders else 0o100755
        name = path.encode() + b"\0"
        # magic, inode, mode, uid, gid, links, mtime, size, device (2), device of a node (2), length of name, checksum
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return gzip.compress(bytes(archive), compresslevel=1, mtime=0)


def files_of(machine: Machine, suite: Path, arguments: Sequence[str]) -> dict[str, bytes]:
    """What the initramfs of such a run holds."""
    files = {
        "init": init_program(), "suite": image.contents(suite),
        "arguments": b"".join(os.fsencode(argument) + b"\0" for argument in arguments),
    }  # fmt: skip
    if machine.modules:
        files |= {f"modules/{path.name}": image.contents(path) for path in _modules(machine.modules)}
    if machine.probe:
        files["gup_probe.ko"] = image.contents(machine.probe)
    return files


def _modules(folder: Path) -> list[Path]:
    """`order` and the modules that it names. Raises ModelError if one is missing."""
    order = folder / "order"
    paths = [order, *(folder / line.split()[0] for line in image.contents(order).decode().splitlines() if line.strip())]
    if missing := next((path for path in paths if not path.is_file()), None):
        raise ModelError(f"{order} names {missing.name}, which is not there")
    return paths


@functools.cache
def init_program() -> bytes:
    """The first process, compiled."""
    with compiled((REPLAY / "init.c").read_text(encoding="utf-8"), "init") as program:
        return image.contents(program)


@contextlib.contextmanager
def compiled(text: str, name: str, options: Sequence[str] = ()) -> Iterator[Path]:
    """A static program of that C text, gone afterwards. `name`: what messages call it; `options`: of the compiler.

    Raises ModelError if the compiler is missing or fails."""
    with tempfile.TemporaryDirectory(prefix="proofs-vm-") as folder:
        source, program = Path(folder) / f"{name}.c", Path(folder) / name
        source.write_text(text, encoding="utf-8")
        command = [tool("cc", "gcc"), "-static", "-O1", *options, "-o", str(program), str(source)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            said = next((line for line in done.stderr.splitlines() if "error" in line), f"ended with {done.returncode}")
            raise ModelError(f"cc cannot compile {name}.c (Debian package libc6-dev?): {said}")
        yield program


def tool(name: str, package: str) -> str:
    """The path of a program. Raises ModelError if it is not installed, with its Debian `package`."""
    path = shutil.which(name)
    if path is None:
        raise ModelError(f"{name} is not installed (Debian package {package})")
    return path


@functools.cache
def accelerator_of(qemu: str, vmlinuz: Path, seconds: float = 10) -> Literal["kvm", "tcg"]:
    """"kvm" if this kernel gets as far as its first message under it in that time, else "tcg" (qemu's own emulation):
    /dev/kvm may exist and not work."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    command = [qemu, "-accel", "kvm", *hardware(), "-kernel", str(vmlinuz), "-append", COMMAND_LINE, "-serial", "stdio"]
    with running(command, subprocess.DEVNULL) as process:
        try:
            return "kvm" if any(_lines(process, time.monotonic() + seconds)) else "tcg"
        except subprocess.TimeoutExpired:
            return "tcg"


@contextlib.contextmanager
def running(command: Sequence[str], errors: IO[bytes] | int) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output is to be read, and which is gone afterwards whatever happens."""
    if setpriv := shutil.which("setpriv"):  # even if we are killed
        command = [setpriv, "--pdeathsig", "KILL", *command]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509  it only asks libc
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
