"""z3, cvc5 and any command, asked about SMT-LIB text."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import z3

from proofs.errors import Interrupted
from proofs.parallel import each_done, end_with_parent

BUILT_IN = ("z3", "cvc5")
"""Solvers that run inside this program; any other one is a command to which a file's path is appended."""
CVC5_OPTIONS = {"mbqi": "true"}
"""Model-based instantiation decides the stratified fragment; finite-model-find is slower, and runs out of time."""


# Solvers

def _by_z3(path: Path, timeout: float) -> str:
    solver = z3.Solver()
    solver.set("timeout", max(1, int(timeout * 1000)))
    solver.from_string(path.read_text(encoding="utf-8"))
    result = solver.check()
    return f"unknown ({solver.reason_unknown()})" if result == z3.unknown else str(result)


def _by_cvc5(path: Path, timeout: float) -> str:
    import cvc5  # noqa: PLC0415  it takes a while to load, and only the processes that solve need it

    solver = cvc5.Solver(cvc5.TermManager())
    for option, value in (*CVC5_OPTIONS.items(), ("tlimit-per", str(max(1, int(timeout * 1000))))):
        solver.setOption(option, value)
    parser = cvc5.InputParser(solver)
    parser.setFileInput(cvc5.InputLanguage.SMT_LIB_2_6, str(path))
    said = ""
    while not (command := parser.nextCommand()).isNull():
        said += command.invoke(solver, parser.getSymbolManager())
    return said.strip()


def _by_command(command: str, path: Path, timeout: float) -> str:
    """What the command prints. It has a process group of its own, so that the time limit ends its children too."""
    # Whoever ends this process must not leave the solver running.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    process = subprocess.Popen(
        [*shlex.split(command), str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, errors="replace", start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509  it only asks libc
    )
    try:
        return process.communicate(timeout=timeout)[0].strip()
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout:g} s"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        signal.signal(signal.SIGTERM, before)


def answer_in(solver: str, path: Path, timeout: float) -> tuple[str, float]:
    """(what the solver says of the file, seconds). Only `unsat` and `sat` are answers."""
    started = time.monotonic()
    try:
        if solver in BUILT_IN:
            said = (_by_z3 if solver == "z3" else _by_cvc5)(path, timeout)
        else:
            said = _by_command(solver, path, timeout)
    except Exception as error:
        # Whatever went wrong, it is no answer.
        said = f"no answer: {type(error).__name__}: {error}"
    return " ".join(said.split())[:200], time.monotonic() - started


def said_of(text: str, timeout: float) -> dict[str, str]:
    """What each of the built-in solvers says of an SMT-LIB text; `timeout` in seconds, for each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "obligation.smt2"
        path.write_text(text, encoding="utf-8")
        return {solver: answer_in(solver, path, timeout)[0] for solver in BUILT_IN}


def _ask(question: tuple[str, Path, float]) -> tuple[str, float]:
    return answer_in(*question)


def ask_all(
    questions: Sequence[tuple[str, Path]], timeout: float, workers: int, progress: Callable[[int, int], Any]
) -> dict[tuple[str, Path], tuple[str, float]]:
    """What each solver says of each file. Raises Interrupted with that, as far as it is known."""
    asked = [(solver, path, timeout) for solver, path in questions]
    known: dict[tuple[str, Path], tuple[str, float]] = {}
    try:
        for (solver, path, _), answer in each_done(_ask, asked, workers):
            known[solver, path] = answer
            progress(len(known), len(asked))
    except BrokenProcessPool:
        return dict.fromkeys(questions, ("no answer: a solver's process died", 0.0)) | known
    except KeyboardInterrupt as error:
        raise Interrupted(dict.fromkeys(questions, ("no answer: interrupted", 0.0)) | known) from error
    return known
