"""Input at random: what is read from files and from the command line, mutated. No input may be an internal error.

    python tests/fuzz.py [--kind litmus] [--inputs 10000] [--seed 1] [--seconds 600] [--apart 100]

prints how many inputs of each kind ended with which exit code. What fails is kept under fuzz-found/ and ends the
program with exit code 1. The same seed gives the same inputs as long as what is mutated stays. Inputs are run in one
process, of which one in `--apart` also in a process of its own, which must end with the same exit code. What the
explorer's server is asked is in tests/pages/test_explorer.py.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.main
from places import ROOT

sys.path.insert(0, str(Path(__file__).parents[1]))

from model.features import FEATURES
from model.kernels import KERNELS
from model.logic import ModelError
from proofs.check import tables
from proofs.check.engines import ENGINES
from proofs.cli.main import SWALLOWS, load
from proofs.cli.main import main as run
from proofs.data import CERTIFICATES, SUITE
from proofs.errors import USAGE
from proofs.litmus.parser import parse
from proofs.litmus.suite import text_of

SLOW = 60
"""Seconds that one input may take."""
ALLOWED = (0, 1, 2, 3)
"""Exit codes that are an answer; 4 and 5 are defects of the program."""
ODD = (
    "", " ", "0", "-1", "1.5", "nan", "inf", "1e400", "9" * 25, "²", "٣", "--", "-", "'", '"', "\\", "\x00", "\n",
    "\u202e", "\ud800", "é", "None", "true", "[]", "{}", "a" * 5000, "..", "/", "/dev/null", "/proc/self/mem", "%s",
    "{0}", "$HOME",
)
"""Texts with which programs have had trouble."""
Input = tuple[list[str], dict[str, str]]
"""Arguments of the command line, in which {name} is a file of that name, and the texts of the files."""


# Mutations

def of_text(text: str, random_: random.Random) -> str:
    """The text with one to four small changes: of characters, words or lines."""
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        words = re.split(r"(\W)", text)
        lines = text.split("\n")
        at, word, line = (random_.randrange(max(1, len(x))) for x in (text, words, lines))
        match random_.randrange(9):
            case 0:
                text = text[:at] + text[at + random_.choice((1, 1, 5, 100)):]
            case 1:
                text = text[:at] + random_.choice((*ODD, chr(random_.randrange(1, 0x300)))) + text[at:]
            case 2:
                words[word] = random_.choice(words)
                text = "".join(words)
            case 3:
                words[word] = random_.choice(ODD)
                text = "".join(words)
            case 4:
                lines[line:line] = [random_.choice(lines)]
                text = "\n".join(lines)
            case 5:
                del lines[line]
                text = "\n".join(lines)
            case 6:
                other = random_.randrange(len(lines))
                lines[line], lines[other] = lines[other], lines[line]
                text = "\n".join(lines)
            case 7:
                numbers = list(re.finditer(r"\d+", text))
                if numbers:
                    found = random_.choice(numbers)
                    number = random_.choice(("0", "1", "2", "3", "17", "255", "256", "-1", "4294967296", "9" * 25))
                    text = text[:found.start()] + number + text[found.end():]
            case 8:
                text = text[:at]
    return text


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside a JSON value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from places_in(inner)


def of_json(text: str, random_: random.Random) -> str:
    """The JSON text with one or two values changed, taken out or put elsewhere; now and then a text as any other."""
    if random_.random() < 0.2:
        return of_text(text, random_)
    data = json.loads(text)
    for _ in range(random_.choice((1, 1, 2))):
        places = list(places_in(data))
        # States are most of a trace; what stands above them is met as often.
        outer = [p for p in places if not isinstance(p[0], list)]
        holder, key = random_.choice(random_.choice((places, outer)))
        match random_.randrange(4):
            case 0:
                del holder[key]
            case 1:
                other, its = random_.choice(places)
                with contextlib.suppress(IndexError, KeyError):
                    holder[key] = json.loads(json.dumps(other[its]))
            case 2:
                holder[key] = random_.choice((
                    None, True, -1, 0, 1, 2, 7, 1.5, 10**30, float("nan"), [], {}, [[]], [None], {"#map": 1}, {"a": []},
                    *ODD,
                ))
            case 3:
                if isinstance(holder[key], str):
                    holder[key] = of_text(holder[key], random_)
    return json.dumps(data)


# Kinds of input

def litmus(random_: random.Random, made: Path) -> Input:
    """Mutated tests of the suite, asked of one kernel."""
    files = sorted(SUITE.glob("*.litmus"))
    text = of_text(random_.choice(files).read_text(encoding="utf-8"), random_)
    command = random_.choice((["litmus", "-k", random_.choice(("v5.7", "v5.9", "v6.15"))], ["reproducer"]))
    return [*command, "{test.litmus}", *(["-o", str(made / "out")] if command[0] == "litmus" else [])], {
        "test.litmus": text
    }


def traces(random_: random.Random, made: Path) -> Input:
    """Mutated traces that `check` wrote."""
    text = of_json(random_.choice(sorted(made.glob("traces/**/*.trace.json"))).read_text(encoding="utf-8"), random_)
    command = random_.choice((
        ["show"], ["show", "-f", "svg"], ["show", "-f", "mermaid"], ["show", "--json"], ["retell"],
        ["explore", "-k", "v5.9", "--from"],
    ))
    return [*command, "{x.trace.json}"], {"x.trace.json": text}


def certificates(random_: random.Random, made: Path) -> Input:
    """Mutated manifests of proofs that come along; small ones, which are read the fastest."""
    file = random_.choice(sorted(made.glob("certificates/*/*.json")))
    name = file.relative_to(made).as_posix()
    return ["show", f"{{{name}}}"], {name: of_json(file.read_text(encoding="utf-8"), random_)}


def kernel_files(random_: random.Random, made: Path) -> Input:
    """Mutated kernels and invariants of a user's own; what is checked of them is only whether they make sense."""
    text = (ROOT / "examples" / "mine.py").read_text(encoding="utf-8").partition("if __name__")[0]
    asked = random_.choice((["-k", "{mine.py}:MINE", "-i", "mprotect"], ["-k", "v5.9", "-i", "{mine.py}"],
                            ["-k", "{mine.py}:MINE@huge", "-i", "{mine.py}:PINNED_NOT_SWAPPED"]))
    return ["check", *asked, "-o", str(made / "out")], {"mine.py": of_text(text, random_)}


COMMANDS = {
    "check": (
        "-k", "-i", "--with", "--split", "--scope", "--engine", "--depth", "--timeout", "--proof-time", "--without",
        "--full", "--verbose", "--workers", "--memory", "--fresh", "--json", "--junit", "--markdown", "--report",
        "--against", "--mail", "--tell",
    ),
    "show": ("-f", "--json"), "retell": ("--json",),
    "litmus": ("-k", "--split", "--ends", "--since", "--verbose", "--json"),
    "verify": ("--solver", "--timeout", "--workers", "--json"), "list": ("-k", "--functions", "--json"),
    "new-kernel": ("--from", "--name"),
    "restrict": ("-i", "--base", "-k", "--no-variants", "--proof-time", "--workers", "--fresh", "--json"),
    "diff": ("--processes", "--pages", "--references", "--depth", "--time", "--each", "--with", "--json"),
    "export": ("-f", "-i", "--scope", "--depth", "--json"), "coverage": ("-k", "--scope", "--timeout", "-i", "--json"),
    "cost": ("-k", "--processes", "--bytes", "--gain", "--workers", "--json"), "new-invariant": ("--name",),
    "explore": ("-k", "--scope", "--with", "--split", "--from", "-i", "--port", "--json"), "": ("--help", "--version"),
    "conform": (
        "--random", "--seed", "--with", "--keep", "--identify", "--observed", "--vmlinuz", "--here", "-k", "--seconds",
        "--json",
    ),
    "selftest": ("-k", "--json"), "replay": ("--vmlinuz", "-k", "--seconds", "--json"),
    "source read": ("--config", "--patch", "--kernel", "--verbose", "--json"),
    "source check": ("--config", "--patch", "-i", "--with", "--split", "--scope", "--engine", "--timeout", "--json"),
    "source diff": ("--config", "--depth", "--time", "--json"),
}
POSITIONAL = {
    "show": 1, "retell": 1, "litmus": 1, "verify": 1, "new-kernel": 1, "new-invariant": 1, "diff": 2, "export": 1,
    "conform": 1, "selftest": 1, "replay": 1, "source read": 1, "source check": 1, "source diff": 2,
}


def arguments(random_: random.Random, made: Path) -> Input:
    """Command lines, of which what takes long is not done."""
    words = (
        *(k.name for k in KERNELS), *FEATURES, *ENGINES, "coherence", "mprotect", "soft-dirty", "2,1,2,1,1", "1",
        "3", "z3", "cvc5", "page-count", "mapcount", "exclusive", "svg", "smt2", "btor2", "fork", "huge,zero",
        "v5.9@huge", "bare:v5.9+unmap-refuse", "v5.15", "6.1.0-56-amd64", "F1s", "{empty}", "{some.py}",
        "{some.py}:MINE",
    )
    kernels = [k.name for k in KERNELS]
    usual: dict[str, Sequence[str]] = {
        "-k": kernels, "-i": ("mprotect", "coherence", "soft-dirty"), "--scope": ("2,1,2,1,1", "default"),
        "--timeout": ("1",), "--engine": tuple(ENGINES), "--base": ("page-count",), "--from": kernels,
    }
    word = random_.choice(list(COMMANDS))
    given = word.split()
    for _ in range(POSITIONAL.get(word, 0) if random_.random() < 0.9 else random_.randrange(3)):
        given.append(random_.choice(words))
    for _ in range(random_.randrange(5)):
        option = random_.choice(COMMANDS[word])
        value = random_.choice(random_.choice((usual.get(option, words), words, ODD)))
        given += random_.choice(([option], [f"{option}={value}"], [option, value], [option, value], [option, value]))
    if word in ("check", "litmus", "restrict", "diff", "cost", "selftest", "source check", "source diff"):
        given += ["-o", str(made / "out")]
    if given and random_.random() < 0.1:
        at = random_.randrange(len(given))
        given[at] = of_text(given[at], random_)
    return given, {"empty": "", "some.py": "from model import *\nMINE = V5_9.but('mine', 'x')\n"}


TREE = {
    "tree/Makefile": "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION = -rc1\n",
    "tree/mm/memory.c": "".join(f"int line{n};\n" for n in range(1, 30)),
    "tree/mm/gup.c": "int one;\nint two;\n",
}
PATCH = """\
From: somebody
- a list
---
diff --git a/mm/memory.c b/mm/memory.c
--- a/mm/memory.c
+++ b/mm/memory.c
@@ -3,4 +3,5 @@ int line2;
 int line3;
-int line4;
+int other;
+int another;
 int line5;
 int line6;
@@ -20,2 +21,3 @@
 int line20;
+int more;
 int line21;
--- a/mm/gup.c
+++ /dev/null
@@ -1,2 +0,0 @@
-int one;
-int two;
--- /dev/null
+++ b/mm/ksm.c
@@ -0,0 +1 @@
+int new;
--\N{SPACE}
2.39
"""


def patches(random_: random.Random, made: Path) -> Input:
    """Mutated patches, and Makefiles, of a small tree; what is done is only to apply them."""
    files = {**TREE, "x.patch": of_text(PATCH, random_)}
    if random_.random() < 0.3:
        files["tree/Makefile"] = of_text(files["tree/Makefile"], random_)
    return ["source", "read", "tree", "--patch", "{x.patch}"], files


OBSERVED = [
    {"litmus": name, "release": release, "kernel": "v5.9", "model": "Allowed", "observed": seen, "status": "agree",
     "reason": why, "digest": parse(text_of(name), name).digest}
    for name, release, seen, why in (
        ("F1-vmsplice-leak", "5.9.0", "condition true", ""),
        ("F8-mprotect-pin", "5.9.0", "condition false, refused 2, 3", ""),
        ("F1s-vmsplice-leak-swap", "5.9.0-x", "", "no swap"),
        ("F8-mprotect-pin", "6.1.0-56-amd64", "condition true, blocked 1", ""),
    )
]


def observed(random_: random.Random, made: Path) -> Input:
    """Mutated output of `conform --json`, to be explained."""
    text = of_json(json.dumps({"schema": 1, "results": OBSERVED}), random_)
    return ["conform", "--identify", "F1", "F8", "--observed", "{o.json}"], {"o.json": text}


KINDS: dict[str, Callable[[random.Random, Path], Input]] = {
    "litmus": litmus, "traces": traces, "certificates": certificates, "kernel-files": kernel_files,
    "arguments": arguments, "patches": patches, "observed": observed,
}


# Running

class TooSlowError(BaseException):
    """An input takes longer than it may; not an Exception, which would be caught."""


def _too_slow(number: int, frame: Any) -> None:
    while frame is not None:
        if frame.f_code.co_name in SWALLOWS:
            # There it would become an error of another kind.
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            return
        frame = frame.f_back
    raise TooSlowError


def prepared(made: Path) -> None:
    """What is mutated and not in the repository: traces, and certificates with their obligations."""
    cells = tables.verdicts(
        ["v5.7", "v5.9"], ["isolation-reference", "write-bit", "coherence-write-pin"], engine="explore",
        scope="2,1,2,1,1", out=made / "traces",
    )
    assert all(cell.trace for cell in cells)
    shipped = CERTIFICATES
    for name in ("mprotect", "soft-dirty", "counters", "uffd-wp"):
        target = made / "certificates" / "v5.9" / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((shipped / "v5.9" / f"{name}.json").read_text(encoding="utf-8"), encoding="utf-8")
    (made / "obligations").symlink_to(shipped / "obligations")


WOULD = "would be done"


def _not_done(*_: Any, **__: Any) -> Any:
    raise ModelError(WOULD)


load([])
command_of = functools.cache(typer.main.get_command)
"""What is made of the program's functions: made anew for each input, it takes longer than most inputs."""


NOT_DONE = (
    "proofs.check.tables.decide", "proofs.restrict.lattice.restrict", "proofs.compare.diff.compare",
    "proofs.check.coverage.cover", "proofs.cost.tables.tables", "proofs.certify.verify.verify",
    "proofs.cli.watch.watch", "proofs.export.circuits.written", "proofs.pages.server.server",
    "proofs.hardware.observing.observe", "proofs.hardware.identify.identify", "proofs.cli.hardware.predict",
    "proofs.hardware.asking.Asking", "proofs.cli.source.survey", "proofs.litmus.history.history",
)
"""What only takes time, once the arguments are understood."""
SKIMMED = ("arguments", "kernel-files", "patches", "observed")
"""Kinds of input of which the rest is left out."""


def written(given: Input, folder: Path) -> list[str]:
    """The command line, once its files are in that folder."""
    words, files = given
    paths = {}
    for name, text in files.items():
        paths[name] = folder / name
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_bytes(text.encode(errors="surrogatepass"))
    line = [re.sub(r"\{([^{}]+)\}", lambda m: str(paths.get(m[1], m[0])), word) for word in words]
    # Python and shells pass no such argument on.
    return [word.replace("\x00", "") for word in line]


def ended(given: Input, folder: Path, kind: str) -> tuple[int, str, str]:
    """(exit code, standard error, what is wrong with that or nothing) of one input."""
    line = written(given, folder)
    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SLOW)
    wrong = ""
    try:
        with contextlib.ExitStack() as stack:
            # What an argument makes it write is of no use to anybody.
            stack.enter_context(contextlib.chdir(folder))
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            stack.enter_context(unittest.mock.patch("tempfile.tempdir", str(folder)))
            stack.enter_context(unittest.mock.patch("typer.main.get_command", command_of))
            for name in NOT_DONE if kind in SKIMMED else ():
                stack.enter_context(unittest.mock.patch(name, _not_done))
            code = run(line)
    except TooSlowError:
        code, wrong = -1, f"takes more than {SLOW} s"
    except BaseException as error:
        code, wrong = -2, f"raises {type(error).__name__}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    told = err.getvalue()
    if not wrong and code not in ALLOWED:
        wrong = f"exit code {code}: {told.strip()}"
    elif not wrong and "Traceback" in told:
        wrong = "a traceback"
    # A user's file may print what it likes; what is understood may be remarked on before it is done.
    elif (
        not wrong and code == USAGE and kind != "kernel-files" and WOULD not in told
        and told.count("\n") - told.count(": the rules of ") != 1
    ):
        wrong = f"{told.count(chr(10))} lines for bad input: {told!r}"
    return code, told, wrong


ALONE = "import sys; sys.path.insert(0, sys.argv.pop(1)); import fuzz; sys.exit(fuzz.skimmed(sys.argv[1:]))"


def skimmed(line: list[str]) -> int:
    """The exit code of a command line, of which what only takes time is not done."""
    with contextlib.ExitStack() as stack:
        for name in NOT_DONE:
            stack.enter_context(unittest.mock.patch(name, _not_done))
        return run(line)


def otherwise_apart(given: Input, folder: Path, kind: str, code: int) -> str:
    """What a process of its own makes otherwise of an input that ended here with that exit code, or nothing."""
    program = ["-c", ALONE, str(Path(__file__).parent)] if kind in SKIMMED else ["-m", "proofs"]
    try:
        done = subprocess.run(
            [sys.executable, *program, *written(given, folder)], cwd=folder, capture_output=True, check=False,
            timeout=4 * SLOW, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    except UnicodeEncodeError:
        # No process is given such an argument.
        return ""
    told = done.stderr.decode(errors="replace")
    if done.returncode != code:
        return f"exit code {done.returncode} in a process of its own, {code} here: {told.strip()}"
    return "a traceback in a process of its own" if "Traceback" in told else ""


def fuzz(
    kind: str, seed: int, inputs: int, seconds: float, made: Path, found: Path | None = None, apart: int = 0
) -> tuple[collections.Counter[int], list[str]]:
    """(how many inputs ended with which exit code, what was wrong). Those inputs are kept in `found`.

    One in `apart` is done in a process of its own too, if that is not 0.
    """
    codes: collections.Counter[int] = collections.Counter()
    failures = []
    started = time.monotonic()
    for number in range(inputs):
        if time.monotonic() - started > seconds:
            break
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "certificates").mkdir()
            (folder / "certificates" / "obligations").symlink_to(made / "obligations")
            given = KINDS[kind](random.Random(f"{kind} {seed} {number}"), made)
            code, told, wrong = ended(given, folder, kind)
            if apart and not wrong and number % apart == apart - 1:
                wrong = otherwise_apart(given, folder, kind, code)
        codes[code] += 1
        if wrong:
            failures.append(f"{kind} {seed} {number}: {wrong}")
            if found is not None:
                found.mkdir(exist_ok=True)
                words, files = given
                kept = found / f"{kind}-{seed}-{number}"
                text = json.dumps({"arguments": words, "files": files, "wrong": wrong, "told": told}, indent=1)
                kept.with_suffix(".json").write_text(text, encoding="utf-8")
    return codes, failures


def main() -> int:
    """Fuzz; exit code 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--inputs", type=int, default=2000, help="of each kind")
    parser.add_argument("--seconds", type=float, default=600, help="for each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--apart", type=int, default=100, help="one in so many is done in a process of its own too")
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        prepared(made)
        for kind in given.kind or KINDS:
            codes, failures = fuzz(kind, given.seed, given.inputs, given.seconds, made, Path("fuzz-found"), given.apart)
            ends = ", ".join(f"{count} with {code}" for code, count in sorted(codes.items()))
            print(f"{kind}: {codes.total()} inputs, {ends}", *failures, sep="\n  ", flush=True)
            bad += len(failures)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
