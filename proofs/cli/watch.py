"""Running a command again whenever a file changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from proofs.naming import user_files
from proofs.naming.specs import file_in

INTERVAL = 0.5
"""Seconds between two looks at the files."""


def sources() -> list[Path]:
    """The files of this program on which results depend."""
    root = Path(__file__).parents[2]
    return [path for package in ("model", "invariants", "proofs") for path in sorted((root / package).rglob("*.py"))]


def files_of(specs: Iterable[str]) -> list[Path]:
    """The users' files among kernels' and invariants' specs."""
    return [file for spec in specs if (file := file_in(spec)) is not None]


def watch(arguments: Sequence[str], paths: Sequence[Path], tell: Callable[[str], Any]) -> int:
    """Run `python -m proofs` with those arguments, and again after each change of one of the paths, or of what the run
    read of users' files, until interrupted.

    Returns the exit code of the last run. A process of its own for each run: it reads everything anew.
    """
    code = 0
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "read"
        environment = {**os.environ, user_files.LOG: str(log)}
        try:
            while True:
                log.write_text("", encoding="utf-8")
                before: dict[Path, user_files.Stamp | None] = {path: user_files.stamp(path) for path in paths}
                command = [sys.executable, "-m", "proofs", *arguments]
                code = subprocess.run(command, env=environment, check=False).returncode
                before |= noted(log)
                tell(f"exit code {code}; waiting for a change, Ctrl-C ends")
                while all(user_files.stamp(path) == then for path, then in before.items()):
                    time.sleep(INTERVAL)
        except KeyboardInterrupt:
            return code


def noted(log: Path) -> dict[Path, user_files.Stamp | None]:
    """What processes noted in the file: each file that they read, or (None) missed, as the first of them found it."""
    found: dict[Path, user_files.Stamp | None] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        path, told = json.loads(line)
        found.setdefault(Path(path), None if told is None else (told[0], told[1]))
    return found
