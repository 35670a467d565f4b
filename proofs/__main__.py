"""`python -m proofs`."""

import contextlib
import os
import signal
import sys
from typing import Any

INTERRUPTED, NOT_LOADED = 3, 5
"""Exit codes, as errors.py has them: that is not loaded yet."""


def _at_once(number: int, frame: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"proofs: interrupted\n")
    os._exit(INTERRUPTED)


def main() -> int:
    """Run the command line; returns the exit code. A signal while the program is loaded, or leaves, ends it quietly."""
    heard = [s for s in (signal.SIGINT, signal.SIGTERM)
             if s == signal.SIGTERM or signal.getsignal(s) is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _at_once)
    try:
        # Loading takes a second, in which Ctrl-C is to be understood.
        from proofs.cli.main import load  # noqa: PLC0415
        from proofs.cli.main import main as run  # noqa: PLC0415

        load(sys.argv[1:])
    except Exception as error:
        # A library that is missing or broken, or for which there is no memory.
        said = " ".join(str(error).split())
        print(f"proofs: internal error: cannot be loaded: {type(error).__name__}: {said}", file=sys.stderr)
        return NOT_LOADED
    code = run()
    for number in heard:
        signal.signal(number, lambda *_: os._exit(code))
    return code


if __name__ == "__main__":
    sys.exit(main())
