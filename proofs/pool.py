"""Work spread over processes, given back piece by piece as it gets done."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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


def _started(channel: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _listeners.append(channel.put)


def each_done(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int,
    heard: Callable[[Any], Any] = lambda message: None,
) -> Iterator[tuple[Item, Result]]:
    """(item, function(item)) in the order in which they end. `heard` gets what the function tells meanwhile.

    What the function raises is raised here; a worker that died is a BrokenProcessPool. Leaving early, by an interrupt
    or otherwise, ends the workers.
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
        asked = {pool.submit(function, item): item for item in items}
        for future in as_completed(asked):
            yield asked[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        # While the workers live: one that is ended amid telling keeps the channel's lock for ever.
        channel.put(None)
        for process in multiprocessing.active_children():
            process.terminate()
