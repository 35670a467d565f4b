"""Marks for tests on real kernels: those of PROOFS_KERNELS, in virtual machines (tools/fetch-kernels)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (Debian package gcc)")


def kernels() -> list[Path]:
    folder = os.environ.get("PROOFS_KERNELS")
    return sorted(Path(folder).glob("*/vmlinuz")) if folder else []


def real_kernels(test: Callable[..., None]) -> Callable[..., None]:
    for mark in (
        pytest.mark.slow, needs_compiler,
        pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no qemu (its Debian package)"),
        pytest.mark.skipif(not kernels(), reason="PROOFS_KERNELS names no kernels (tools/fetch-kernels)"),
        pytest.mark.parametrize("image", kernels(), ids=lambda path: path.parent.name),
    ):
        test = mark(test)
    return test
