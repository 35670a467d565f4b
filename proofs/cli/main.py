"""The command line: `python -m proofs`. Exit codes are in errors.py; bad input is one line on stderr."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from proofs.cli.app import app, complain
from proofs.cli.ending import explained
from proofs.errors import INCONCLUSIVE, OK

# `--help` lists the commands in the order in which these files are loaded.
for group in ("tables", "traces", "tests", "hardware", "proofs", "kernels", "source"):
    importlib.import_module(f"proofs.cli.{group}")
SWALLOWS = ("__del__", "from_param")
"""Functions out of which no exception comes: Python reports what a finalizer raises, ctypes what a conversion does."""


def interrupt(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt: a little later where it would be swallowed, or leave one of z3's objects half made.

    Such an object is freed without having been counted, which Python complains of, or z3 crashes.
    """
    while frame is not None:
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
        if name in SWALLOWS or (name == "__init__" and module.startswith("z3.")):
            again = threading.Timer(0.01, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if threading.current_thread() is threading.main_thread():
            # Ended by `timeout` or a job control, we end our workers as after Ctrl-C, even where that is ignored.
            signal.signal(signal.SIGTERM, interrupt)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, interrupt)
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
