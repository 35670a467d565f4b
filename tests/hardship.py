"""A check in hardship: killed, interrupted, short of disk or of memory, at random moments. What it shows must be true,
what it had decided must stay, and the same command must then come to the end.

    python tests/hardship.py [--rounds 40] [--seed 1] [--kind disk] [--seconds 3600] [--out FOLDER]

is to be run before a release; a line a round, and exit code 1 if anything was lost or false. With --kind tmpfs (Linux,
if one may mount) the disk is really full; `disk` limits the size of files, which any user may.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from places import ROOT

ASKED = (
    "check", "-k", "v5.9", "-i", "write-bit", "-i", "soft-dirty", "-i", "isolation-mapping", "-i",
    "coherence-write-pin", "--scope", "2,1,2,1,1", "--memory", "0.25", "--json",
)
WEAKER = {"PROVED": ("EXHAUSTED", "UNKNOWN"), "VIOLATED": ("UNKNOWN",), "EXHAUSTED": ("UNKNOWN",)}
"""What may be said of a cell instead, where a run came to no end."""
Told = Mapping[tuple[str, str], Mapping[str, Any]]


def started(out: Path, hardship: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """A check with results in that folder, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "proofs", *ASKED, "-o", str(out)], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=hardship,  # noqa: PLW1509  no threads here
    )


def told(output: str) -> Told:
    """(kernel, invariant) to what the run said of it."""
    return {(c["kernel"], c["invariant"]): c for c in json.loads(output)["results"]} if output.strip() else {}


def false(said: Told, truth: Told) -> list[str]:
    """What a run said that is not so."""
    wrong = []
    for key, cell in said.items():
        right = truth[key]
        if cell["verdict"] == right["verdict"]:
            if any(cell[x] != right[x] for x in ("length", "clauses")):
                wrong.append(f"{key}: {cell['verdict']} with another length or size")
        elif cell["verdict"] not in WEAKER[right["verdict"]]:
            wrong.append(f"{key}: {cell['verdict']}, in truth {right['verdict']}")
        if cell["verdict"] == "UNKNOWN" and not cell["note"]:
            wrong.append(f"{key}: UNKNOWN without a reason")
        for what in ("trace", "certificate"):
            if cell[what] is not None:
                with contextlib.suppress(OSError, ValueError):
                    json.loads(Path(cell[what]).read_text(encoding="utf-8"))
                    continue
                wrong.append(f"{key}: no whole {what} at {cell[what]}")
    return wrong


def kept(out: Path) -> dict[str, bytes]:
    """The results that are kept, by file."""
    return {path.name: path.read_bytes() for path in out.glob("results/*.json")}


LONGEST = 300
"""Seconds after which a run in hardship hangs."""
HANGS = 99
"""Instead of the exit code of one that does."""


def waited_for(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, output, errors) of the run; one that hangs is killed and says so."""
    try:
        output, errors = running.communicate(timeout=LONGEST)
        return running.returncode, output, errors
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        output, errors = running.communicate()
        return HANGS, output, f"{errors}hangs: no end after {LONGEST} s"


def endured(kind: str, moment: float, random_: random.Random, out: Path) -> tuple[int, str, str]:
    """(exit code, output, errors) of a check under that hardship, which signals begin after `moment` seconds."""
    if kind in ("kill", "interrupt", "terminate"):
        with started(out) as running:
            time.sleep(moment)
            if kind == "interrupt":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGINT)
            else:
                running.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
            return waited_for(running)
    if kind == "memory":
        limit = random_.randrange(400, 3000) << 20
        running = started(out, lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    elif kind == "disk":
        limit = int(2 ** random_.uniform(8, 19))
        running = started(out, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    else:
        # Results go to a small disk of the process's own, and what is there in the end is copied.
        size = random_.randrange(20, 2000)
        disk = out.with_name("disk")
        disk.mkdir(exist_ok=True)
        script = ('mount -t tmpfs -o size="$1"k none "$2" && cp -r "$3"/. "$2" 2>/dev/null; shift 3; "$@"; code=$?; '
                  'cp -r "$DISK"/. "$OUT"; exit $code')
        running = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", script, "sh", str(size), str(disk), str(out), sys.executable, "-m", "proofs",
             *ASKED, "-o", str(disk)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "DISK": str(disk), "OUT": str(out)},
        )
    with running:
        code, output, errors = waited_for(running)
    return code, output.replace(str(out.with_name("disk")), str(out)), errors


KINDS = ("kill", "interrupt", "terminate", "disk", "memory")


def told_in(out: Path, begun: Mapping[str, Any]) -> dict[str, Any]:
    """The truth and the time that it took, found or kept there earlier by a run of the same seed and kinds."""
    notes = out / "hardship.json"
    with contextlib.suppress(OSError, ValueError):
        kept_notes: dict[str, Any] = json.loads(notes.read_text(encoding="utf-8"))
        if kept_notes["of"] == begun:
            return kept_notes
    started_at = time.monotonic()
    with started(out / "truth") as running:
        truth = running.communicate()[0]
    spent = time.monotonic() - started_at
    return {"of": begun, "truth": truth, "spent": spent, "rounds": 0, "failures": []}


def round_of(kind: str, number: int, seed: int, spent: float, truth: Told, out: Path) -> list[str]:
    """What one round finds: a check in hardship twice in a row, then without; the same for the same seed."""
    random_ = random.Random(f"{seed} {number}")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    wrong: list[str] = []
    had: dict[str, bytes] = {}
    # What was kept the first time must survive the second one.
    for _ in range(2):
        before = set(out.rglob("*"))
        code, output, errors = endured(kind, random_.uniform(0.1, spent), random_, out)
        allowed = (-signal.SIGKILL,) if kind == "kill" else ()
        loads = code == 5 and "cannot be loaded" in errors
        # A signal may come before Python has read a line of ours.
        early = code == -signal.SIGTERM and not (output or errors or set(out.rglob("*")) - before)
        if code not in (0, 1, 3, *allowed) and not (loads or early):
            wrong.append(f"exit code {code}: {errors.strip()[-300:]}")
        if "Traceback" in errors:
            wrong.append(f"a traceback: {errors.strip()[-300:]}")
        try:
            wrong += false(told(output), truth)
        except ValueError:
            wrong.append(f"the output is no JSON: {output[-100:]!r}")
        now = kept(out)
        wrong += [f"{file} was not kept as it was" for file, text in had.items() if now.get(file) != text]
        had = now
    with started(out) as running:
        output, errors = running.communicate()
    said = told(output)
    wrong += false(said, truth)
    if {k: c["verdict"] for k, c in said.items()} != {k: c["verdict"] for k, c in truth.items()}:
        wrong.append(f"the same command did not come to the end afterwards: {errors.strip()[-300:]}")
    wrong += [f"{file} was decided anew" for file, text in had.items() if kept(out).get(file) != text]
    return [f"{kind}, round {number}: {line}" for line in wrong]


def hold(
    kinds: tuple[str, ...], rounds: int, seed: int, seconds: float = 1e9, out: Path | None = None,
    tell: Callable[[str], Any] = lambda line: None,
) -> tuple[int, list[str]]:
    """(rounds, what was lost or false), in the order of the kinds, one after another; no round begins after `seconds`.

    With a folder `out` a later call goes on where an earlier one of the same kinds and seed ended. `tell` hears of
    each round.
    """
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        done = told_in(folder, {"kinds": list(kinds), "seed": seed, "asked": list(ASKED)})
        truth = told(done["truth"])
        assert len(truth) == 4
        tell(f"without hardship: {done['spent']:.1f} s; {done['rounds']} rounds were done before")
        while done["rounds"] < rounds and time.monotonic() - begun < seconds:
            number = done["rounds"]
            kind = kinds[number % len(kinds)]
            wrong = round_of(kind, number, seed, done["spent"], truth, folder / "out")
            done["failures"] += wrong
            done["rounds"] += 1
            (folder / "hardship.json").write_text(json.dumps(done), encoding="utf-8")
            tell(f"round {number}, {kind}: {'; '.join(wrong) or 'nothing lost, nothing false'} "
                 f"({time.monotonic() - begun:.0f} s)")
        return done["rounds"], done["failures"]


def main() -> int:
    """Hold out; exit code 1 if something was lost or false."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", action="append", choices=(*KINDS, "tmpfs"))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600, help="after which no round begins")
    parser.add_argument("-o", "--out", type=Path, help="a folder in which the same command goes on later")
    given = parser.parse_args()
    kinds = tuple(given.kind or KINDS)
    rounds, failures = hold(kinds, given.rounds, given.seed, given.seconds, given.out, partial(print, flush=True))
    print(f"{rounds} of {given.rounds} rounds, {len(failures)} failures", *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
