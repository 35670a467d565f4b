"""How a run ends that cannot go on: one line, an exit code of its own, and what was decided before."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import hardship
import pytest
from commands import run
from places import ROOT

from proofs import parallel, store
from proofs.check import cells, prove, tables
from proofs.cli.ending import explained

SMALL = "2,1,2,1,1"
MODULE = [sys.executable, "-m", "proofs"]


def ended(error: BaseException) -> Any:
    """As `check.run`, which ends so after the first result."""
    real = tables.run

    def run(*given: Any, **options: Any) -> Iterator[Any]:
        for done in real(*given, **options):
            yield done
            raise error

    return run


class Mute(Exception):
    """It cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.slow
@pytest.mark.parametrize(("error", "code", "says"), [
    (TypeError("no such thing"), 5, "internal error: TypeError: no such thing"),
    (Mute(), 5, "internal error: Mute"),
    (RecursionError(), 5, "internal error"),
    (MemoryError(), 3, "out of memory"),
    (OSError(errno.ENOMEM, "x"), 3, "out of memory"),
    (OSError(errno.ENOSPC, "x"), 3, "cannot go on: No space left on device"),
    (OSError(errno.EACCES, "x", "a.json"), 2, "a.json: Permission denied"),
    (KeyboardInterrupt(), 3, "interrupted: 1 cells done"),
])
def test_what_was_decided_before_is_printed(
    error: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "run", ended(error))
    asked = ("check", "-k", "v5.9", "-i", "write-bit", "-i", "mprotect", "--engine", "explore", "--scope", SMALL, "-o",
             tmp_path, "--workers", 1)
    found, out, err = run(capsys, *asked, "--json")
    assert found == code
    assert err.count("\n") == 1
    assert says in err
    told = json.loads(out)
    assert says in told["stopped"]
    verdicts = {c["invariant"]: (c["verdict"], c["note"]) for c in told["results"]}
    assert len(verdicts) == 2
    [[undecided, note]] = [v for v in verdicts.values() if v[1]]
    assert undecided == "UNKNOWN"
    assert note.startswith("not decided: ")
    found, out, err = run(capsys, *asked)
    assert found == code
    assert "UNKNOWN: see the notes" in out


def test_after_an_interrupt_what_is_decided_is_counted_and_a_fresh_run_does_not_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "run", ended(KeyboardInterrupt()))
    asked = ("check", "-k", "v5.9", "-i", "mprotect", "--scope", SMALL, "-o", tmp_path)
    _, _, err = run(capsys, *asked)
    assert "1 cells done" in err
    assert "the same command goes on from there" in err
    _, _, err = run(capsys, *asked, "--engine", "proof", "--fresh")
    assert "0 cells done" in err
    assert "the same command without --fresh goes on" in err


def test_an_internal_error_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    line, code = explained(ZeroDivisionError("division by zero"))
    [kept] = tmp_path.iterdir()
    assert code == 5
    assert line == f"internal error: ZeroDivisionError: division by zero; traceback in {kept}"
    assert "ZeroDivisionError" in kept.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert explained(ZeroDivisionError("division by zero"))[0] == "internal error: ZeroDivisionError: division by zero"


def test_a_result_that_cannot_be_kept_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, key: str, content: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", f"cannot keep {path}")

    monkeypatch.setattr(store, "keep", full)
    code, out, err = run(
        capsys, "check", "-k", "v5.9", "-i", "write-bit", "--engine", "explore", "--scope", SMALL, "-o", tmp_path
    )
    assert code == 3
    assert "v5.9    V 3" in out
    assert "No space left on device" in err


def test_a_trace_that_cannot_be_written_is_not_told_to_be_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cells, "write", full)
    code, out, err = run(
        capsys, "check", "-k", "v5.9", "-i", "write-bit", "--engine", "explore", "--scope", SMALL, "-o", tmp_path
    )
    assert code == 3
    assert "v5.9    V 3" in out
    assert "1 counterexamples are not written." in out
    assert "`python -m proofs show FILE`" not in out
    assert "No space left on device" in err


@pytest.mark.parametrize("text", [
    "[" * 100_000, '{"a":' * 100_000, '["' + "\\" * 7 + '"' + "[" * 2000,
    '{"#meta": {"schema": 1, "kernel": "v5.9", "claim": "x", "statement": "x", "scope": {"Proc": 1e999}}}',
])
@pytest.mark.parametrize(("command", "code"), [("show", 2), ("retell", 2), ("verify", 1)])
def test_a_file_that_is_too_deep_or_has_no_number_that_it_says_is_no_file_of_ours(
    text: str, command: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.trace.json"
    file.write_text(text)
    ended, out, err = run(capsys, command, file)
    assert ended == code
    assert "cannot be read" in out if command == "verify" else err.count("\n") == 1


@pytest.mark.slow
def test_what_was_kept_and_is_too_deep_is_done_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("check", "-k", "v5.9", "-i", "mprotect", "--scope", SMALL, "-o", tmp_path)
    assert run(capsys, *asked)[0] == 0
    kept = [path for path in tmp_path.glob("**/*.json") if path.parent.name != "obligations"]
    assert len(kept) == 3
    for path in kept:
        path.write_text("[" * 100_000)
    code, out, _ = run(capsys, *asked)
    assert (code, "P 1" in out) == (0, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
def test_results_that_cannot_be_printed_are_no_pass() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*MODULE, "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(": No space left on device\n")


def test_whoever_reads_no_further_is_left_alone_and_told_no_verdict() -> None:
    with subprocess.Popen([*MODULE, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 3


@pytest.mark.parametrize("engine", ["both", "k-induction"])
def test_a_time_limit_holds_while_a_scope_is_grounded(
    engine: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    started = time.monotonic()
    code, out, _ = run(
        capsys, "check", "-k", "v5.9", "-i", "soft-dirty", "--scope", "2,1,200,1,1", "--timeout", 1, "--engine", engine,
        "--json", "-o", tmp_path,
    )
    [cell] = json.loads(out)["results"]
    assert (code, cell["verdict"]) == (3, "UNKNOWN")
    assert "out of time after 1 s" in cell["note"]
    assert "nothing was searched" in cell["note"]
    # One second each for exploration and BMC; to begin with, both take longer, and machines may be slow.
    assert time.monotonic() - started < 25


MANY = """
from z3 import And, Or
from invariants import Invariant
from model.state import *
MANY = Invariant("many", "x", "me", (Frame,) * 12, lambda *f: And(*(frame_free(x) for x in f)),
                 lambda *f: Or(*(x == f[0] for x in f[1:])))
"""


@pytest.mark.slow
def test_a_claim_of_many_variables_is_searched_with_what_memory_there_is(tmp_path: Path) -> None:
    file = tmp_path / "many.py"
    file.write_text(MANY)
    [cell] = tables.verdicts(["v5.9"], [f"{file}:MANY"], engine="proof", proof_time=30, out=tmp_path)
    assert cell.verdict == "UNKNOWN"
    assert "no proof" in cell.note


@pytest.mark.slow
def test_a_counterexample_to_induction_that_cannot_be_drawn_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise IndexError("nothing to draw")

    monkeypatch.setattr(prove, "write", fail)
    [tried] = prove.attempt(prove.ProofJob(("v5.9",), ("write-bit",), (), 60, tmp_path))
    assert (tried.manifest, tried.cti) == (None, None)
    assert "cannot be drawn: IndexError: nothing to draw" in tried.note


# Signals

def descendants(process: int) -> list[int]:
    """The children of a process, and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextlib.contextmanager
def checking(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A check that takes a while, with workers, in a process group of its own."""
    with subprocess.Popen(
        [*MODULE, "check", "-k", "v5.9", "-k", "v5.19", "--scope", "3,1,4,2,1", "--fresh", "-o", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as running:
        try:
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.3, 1, 2, 4, 8])
def test_a_signal_at_any_moment_ends_it_with_one_line(number: int, seconds: float, tmp_path: Path) -> None:
    with checking(tmp_path) as running:
        time.sleep(seconds)
        # As a terminal does it for Ctrl-C: to the workers too.
        os.killpg(running.pid, number) if number == signal.SIGINT else running.send_signal(number)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 3
    assert err.startswith("proofs: interrupted"), err
    assert err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with checking(tmp_path) as running:
        deadline = time.monotonic() + 60
        while len(workers := descendants(running.pid)) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)
        running.kill()
        started = time.monotonic()
        # Whoever waits for the end of the output does not wait for what workers do, which takes minutes; one that is
        # still being loaded, on a slow machine, ends when it is.
        running.communicate(timeout=60)
        while any(map(alive, workers)) and time.monotonic() - started < 60:
            time.sleep(0.1)
        assert not any(map(alive, workers))


def test_an_interrupt_is_put_off_where_it_would_be_swallowed() -> None:
    script = """
import os, signal, time
from proofs.cli.main import interrupt
signal.signal(signal.SIGINT, interrupt)
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)
try:
    Finalized()
    time.sleep(10)
except KeyboardInterrupt:
    print("heard")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("heard\n", "")


def test_a_signal_that_somebody_else_took_ends_no_search_of_z3() -> None:
    """Python tells of each signal, whoever takes it, and the thread that hears of it may be late."""
    script = """
import os, signal, time
import z3
from proofs.cli.main import take_signals
take_signals()
told = signal.set_wakeup_fd(-1)
signal.set_wakeup_fd(told, warn_on_full_buffer=False)
a, b = z3.Ints("a b")
for round in range(3):
    os.write(told, bytes([signal.SIGINT]))
    end = time.monotonic() + 1
    while time.monotonic() < end:
        solver = z3.Solver()
        solver.add(a * 3 + b * 5 == 7, a > round, b < 2)
        assert solver.check() == z3.sat
print("never ended")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("never ended\n", "")


def test_an_interrupt_amid_a_class_that_is_made_ends_with_our_code(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text("""
import sys
from proofs.cli import main
def made(**_):
    exec("raise KeyboardInterrupt")
main.app = made
sys.exit(main.main(["list"]))
""")
    done = subprocess.run(
        [sys.executable, "-m", "made"], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "proofs: interrupted\n")


def test_an_interrupt_at_any_line_leaves_no_object_of_z3_half_made() -> None:
    script = """
import gc, signal, sys, time
import z3
from proofs.cli.main import interrupt, take_signals
take_signals()
x = z3.Int("x")
def work():
    solver = z3.Solver()
    solver.add(x > 1)
    solver.check()
    return solver.model().eval(x)
def interrupted(line):
    seen = 0
    def trace(frame, event, _):
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == line:
                sys.settrace(None)
                interrupt(signal.SIGINT, frame)
        return trace
    try:
        sys.settrace(trace)
        work()
        sys.settrace(None)
        if seen < line:
            return False
        time.sleep(10)
        print("line", line, "lost")
    except KeyboardInterrupt:
        pass
    gc.collect()
    return True
gc.freeze()
lines = 1
while interrupted(lines):
    lines += 1
print("heard", lines > 200)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("heard True\n", "")


PIGEONS = """
import os, signal, threading, z3
def pigeons(seconds, context=None):
    \"\"\"Eleven in ten holes, for which z3 needs minutes, and Ctrl-C amid that.\"\"\"
    solver = z3.Solver(ctx=context)
    solver.set("timeout", int(1000 * seconds))
    at = [[z3.Bool(f"{pigeon} in {hole}", context) for hole in range(10)] for pigeon in range(11)]
    pairs = [(a, b) for hole in zip(*at) for n, a in enumerate(hole) for b in hole[:n]]
    solver.add(*map(z3.Or, at), *(z3.Or(z3.Not(a), z3.Not(b)) for a, b in pairs))
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    return solver.check().r, solver.reason_unknown()
"""


def test_an_interrupt_amid_a_search_of_z3_ends_the_search_and_is_heard() -> None:
    script = f"""{PIGEONS}
from proofs.cli.main import take_signals
take_signals()
for context in None, z3.Context():
    try:
        print(pigeons(300, context))
    except KeyboardInterrupt:
        print("heard")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("heard\nheard\n", "")


def test_an_interrupt_that_a_worker_is_not_to_see_makes_no_answer_unknown(tmp_path: Path) -> None:
    (tmp_path / "worked.py").write_text(PIGEONS + """
from proofs.parallel import each_done
if __name__ == "__main__":
    import worked
    print(*each_done(worked.pigeons, [1.0], 1))
""")
    done = subprocess.run(
        [sys.executable, "worked.py"], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("(1.0, (0, 'timeout'))\n", "")


def test_a_program_ends_though_an_error_keeps_alive_who_gives_workers_work() -> None:
    """As where a result could not be kept: the error knew the function that raised it, and that the error."""
    script = """
import gc, math
from proofs import parallel
def raises():
    results = parallel.each_done(math.sqrt, [1.0, 2.0, 3.0], 2)
    next(results)
    kept = OSError("full")
    raise kept
gc.disable()
try:
    raises()
except OSError:
    print("raised")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "raised\n", "")


def test_a_program_that_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    (tmp_path / "z3.py").write_text("raise OSError('libz3.so: cannot map')")
    done = subprocess.run(
        MODULE, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
        cwd=ROOT,
    )
    assert done.returncode == 5
    assert done.stderr == "proofs: internal error: cannot be loaded: OSError: libz3.so: cannot map\n"


# In hardship

@pytest.mark.slow
def test_what_is_decided_stays_and_what_is_shown_is_true_in_hardship() -> None:
    rounds, failures = hardship.hold(hardship.KINDS, 5, 3, 25)
    assert not failures
    assert rounds


@pytest.mark.slow
def test_a_worker_s_error_is_told_with_its_traceback_and_its_death_is_noticed() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        list(parallel.each_done(divmod_by, [0], 1))
    assert "divmod_by" in raised.value.__notes__[0]
    with pytest.raises(RuntimeError, match="Particular in a worker: 1"):
        list(parallel.each_done(divmod_by, [-1], 1))
    with pytest.raises(BrokenProcessPool):
        list(parallel.each_done(divmod_by, [1, 2, -2], 2))
    heard: list[str] = []
    assert sorted(parallel.each_done(divmod_by, [2, 3, 4], 2, heard.append)) == [(2, 3), (3, 2), (4, 1)]
    assert sorted(heard) == ["by 2", "by 3", "by 4"]


class Particular(Exception):
    """It cannot be made anew from its text alone."""

    def __init__(self, number: int, more: str) -> None:
        super().__init__(number)
        self.more = more


def divmod_by(number: int) -> int:
    parallel.tell(f"by {number}")
    if number == -1:
        raise Particular(1, "more")
    if number == -2:
        os._exit(1)
    return 7 // number
