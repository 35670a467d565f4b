"""Running a command again whenever a file changes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

INTERVAL = 0.5
"""Seconds between two looks at the files."""


def stamps(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """(time of the last change, size) of those that are there."""
    found = {}
    for path in paths:
        try:
            told = path.stat()
        except OSError:
            continue
        found[path] = (told.st_mtime_ns, told.st_size)
    return found


def sources() -> list[Path]:
    """The files of this program on which results depend."""
    root = Path(__file__).parent.parent
    return [path for package in ("model", "invariants", "proofs") for path in sorted((root / package).glob("*.py"))]


def files_of(specs: Iterable[str]) -> list[Path]:
    """The users' files among kernels' and invariants' specs."""
    found = [re.match(r"(?:bare:)?(.*\.py)(?=$|[:@+])", spec) for spec in specs]
    return [Path(match[1]) for match in found if match]


def watch(arguments: Sequence[str], paths: Sequence[Path], tell: Callable[[str], Any]) -> int:
    """Run `python -m proofs` with those arguments, and again after each change of one of the paths, until interrupted.

    Returns the exit code of the last run. A process of its own for each run: it reads everything anew.
    """
    code = 0
    try:
        while True:
            before = stamps(paths)
            code = subprocess.run([sys.executable, "-m", "proofs", *arguments], check=False).returncode
            tell(f"exit code {code}; waiting for a change, Ctrl-C ends")
            while stamps(paths) == before:
                time.sleep(INTERVAL)
    except KeyboardInterrupt:
        return code
