"""How far long work has come: a bar on a terminal, elsewhere a line now and then. All on standard error."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from proofs.cli.app import say

EVERY = 30.0
"""Seconds between two lines where no terminal shows a bar, and before the first."""


class SaidNowAndThen:
    """Says how far work has come: each step on a terminal, elsewhere one in EVERY seconds."""

    def __init__(self) -> None:
        self.since = time.monotonic()

    def __call__(self, what: str) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() or now - self.since >= EVERY:
            self.since = now
            say(what)


class Lines(Progress):
    """Progress in lines, for logs: nothing of work that is done sooner than EVERY seconds after it began."""

    def __init__(self) -> None:
        super().__init__(console=Console(stderr=True), disable=True)
        self._said = SaidNowAndThen()

    def update(self, task_id: TaskID, *args: Any, **fields: Any) -> None:
        super().update(task_id, *args, **fields)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task = next(task for task in self.tasks if task.id == task_id)
        if not task.finished:
            of = "" if task.total is None else f" of {task.total:.0f}"
            self._said(f"{task.description}: {task.completed:.0f}{of} done")


def progress_bar() -> Progress:
    """A bar on a terminal; elsewhere lines."""
    return Progress(console=Console(stderr=True), transient=True) if sys.stderr.isatty() else Lines()
