"""How a run ends that cannot go on: what to say of it, on one line, and the exit code."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import z3
from typer.exceptions import Abort, TyperException

from model.blame import reason_of
from proofs.errors import ENDINGS, INCONCLUSIVE, INTERNAL, USAGE

_MISTAKEN = (
    errno.EACCES, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT,
    errno.ENOTDIR, errno.EPERM, errno.EROFS, errno.ENXIO,
)
"""Of what the system says of a file: what another path would mend. All else is want of something, or bad luck."""


def is_mistaken(error: OSError) -> bool:
    """The user named a file that cannot be one; otherwise disk, memory or something else gave out."""
    return error.errno in _MISTAKEN


def explained(error: BaseException) -> tuple[str, int]:
    """What to say of an error that ended a run, on one line, and the exit code."""
    if isinstance(error, TyperException):
        return error.format_message(), USAGE
    if isinstance(error, (Abort, KeyboardInterrupt)):
        return "interrupted", INCONCLUSIVE
    for kind, (before, code) in ENDINGS.items():
        if isinstance(error, kind):
            return f"{before}{error}", code
    if isinstance(error, BrokenProcessPool):
        return "a worker process was killed, probably for want of memory; try a smaller scope", INCONCLUSIVE
    if _lacks_memory(error):
        return "out of memory; try a smaller scope, or --workers 1", INCONCLUSIVE
    if isinstance(error, OSError) and error.errno is not None:
        said = os.strerror(error.errno)
        if not isinstance(error.filename, str | bytes):
            return f"cannot go on: {said}", INCONCLUSIVE
        return f"{os.fsdecode(error.filename)}: {said}", USAGE if is_mistaken(error) else INCONCLUSIVE
    return f"internal error: {reason_of(error)}{_innermost(error)}{_kept(error)}", INTERNAL


def _lacks_memory(error: BaseException) -> bool:
    return (
        isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, z3.Z3Exception) and "out of memory" in reason_of(error))
    )


def _innermost(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _kept(error: BaseException) -> str:
    """`; traceback in FILE`, or nothing where no file can be written."""
    try:
        text = "".join(traceback.format_exception(error))
        with tempfile.NamedTemporaryFile(
            "w", prefix="cow-proofs-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file:
            file.write(text)
    except Exception:
        # The disk is full, or the error itself cannot be shown: the line has to do.
        return ""
    return f"; traceback in {file.name}"
