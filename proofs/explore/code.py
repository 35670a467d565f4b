"""LLVM text to machine code, which is kept on disk."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from proofs import store


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def cpu_features() -> frozenset[str]:
    """What this processor has."""
    return frozenset(name for name, has in llvm.get_host_cpu_features().items() if has)


def _target() -> Any:
    """A target machine; each engine takes one over, so they cannot share it."""
    _initialize()
    known = sorted(llvm.get_host_cpu_features())
    return llvm.Target.from_default_triple().create_target_machine(
        opt=1, cpu=llvm.get_host_cpu_name(),
        features=",".join(("+" if name in cpu_features() else "-") + name for name in known),
    )


PLANES = 0
"""Where bytecode says for how many planes it needs room."""


@dataclass(frozen=True)
class Assembly:
    """What machine code is made from. `shared` by models, and `settling`, for their symmetry: LLVM IR that follows
    `steps` and `claims`, which are bytecode.
    """

    shared: str
    settling: str
    steps: np.ndarray[Any, Any]
    claims: np.ndarray[Any, Any]

    @functools.cached_property
    def digest(self) -> str:
        """Hash of all on which it depends what is found."""
        parts = (self.shared.encode(), self.settling.encode(), self.steps.tobytes(), self.claims.tobytes())
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


class Code:
    """Compiled functions; keeps the engine that owns their memory alive.

    Object code is kept in the user's cache, named by a hash of what it was made from.
    """

    def __init__(self, assembly: Assembly) -> None:
        # In SSA form with common subterms shared already: optimisation passes cost more than they save.
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
        for text in (assembly.shared, assembly.settling):
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(_object(text)))
        self._engine.finalize_object()
        self._assembly = assembly
        self._expand = self._function("expand", ctypes.c_void_p, ctypes.c_void_p)
        self._inspect = self._function("inspect", ctypes.c_void_p, ctypes.c_void_p)
        self.rehash = self._function("rehash", ctypes.c_int64)
        self.settle = self._function("settle", ctypes.c_int64)

    def expand(self, context: ctypes.c_void_p, end: int) -> None:
        """Make the successors of the states from the cursor to `end`, while the table has room."""
        self._follow(self._expand, context, self._assembly.steps, end)

    def inspect(self, context: ctypes.c_void_p, start: int) -> None:
        """Look at the claims in the states from number `start` on."""
        self._follow(self._inspect, context, self._assembly.claims, start)

    def _follow(self, function: Any, context: ctypes.c_void_p, program: np.ndarray[Any, Any], number: int) -> None:
        # A plane is as wide as a cache line, and is to lie in one.
        planes = np.empty(8 * (int(program[PLANES]) + 1), np.uint64)
        function(context, program.ctypes.data, -(-planes.ctypes.data // 64) * 64, number)

    def _function(self, name: str, *between: Any) -> Any:
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, *between, ctypes.c_int64)
        return prototype(self._engine.get_function_address(name))


def _object(text: str) -> bytes:
    """Object code of LLVM IR for this processor, kept or made."""
    made_for = f"{llvm.llvm_version_info} {llvm.get_host_cpu_name()} {sorted(cpu_features())}"
    name = hashlib.sha256(f"{made_for}\n{text}".encode()).hexdigest()[:32] + ".o"
    kept = kept_object(name)
    if kept is None:
        kept = bytes(_target().emit_object(llvm.parse_assembly(text)))
        keep_object(name, kept)
    return kept


KEPT_OBJECTS = 512
"""Files of object code in the user's cache, some 10 KB each, two dozen from a default check; those that were not used
for longest make room."""


def kept_object(name: str) -> bytes | None:
    """What was kept under that name; None if nothing was, or it is not whole."""
    try:
        path = store.user_cache() / name
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
        directory = store.user_cache()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = directory / f"{name}.{os.getpid()}"
        written.write_bytes(hashlib.sha256(code).digest() + code)
        written.replace(directory / name)
        oldest = sorted(directory.glob("*.o"), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_OBJECTS:]
        for path in oldest:
            path.unlink(missing_ok=True)
