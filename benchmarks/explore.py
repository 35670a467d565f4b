"""Runs of our exploration, Spin and Rumur on one model, each in a process of its own, with what they needed."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.models import murphi, promela
from model.logic import System
from proofs.check.scopes import scope_named

SCOPES = {"small": "2,1,1,1,1", "medium": "2,1,2,1,1", "large": "2,1,3,1,1"}
"""About 10^5, 3 * 10^6 and 3.5 * 10^7 states of v6.15."""
INTERCHANGEABLE = frozenset(("Proc", "Page", "Frame", "Pin", "Slot"))
"""Sorts of which we, too, try every renaming in these scopes."""
ONCE = 60.0
"""Seconds from which one run is enough."""
MEMORY = 16_000
"""MiB that each may use."""
OPTIMIZED = ("-O3", "-march=native")
"""How gcc compiles what the others generate."""
SPIN_FLAGS = ("-w", "-DSAFETY", f"-DMEMLIM={MEMORY}")


class Missing(Exception):
    """A program that is not installed."""


class Disagreement(Exception):
    """Two checkers found different numbers of states or transitions."""


@dataclass(frozen=True)
class Run:
    """The fastest run of a checker. `wall`, `cpu` in seconds, `memory` the most bytes resident; `failed`: why not."""

    checker: str
    states: int
    transitions: int
    wall: float
    cpu: float
    memory: int
    failed: str = ""


@dataclass(frozen=True)
class Comparison:
    """All runs on one scope."""

    kernel: str
    scope: str
    runs: tuple[Run, ...]

    def ratio(self, run: Run) -> float:
        """How many times as long as ours on one thread it took, with symmetry if it has it."""
        ours = next(r for r in self.runs if r.checker == ("ours-symmetry" if "symmetry" in run.checker else "ours"))
        return run.wall / ours.wall


@dataclass(frozen=True)
class _Model:
    """A model being compared; files are written to `folder`."""

    kernel: str
    system: System
    scope: str
    folder: Path
    states: int = 1 << 20

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def tool(self, *command: str) -> None:
        """Run a generator or compiler. Raises Missing, or RuntimeError with what it said."""
        if shutil.which(command[0]) is None:
            raise Missing(f"{command[0]} is not installed: apt-get install {command[0]}")
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[:500]}")


Prepared = tuple[list[str], str]
"""The command of a run, and the pattern of what it prints: states, transitions."""


def _ours(threads: int = 1, reduce: bool = False, words: int = 1) -> Callable[[_Model], Prepared]:
    def prepare(model: _Model) -> Prepared:
        arguments = (model.kernel, model.scope, threads, int(reduce), words)
        worker = [sys.executable, "-m", "benchmarks.worker", *map(str, arguments)]
        return worker, r"(\d+) states (\d+) transitions (?P<wall>\S+) s"

    return prepare


def _spin(flags: Sequence[str], options: Sequence[str]) -> Callable[[_Model], Prepared]:
    def prepare(model: _Model) -> Prepared:
        model.write("model.pml", promela(model.system, scope_named(model.scope)))
        # Without -o2 spin would drop variables that are only written, and with them states.
        model.tool("spin", "-o2", "-a", "model.pml")
        model.tool("gcc", *OPTIMIZED, *SPIN_FLAGS, *flags, "pan.c", "-o", "pan")
        size = max(20, model.states.bit_length())
        return ["./pan", "-n", "-E", f"-w{size}", *options], r"(\S+) states, stored[\s\S]*?(\S+) transitions"

    return prepare


def _rumur(symmetry: bool) -> Callable[[_Model], Prepared]:
    def prepare(model: _Model) -> Prepared:
        sorts = INTERCHANGEABLE if symmetry else frozenset()
        model.write("model.m", murphi(model.system, scope_named(model.scope), sorts))
        entries = 8 * 2 ** model.states.bit_length()
        model.tool(
            "rumur", "model.m", "-o", "rumur.c", "--threads", "1", "--deadlock-detection", "off",
            "--counterexample-trace", "off", "--scalarset-schedules", "off", "--set-capacity", str(2 * entries),
            "--symmetry-reduction", "exhaustive" if symmetry else "off",
        )
        model.tool("gcc", *OPTIMIZED, "-mcx16", "-w", "rumur.c", "-o", "rumur.run", "-lpthread")
        return ["./rumur.run"], r"(\d+) states, (\d+) rules fired in \d+s\.\s*$"

    return prepare


CHECKERS: dict[str, Callable[[_Model], Prepared]] = {
    "ours": _ours(),
    "ours-2-threads": _ours(threads=2),
    "ours-2-words": _ours(words=2),
    "ours-4-words": _ours(words=4),
    "ours-symmetry": _ours(reduce=True),
    "spin-bfs": _spin(["-DBFS"], []),
    "spin-dfs": _spin([], ["-m10000000"]),
    "spin-bfs-par": _spin(["-DBFS_PAR"], ["-u1"]),
    "spin-bfs-par-2": _spin(["-DBFS_PAR"], ["-u2"]),
    "rumur": _rumur(False),
    "rumur-symmetry": _rumur(True),
}
LOSSY = ("spin-bfs-par", "spin-bfs-par-2")
"""These keep hashes of states: they may miss some."""
FREE_CHOICE = "rumur-symmetry"
"""Fires a rule once for each choice of an element that does not matter: its transitions are not compared."""


def compared(
    kernel: str, system: System, scope: str, checkers: Sequence[str], runs: int, timeout: float
) -> Comparison:
    """Run the checkers in turn. Raises Missing and Disagreement."""
    found: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as folder:
        wanted = dict.fromkeys(["ours", "ours-symmetry", *checkers])
        model = _Model(kernel, system, scope, Path(folder))
        for turn in range(runs):
            for name in wanted:
                if turn and (found[name].wall > ONCE or found[name].failed):
                    continue
                made = _run(name, model, timeout)
                if name == "ours":
                    model = _Model(kernel, system, scope, Path(folder), made.states)
                if name not in found or made.wall < found[name].wall:
                    found[name] = made
                _agree(found["ours-symmetry" if "symmetry" in name and "ours-symmetry" in found else "ours"], made)
    return Comparison(kernel, scope, tuple(found.values()))


def _agree(ours: Run, other: Run) -> None:
    if other.failed or other.checker in ("ours", "ours-symmetry", *LOSSY):
        return
    # Spin counts the initial state as a transition.
    transitions = other.transitions - other.checker.startswith("spin")
    # Spin prints eight digits.
    same = math.isclose(transitions, ours.transitions, rel_tol=1e-7 if ours.transitions >= 10**8 else 0)
    if other.states != ours.states or not (same or other.checker == FREE_CHOICE):
        raise Disagreement(
            f"{other.checker} found {other.states:,} states and {transitions:,} transitions, "
            f"we {ours.states:,} and {ours.transitions:,}"
        )


def _run(name: str, model: _Model, timeout: float) -> Run:
    try:
        command, pattern = CHECKERS[name](model)
    except RuntimeError as error:
        return Run(name, 0, 0, 0.0, 0.0, 0, f"failed: {error}")
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=model.folder, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        usage = None
        memory = 0
        while usage is None:
            memory = max(memory, _resident(process.pid))
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                usage = used
            elif time.monotonic() - started > timeout:
                process.kill()
                os.wait4(process.pid, 0)
                return Run(name, 0, 0, timeout, timeout, 0, f"not done after {timeout:g} s")
            else:
                time.sleep(0.01)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        return Run(name, 0, 0, wall, wall, 0, f"failed: {' '.join(text.split())[-200:]}")
    if "wall" in match.groupdict():
        # Ours without the start of Python: the others' generators and compilers are not counted either.
        wall = float(match["wall"])
    cpu = usage.ru_utime + usage.ru_stime
    return Run(name, round(float(match[1])), round(float(match[2])), wall, cpu, memory)


def _resident(pid: int) -> int:
    """The most bytes the process has had resident, 0 if it has ended; its usage would count ours at the fork."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) * 1024 if match else 0
