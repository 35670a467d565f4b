"""Time limits: which there may be, and work that looks at the clock while it goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

from model.logic import ModelError
from proofs.errors import OutOfTime

LONGEST = 1_000_000
"""Seconds that a time limit may be at most, eleven days: solvers count milliseconds in 32 bits."""
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def check_time(*limits: float | None) -> None:
    """Raises ModelError for what is no time limit in seconds; None is one."""
    for limit in limits:
        if limit is not None and not 0 < limit <= LONGEST:
            raise ModelError(f"a time limit is more than 0 seconds and at most {LONGEST:,}, not {limit:g}")


@contextlib.contextmanager
def done_by(deadline: float | None) -> Iterator[None]:
    """Within, `look` raises OutOfTime from that time of the monotonic clock on; never without one."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


@contextlib.contextmanager
def uncounted(most: float) -> Iterator[None]:
    """What is done within is not counted, but may take no longer than `most` seconds: the deadline around, if there is
    one, is put off by what it took."""
    before, started = _deadline.get(), time.monotonic()
    token = _deadline.set(started + most)
    try:
        yield
    finally:
        _deadline.reset(token)
        if before is not None:
            _deadline.set(before + time.monotonic() - started)


def seconds_left() -> float | None:
    """The seconds until then, None for as many as wanted."""
    deadline = _deadline.get()
    return None if deadline is None else deadline - time.monotonic()


def look() -> None:
    """Raises OutOfTime if the time is over."""
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline:
        raise OutOfTime("the time is over")
