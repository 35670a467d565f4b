"""The command line: `python -m proofs`. Exit codes are in errors.py; bad input is one line on stderr."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import z3

from proofs.cli.app import app, complain
from proofs.cli.ending import explained
from proofs.errors import INCONCLUSIVE, OK

GROUPS = {
    "tables": ("check", "coverage"), "traces": ("show", "explore", "retell", "export"),
    "tests": ("litmus", "matrix", "diff"), "hardware": ("reproducer", "selftest", "replay", "conform"),
    "proofs": ("verify", "restrict", "cost"), "kernels": ("new-kernel", "new-invariant", "list"), "source": ("source",),
}
"""The files with commands, and which each has, in the order in which `--help` lists them."""
_loaded = app.registered_commands
SWALLOWS = ("__del__", "from_param")
"""Functions out of which no exception comes: Python reports what a finalizer raises, ctypes what a conversion does."""


def interrupt(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt: a little later where it would be swallowed, or leave one of z3's objects half made.

    Such an object is freed without having been counted, which Python complains of, or z3 crashes.
    """
    _taken[0] += 1
    _looked_at.clear()
    # What has come by now is taken by this call, or by one that follows it at once.
    with contextlib.suppress(BlockingIOError):
        for heard in _waking[:1]:
            os.read(heard, 1 << 12)
    while frame is not None:
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
        if name in SWALLOWS or (name == "__init__" and module.startswith("z3.")):
            again = threading.Timer(0.01, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def take_signals() -> None:
    """From now on SIGTERM, and SIGINT unless it is ignored, raise KeyboardInterrupt here, also amid a search of z3's.

    By itself z3 keeps SIGINT while it searches, answers unknown, and nobody hears that there was one.
    """
    # Ended by `timeout` or a job control, we end our workers as after Ctrl-C, even where that is ignored.
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    z3.set_param("ctrl_c", False)
    if _waking:
        return
    _waking.extend(os.pipe())
    for end in _waking:
        os.set_blocking(end, False)
    signal.set_wakeup_fd(_waking[1], warn_on_full_buffer=False)
    # Without memory for a thread, the search ends first.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=_end_searches, args=(_waking[0],), daemon=True).start()


_waking: list[int] = []
"""The pipe into which Python writes the number of each signal at once, whatever the main thread does."""
_taken = [0]
"""How often `interrupt` was called."""
PATIENCE = 0.1
"""Seconds in one call of z3's, with a signal that is not taken, after which the call is ended."""
ATTEMPTS = 100
"""z3 may be where it does not look yet whether it is to end."""


_looked_at: list[tuple[FrameType, z3.Context]] = []
"""Calls that the other thread has looked at: what they hold of z3's is freed in the main thread, or z3 crashes."""


def _end_searches(heard: int) -> None:
    while True:
        before = _taken[0]
        select.select([heard], [], [])
        numbers = b""
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(heard, 1 << 12)
        # Whoever has put another handler in the place of ours says what a signal ends.
        if not any(signal.getsignal(n) is interrupt for n in {signal.SIGINT, signal.SIGTERM} & {*numbers}):
            continue
        # A signal is taken before anything else is called: one that waits does so for the call that there was.
        call = _call_of_z3()
        if call is None:
            continue
        context = _context_of(call)
        for _ in range(ATTEMPTS):
            time.sleep(PATIENCE)
            if _taken[0] != before or _call_of_z3() is not call:
                break
            # It asks whether there was an error, which may be the end of the search itself.
            with contextlib.suppress(z3.Z3Exception):
                context.interrupt()
        _looked_at.append((call, context))
        del call, context


def _context_of(call: FrameType) -> z3.Context:
    """The context in which that call is, which may be one of its own; held, so that it is there to be interrupted."""
    caller = call.f_back
    context = getattr(caller.f_locals.get("self"), "ctx", None) if caller is not None else None
    return context if isinstance(context, z3.Context) else z3.main_ctx()


def _call_of_z3() -> FrameType | None:
    """The call into z3's library in which the main thread is; None if it is elsewhere."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return frame if frame is not None and frame.f_globals.get("__name__") == "z3.z3core" else None


def load(given: Sequence[str]) -> None:
    """Load the file of the command that is given, or all files if it is in none: one is loaded in half the time."""
    command = next((word for word in given if not word.startswith("-")), "")
    for group in [group for group, commands in GROUPS.items() if command in commands] or GROUPS:
        importlib.import_module(f"proofs.cli.{group}")
    order = [f"proofs.cli.{group}" for group in GROUPS]
    _loaded.sort(key=lambda each: order.index(each.callback.__module__) if each.callback else 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        load(given)
        if threading.current_thread() is threading.main_thread():
            take_signals()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # A file's name, or a terminal, may know other characters than ours.
                stream.reconfigure(errors="backslashreplace")
        result = app(args=given or ["--help"], obj=given, standalone_mode=False, prog_name="python -m proofs")
        # typer's own answer to Ctrl-C.
        code = complain("interrupted", INCONCLUSIVE) if result == 130 else int(result or OK)
    except (BrokenPipeError, SystemExit):
        # Whoever read our output has gone, which typer makes an exit of. No verdict is told, so none is claimed.
        code = INCONCLUSIVE
    except (KeyboardInterrupt, Exception) as error:
        code = complain(*explained(error))
    # Python ends by SIGINT where an interrupt once left the text of an exec, as dataclasses have, until another is run.
    exec("")
    return _flushed(code)


def _flushed(code: int) -> int:
    """The exit code, once everything is written that was printed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = INCONCLUSIVE
    except OSError as error:
        code = complain(f"cannot write the results: {error.strerror}", INCONCLUSIVE)
    else:
        return code
    # What could not be written would be tried again, and complained of, on leaving.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
