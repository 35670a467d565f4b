"""LLVM text to machine code: compiled, in a process of its own where it is long, and kept on disk."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from proofs.clock import look, seconds_left
from proofs.errors import OutOfTime
from proofs.parallel import end_with_parent


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def cpu_features() -> frozenset[str]:
    """What this processor has."""
    return frozenset(name for name, has in llvm.get_host_cpu_features().items() if has)


def _target(level: int) -> Any:
    """A target machine; each engine takes one over, so they cannot share it."""
    _initialize()
    known = sorted(llvm.get_host_cpu_features())
    return llvm.Target.from_default_triple().create_target_machine(
        opt=level, cpu=llvm.get_host_cpu_name(),
        features=",".join(("+" if name in cpu_features() else "-") + name for name in known),
    )


WORTH_A_PROCESS = 1 << 20
"""Characters of machine code whose compilation takes about a second, and may have to be ended before it is done."""


def _compiled(text: str, level: int) -> bytes:
    """Object code. Raises OutOfTime where it is not made by then."""
    seconds = seconds_left()
    if seconds is None or len(text) < WORTH_A_PROCESS:
        return bytes(_target(level).emit_object(llvm.parse_assembly(text)))
    # LLVM cannot be told to stop.
    program = f"import sys; sys.path.insert(0, sys.argv[1]); from {__name__} import _compile; _compile({level})"
    look()
    try:
        return subprocess.run(
            [sys.executable, "-P", "-c", program, str(Path(__file__).parents[2])], input=text.encode(),
            stdout=subprocess.PIPE, check=True, timeout=seconds,
        ).stdout
    except subprocess.TimeoutExpired:
        raise OutOfTime("the time is over") from None
    except subprocess.CalledProcessError as error:
        raise MemoryError("the compiler was ended") from error


def _compile(level: int) -> None:
    """What that process does: from standard input to standard output."""
    end_with_parent()
    text = sys.stdin.buffer.read().decode()
    sys.stdout.buffer.write(_target(level).emit_object(llvm.parse_assembly(text)))


class Code:
    """Compiled functions; keeps the engine that owns their memory alive. Raises OutOfTime.

    `optimised`: takes longer to compile and runs two to three times as fast; taken anyway where it is kept from before.
    Object code is kept in the user's cache, named by a hash of what it was made from.
    """

    def __init__(self, text: str, optimised: bool) -> None:
        made_for = f"{llvm.llvm_version_info} {llvm.get_host_cpu_name()} {sorted(cpu_features())}"
        name = hashlib.sha256(f"{made_for}\n{text}".encode()).hexdigest()[:32]
        kept = kept_object(f"{name}.1.o")
        self.optimised = optimised or kept is not None
        level = int(self.optimised)
        kept = kept or kept_object(f"{name}.{level}.o")
        if kept is None:
            # In SSA form with common subterms shared already: optimisation passes cost more than they save.
            kept = _compiled(text, level)
            keep_object(f"{name}.{level}.o", kept)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target(level))
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(kept))
        self._engine.finalize_object()
        self.expand = self._function("expand")
        self.inspect = self._function("inspect")
        self.rehash = self._function("rehash")
        self.settle = self._function("settle")

    def _function(self, name: str) -> Any:
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        return prototype(self._engine.get_function_address(name))


KEPT_OBJECTS = 512
"""Files of object code in the user's cache, some 100 KB each, a hundred from a default check; those that were not used
for longest make room."""


def _kept_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cow-proofs"


def kept_object(name: str) -> bytes | None:
    """What was kept under that name; None if nothing was, or it is not whole."""
    try:
        path = _kept_directory() / name
        content = path.read_bytes()
    except (OSError, RuntimeError):
        return None
    with contextlib.suppress(OSError):
        path.touch()
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def keep_object(name: str, code: bytes) -> None:
    """Keep object code for the next time; where nothing can be written, nothing is kept."""
    with contextlib.suppress(OSError, RuntimeError):
        directory = _kept_directory()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = directory / f"{name}.{os.getpid()}"
        written.write_bytes(hashlib.sha256(code).digest() + code)
        written.replace(directory / name)
        oldest = sorted(directory.glob("*.o"), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_OBJECTS:]
        for path in oldest:
            path.unlink(missing_ok=True)
