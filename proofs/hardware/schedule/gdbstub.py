"""The GDB remote protocol, as far as qemu's stub needs it to steer processors one by one.

Source: "GDB Remote Serial Protocol", appendix of the GDB manual; what is qemu's own in docs/system/gdb.rst of qemu.
A thread of the protocol is a virtual processor, numbered from 1.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from proofs.errors import NotObservable

GENERAL = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)), "rip",
)
"""General registers in the order of the protocol."""
BREAKPOINT, WRITTEN, READ = 1, 2, 3
"""Kinds of points, by the numbers of the packets Z and z."""
_NO_INTERRUPTS = 3  # of Qqemu.sstep: a single step takes no interrupts (2); timers run on, or a clock would stand still
_MOST_BYTES = 1024  # of memory in one packet
_ANSWER = 30.0  # seconds in which the stub answers what is no resumption


class Gone(Exception):
    """The machine has ended, or speaks another language."""


@dataclass(frozen=True)
class Stop:
    """Why the machine stands: at which processor, and at what. `kind`: "break" (a breakpoint, a step, an interrupt),
    else "watch", "rwatch" or "awatch", for an access to `address`, which is done by then."""

    cpu: int
    kind: str
    address: int = 0


@dataclass(frozen=True)
class Registers:
    """Registers of one processor: the general ones and rip by name, and what says where it is."""

    values: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.values[name]

    @property
    def interrupts(self) -> bool:
        """It takes interrupts (IF)."""
        return bool(self["eflags"] & 0x200)

    @property
    def user(self) -> bool:
        """It is in user space."""
        return self["cs"] & 3 == 3


def registers_of(raw: bytes) -> Registers:
    """The registers in the answer to `g`, as qemu's i386-64bit.xml orders them. Raises Gone for too few bytes."""
    try:
        values = dict(zip(GENERAL, struct.unpack_from("<17Q", raw), strict=True))
        values["eflags"], values["cs"] = struct.unpack_from("<II", raw, 136)
        values["fs_base"], _, _, _, _, values["cr3"] = struct.unpack_from("<6Q", raw, 164)
    except struct.error:
        raise Gone(f"the stub gave {len(raw)} bytes of registers") from None
    return Registers(values)


class Stub:
    """A connection. What it raises: Gone if the machine ends, or does not do what is asked."""

    def __init__(self, path: Path, seconds: float = 10.0) -> None:
        """Connect to the Unix socket as soon as it is there, for at most so long."""
        self._socket = _connected(path, seconds)
        self._buffer = b""
        self.ask("qSupported:vContSupported+")
        self.ask("qXfer:features:read:target.xml:0,ffb")  # without it qemu knows no packet P
        self.ask("?")
        self.done(f"Qqemu.sstep={_NO_INTERRUPTS:x}")
        if b"c;" not in self.ask("vCont?"):
            raise Gone("the stub cannot resume one processor by itself")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    # Packets

    def _send(self, text: str) -> None:
        data = text.encode()
        try:
            self._socket.sendall(b"$%s#%02x" % (data, sum(data) & 255))
        except OSError as error:
            raise Gone(str(error)) from error

    def _byte(self, end: float) -> bytes:
        """The next byte; empty if there is none until then."""
        if not self._buffer:
            self._socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                self._buffer = self._socket.recv(1 << 16)
            except TimeoutError:
                return b""
            except OSError as error:
                raise Gone(str(error)) from error
            if not self._buffer:
                raise Gone("the machine has ended")
        byte, self._buffer = self._buffer[:1], self._buffer[1:]
        return byte

    def _packet(self, seconds: float) -> bytes | None:
        """The next packet; None if none begins in time."""
        end = time.monotonic() + seconds
        while (byte := self._byte(end)) != b"$":
            if not byte:
                return None
        data, end = b"", time.monotonic() + _ANSWER
        while (byte := self._byte(end)) != b"#":
            if not byte:
                raise Gone("half a packet")
            data += byte
        checksum = self._byte(end) + self._byte(end)
        if checksum != b"%02x" % (sum(data) & 255):
            raise Gone(f"a packet with a wrong checksum: {data[:40]!r}")
        with contextlib.suppress(OSError):  # the next packet will tell
            self._socket.sendall(b"+")
        return data

    def ask(self, text: str) -> bytes:
        """What the stub answers to a packet."""
        self._send(text)
        answer = self._packet(_ANSWER)
        if answer is None:
            raise Gone(f"no answer to {text[:40]}")
        return answer

    def done(self, text: str) -> None:
        """Ask for what is answered by OK."""
        if (answer := self.ask(text)) != b"OK":
            raise Gone(f"{text[:40]} is answered by {answer[:40]!r}")

    def monitor(self, command: str) -> str:
        """What a command of qemu's monitor says."""
        answer, said = self.ask("qRcmd," + command.encode().hex()), b""
        while answer.startswith(b"O") and answer != b"OK":
            said += bytes.fromhex(answer[1:].decode())
            answer = self._packet(_ANSWER) or b""
        return said.decode("utf-8", "replace")

    # What a processor knows

    def registers(self, cpu: int) -> Registers:
        """Registers of a processor, whose memory is read and written from then on."""
        self.done(f"Hg{cpu:x}")
        return registers_of(bytes.fromhex(self.ask("g").decode()))

    def set_register(self, cpu: int, name: str, value: int) -> None:
        """Give a general register of a processor, or its rip, that value."""
        self.done(f"Hg{cpu:x}")
        self.done(f"P{GENERAL.index(name):x}={struct.pack('<Q', value).hex()}")

    def read(self, address: int, length: int) -> bytes:
        """Memory as the processor asked last sees it."""
        found = b""
        while len(found) < length:
            answer = self.ask(f"m{address + len(found):x},{min(_MOST_BYTES, length - len(found)):x}")
            if answer.startswith(b"E") or not answer:
                raise Gone(f"nothing can be read at {address + len(found):#x}")
            found += bytes.fromhex(answer.decode())
        return found

    def number(self, address: int, length: int = 8) -> int:
        """The little-endian number of so many bytes there."""
        return int.from_bytes(self.read(address, length), "little")

    def write(self, address: int, data: bytes) -> None:
        """Change memory, whether or not it may be written, as the processor asked last sees it."""
        self.done(f"M{address:x},{len(data):x}:{data.hex()}")

    # Where it stops

    def insert(self, kind: int, address: int, length: int = 1) -> None:
        """Stop where that is executed (BREAKPOINT), or after it was WRITTEN or READ."""
        self.done(f"Z{kind},{address:x},{length:x}")

    def remove(self, kind: int, address: int, length: int = 1) -> None:
        """Undo `insert`."""
        self.done(f"z{kind},{address:x},{length:x}")

    def resume(self, cpus: Iterable[int]) -> None:
        """Let these processors run, all others stand."""
        self._send("vCont" + "".join(f";c:{cpu:x}" for cpu in cpus))

    def wait(self, seconds: float) -> Stop | None:
        """Where it stops; None if it still runs after that time."""
        answer = self._packet(seconds)
        return None if answer is None else stop_of(answer)

    def interrupt(self) -> Stop:
        """Stop it now. It may have stopped by itself just before."""
        try:
            self._socket.sendall(b"\x03")
        except OSError as error:
            raise Gone(str(error)) from error
        stop = self.wait(_ANSWER)
        if stop is None:
            raise Gone("the machine does not stop")
        return stop

    def step(self, cpu: int) -> None:
        """Let a processor execute one instruction."""
        self._send(f"vCont;s:{cpu:x}")
        if self.wait(_ANSWER) is None:
            raise Gone("a single step does not end")


def stop_of(answer: bytes) -> Stop:
    """A stop reply, such as `T05thread:02;watch:ffff888000001000;`. Raises Gone for any other."""
    text = answer.decode("ascii", "replace")
    parts = dict(part.split(":", 1) for part in text[3:].split(";") if ":" in part)
    if not text.startswith("T") or "thread" not in parts:
        raise Gone(f"the machine has ended: {text[:40]}")
    cpu = int(parts["thread"].rpartition(".")[2], 16)
    for kind in ("watch", "rwatch", "awatch"):
        if kind in parts:
            return Stop(cpu, kind, int(parts[kind], 16))
    return Stop(cpu, "break")


def _connected(path: Path, seconds: float) -> socket.socket:
    end = time.monotonic() + seconds
    while True:
        found = socket.socket(socket.AF_UNIX)
        try:
            found.connect(str(path))
        except OSError as error:
            found.close()
            if time.monotonic() > end:
                raise NotObservable(f"qemu's gdbstub does not answer: {error.strerror}") from error
            time.sleep(0.02)
        else:
            return found
