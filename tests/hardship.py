"""A check in hardship: killed, interrupted, short of disk or of memory, at random moments. What it shows must be true,
what it had decided must stay, and the same command must then come to the end.

    python tests/hardship.py [--rounds 40] [--seed 1] [--kind disk]

is to be run before a release; exit code 1 if anything was lost or false. With --kind tmpfs (Linux, if one may mount)
the disk is really full; `disk` limits the size of files, which any user may.
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
            output, errors = running.communicate(timeout=120)
        return running.returncode, output, errors
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
        output, errors = running.communicate(timeout=300)
    return running.returncode, output.replace(str(out.with_name("disk")), str(out)), errors


KINDS = ("kill", "interrupt", "terminate", "disk", "memory")


def hold(kinds: tuple[str, ...], rounds: int, seed: int, seconds: float = 1e9) -> tuple[int, list[str]]:
    """(rounds, what was lost or false)."""
    random_ = random.Random(seed)
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        with started(folder / "truth") as running:
            truth = told(running.communicate()[0])
        spent = time.monotonic() - begun
        assert len(truth) == 4
        for number in range(rounds):
            if time.monotonic() - begun > seconds:
                return number, failures
            kind = kinds[number % len(kinds)]
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            wrong: list[str] = []
            had: dict[str, bytes] = {}
            # Hardship comes twice in a row: what was kept the first time must survive the second one.
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
            failures += [f"{kind}, round {number}: {line}" for line in wrong]
    return rounds, failures


def main() -> int:
    """Hold out; exit code 1 if something was lost or false."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", action="append", choices=(*KINDS, "tmpfs"))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rounds, failures = hold(tuple(given.kind or KINDS), given.rounds, given.seed)
    print(f"{rounds} rounds, {len(failures)} failures", *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
