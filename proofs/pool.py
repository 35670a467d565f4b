"""Work spread over processes, given back piece by piece as it gets done."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


_listeners: list[Callable[[Any], Any]] = []
"""Who is told, here or by way of a worker's channel."""


def tell(message: Any) -> None:
    """Tell whoever waits for this work how far it is."""
    for listener in _listeners:
        listener(message)


@contextlib.contextmanager
def heard_here(listener: Callable[[Any], Any]) -> Iterator[None]:
    """Within, what is told in this process is heard."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Linux ends this process when the thread that started it ends, by whatever it is; elsewhere nothing happens.

    Also as a `preexec_fn`.
    """
    if _LIBRARY is not None:
        _LIBRARY.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(parent: Any) -> None:
    """End when the parent does, where the system does not see to it."""
    wait([parent.sentinel])
    os._exit(1)


def _started(channel: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # A parent that had ended before would not have been noticed.
    threading.Thread(target=_watch, args=(multiprocessing.parent_process(),), daemon=True).start()
    _listeners.append(channel.put)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C; this one hears of it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def each_done(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int,
    heard: Callable[[Any], Any] = lambda message: None,
) -> Iterator[tuple[Item, Result]]:
    """(item, function(item)) in the order in which they end. `heard` gets what the function tells meanwhile.

    What the function raises is raised here; a worker that died is a BrokenProcessPool. Leaving early, by an interrupt
    or otherwise, ends the workers; so does the end of this process, even by SIGKILL.
    """
    if not items:
        return
    context = multiprocessing.get_context("spawn")
    channel = context.SimpleQueue()
    listener = threading.Thread(target=lambda: [heard(message) for message in iter(channel.get, None)], daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(
        min(workers, len(items)), mp_context=context, initializer=_started, initargs=(channel,)
    )
    try:
        with _uninterrupted():
            asked = {pool.submit(function, item): item for item in items}
        for future in as_completed(asked):
            yield asked[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        # While the workers live: one that is ended amid telling keeps the channel's lock for ever.
        channel.put(None)
        for process in multiprocessing.active_children():
            process.terminate()
