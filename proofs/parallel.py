"""Work spread over processes, given back piece by piece as it gets done."""

from __future__ import annotations

import atexit
import collections
import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import z3

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
    """End when the parent does."""
    wait([parent.sentinel])
    os._exit(1)


_started: dict[Any, int] = {}
"""The worker processes that nobody has waited for yet, and by which process they were started."""


def _end_started() -> None:
    for process, starter in _started.items():
        if starter == os.getpid():
            process.terminate()


# Python waits for them when it ends, for ever if an error keeps alive whoever gives them work. This comes before that.
atexit.register(_end_started)

TOLD, DONE, FAILED = range(3)
"""What a worker sends: a message on how far it is, a result, or what was raised."""


def _work(function: Callable[[Any], Any], channel: Connection) -> None:
    """What a worker does: the items that it gets, one after the other, until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Else z3 hears it all the same, and gives up: its answer would be told before this process is ended.
    z3.set_param("ctrl_c", False)
    end_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        # It was gone before: of that nobody is told.
        os._exit(1)
    if _LIBRARY is None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    _listeners.append(lambda message: channel.send((TOLD, message)))
    # Who has gone waits for nothing.
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            item = channel.recv()
            try:
                answer = (DONE, function(item))
                pickled = ForkingPickler.dumps(answer)
            except Exception as error:
                pickled = ForkingPickler.dumps((FAILED, _portable(error)))
            channel.send_bytes(pickled)


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note, or one that says the same where it cannot be sent."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__} in a worker: {error}")
    return error


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C; this one hears of it, and of SIGTERM, afterwards."""
    heard: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        # A mask alone does not put it off: a library's thread takes the signal, and Python handles it in this one.
        handlers = {n: signal.signal(n, lambda n, _: heard.append(n)) for n in (signal.SIGINT, signal.SIGTERM)}
    # It would be started with the first process, and unblock the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in heard:
            signal.raise_signal(number)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Processes that are started meanwhile do not execute the main file again: what they do is all in modules."""
    main = vars(sys.modules["__main__"])
    kept: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)


def each_done(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int,
    heard: Callable[[Any], Any] = lambda message: None,
) -> Iterator[tuple[Item, Result]]:
    """(item, function(item)) in the order in which they end. `heard` gets what the function tells meanwhile.

    With no `workers` this process does the items, one after the other.

    What the function raises is raised here; a worker that died is a BrokenProcessPool. Leaving early, by an interrupt
    or otherwise, ends the workers; so does the end of this process, even by SIGKILL. There are no threads, which for
    want of memory may fail unnoticed.
    """
    if not workers:
        with heard_here(heard):
            yield from ((item, function(item)) for item in items)
        return
    context = multiprocessing.get_context("spawn")
    waiting = collections.deque(items)
    busy: dict[Connection, Item] = {}
    processes: list[Any] = []

    def give(channel: Connection) -> None:
        if waiting:
            busy[channel] = waiting.popleft()
            channel.send(busy[channel])

    try:
        for _ in range(min(workers, len(items))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(function, theirs))
            with _uninterrupted(), _without_main():
                process.start()
                processes.append(process)
                _started[process] = os.getpid()
            # Else its death would not be an end of what it sends.
            theirs.close()
            give(ours)
        while busy:
            for channel in wait(list(busy)):
                assert isinstance(channel, Connection)
                kind, value = channel.recv()
                if kind == TOLD:
                    heard(value)
                    continue
                item = busy.pop(channel)
                if kind == FAILED:
                    raise value
                give(channel)
                yield item, value
    except (EOFError, ConnectionError) as error:
        raise BrokenProcessPool("a worker process ended") from error
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
            _started.pop(process, None)
