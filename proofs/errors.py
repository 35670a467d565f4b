"""What ends a piece of work without an answer, as one tree. The exit code of a run follows from it.

    ModelError             the user's mistake: what was said makes no sense, or names nothing that there is
      LitmusError            a litmus test
      TraceError             a trace, or what is kept as one
      OutsideError           it makes sense, and cannot be said
        NotObservable          by a program on a real kernel
        RetellError            as a litmus test
    LimitError             a limit was reached: no verdict
      OutOfTime
      OutOfMemory
    EngineError            our fault: two engines disagree

Whatever else is raised is an internal error, but for want of memory and disk (proofs/cli/ending.py).
"""

from __future__ import annotations

from typing import Any

from model.logic import ModelError

OK, VIOLATION, USAGE, INCONCLUSIVE, DISAGREEMENT, INTERNAL = range(6)
EXIT_CODES = """
Exit codes: 0 everything asked for holds (without -k and -i: every cell is as the table of expected verdicts says);
1 a violation, a cell other than expected, a litmus test that is Broken, or with --against something that is worse;
2 wrong usage; 3 inconclusive (time, memory, disk, an interrupt, or an operation outside the model); 4 two engines
disagree, 5 an internal error: a defect of this program, not a result. What was decided before is printed in any case.
"""


class LitmusError(ModelError):
    """A litmus test that cannot be read or run; the message is `FILE:LINE: what is wrong`."""


class TraceError(ModelError):
    """A trace file that cannot be read, or a trace that is none: a step is not enabled, the claim is not broken."""


class OutsideError(ModelError):
    """What makes sense, and cannot be said."""


class NotObservable(OutsideError):
    """No program can do this test; the message says why."""


class RetellError(OutsideError):
    """A trace that no litmus test tells; the message names the step."""


class LimitError(Exception):
    """A limit was reached before there was a verdict."""


class OutOfTime(LimitError):
    """The work was to be done by now."""


class OutOfMemory(LimitError):
    """The next enlargement would pass the memory that the caller allowed."""


class EngineError(Exception):
    """Two derivations of the same terms disagree: a defect of this program, never a result."""


class Interrupted(KeyboardInterrupt):
    """An interrupt of work of which something is done: `so_far`."""

    def __init__(self, so_far: Any) -> None:
        super().__init__("interrupted")
        self.so_far = so_far


ENDINGS: dict[type[BaseException], tuple[str, int]] = {
    EngineError: ("internal error: ", DISAGREEMENT), LimitError: ("", INCONCLUSIVE),
    OutsideError: ("not observable: ", INCONCLUSIVE), ModelError: ("", USAGE),
}
"""How a run ends for an error that nobody caught: what stands before its message, and the exit code. The first fits."""
