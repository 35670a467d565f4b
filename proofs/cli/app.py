"""What commands share: options, reading their values, printing."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from invariants import FURTHER as FURTHER_INVARIANTS
from invariants import INVARIANTS, Invariant
from model.blame import nearest
from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError
from proofs.cli.ending import is_mistaken
from proofs.errors import EXIT_CODES
from proofs.litmus import execution as litmus_tests
from proofs.litmus import language, parser, suite
from proofs.litmus import retell as retelling
from proofs.naming.specs import (
    file_of,
    find_invariants,
    find_kernel,
    formula_of,
    idle_splits,
    resolved,
    system_of,
    with_features,
)
from proofs.traces import trace as traces
from proofs.words import wrapped

PROJECT = "cow-proofs"
"""The name under which pyproject.toml has it."""

app = typer.Typer(
    help="Model checker for copy-on-write and page pinning in Linux." + EXIT_CODES, add_completion=True,
    rich_markup_mode=None, pretty_exceptions_enable=False,
)


def called(arguments: Sequence[str]) -> str:
    """When, by which version and by which command something was made."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"Made {now} by {PROJECT} {version()}: python -m proofs {shlex.join(arguments)}"


def version() -> str:
    """The version of this program, as it is installed."""
    try:
        return importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _print_version(asked: bool) -> None:
    if asked:
        print(PROJECT, version())
        raise typer.Exit


@app.callback()
def _everywhere(
    asked: Annotated[bool, typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
    )] = False,
) -> None:
    """Model checker for copy-on-write and page pinning in Linux."""


def completed_kernels(incomplete: str) -> list[str]:
    return [k.name for k in (*KERNELS, *FURTHER) if k.name.startswith(incomplete)]


def completed_invariants(incomplete: str) -> list[str]:
    return [i.name for i in (*INVARIANTS, *FURTHER_INVARIANTS) if i.name.startswith(incomplete)]


KernelOption = Annotated[
    list[str] | None, typer.Option("--kernel", "-k", autocompletion=completed_kernels, help=(
        "A kernel by name, or a release, as v5.15 or 6.1.0-56-amd64, or file.py:NAME, or BASE+RESTRICTION+..., "
        "bare:KERNEL+RESTRICTION+...; any of these may be followed by features, as v5.9@huge,ksm; may be repeated."
    ))
]
OwnInvariantOption = Annotated[list[str] | None, typer.Option(
    "--invariant", "-i", help="Beside the model's invariants your own, file.py:NAME or file.py; may be repeated."
)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for traces, graphs and results.")]
TextOutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write instead of standard output.")
]


def asked_kernels(specs: Sequence[str] | None) -> list[tuple[str, Kernel]]:
    """Those named, by the model's names, as `named_kernel`; the default table's without any."""
    if not specs:
        return [(k.name, k) for k in KERNELS]
    return [(spec, find_kernel(spec)) for spec in dict.fromkeys(map(named_kernel, dict.fromkeys(specs)))]


def named_kernel(spec: str) -> str:
    """The spec with the model's name for a release, having said which that is and why; nothing for nothing.

    Raises ModelError if there is no such kernel.
    """
    if not spec:
        return spec
    name, why = resolved(spec)
    find_kernel(name)
    if why:
        say(why)
    return name


def asked_invariants(names: Sequence[str] | None) -> list[Invariant]:
    """Those named, as `find_invariants` has them; the default table's without any."""
    if not names:
        return list(INVARIANTS)
    return list({i.name: i for name in names for i in find_invariants(name)}.values())


def own_invariants(names: Sequence[str] | None) -> list[Invariant]:
    """Users' invariants, beside all of the model's. Raises ModelError for one of the model's."""
    for name in names or ():
        if file_of(name) is None:
            raise ModelError(f"the model's invariants are there without -i; {name!r} is not file.py:NAME")
    return asked_invariants(names) if names else []


def names_in_options(given: Sequence[str] | None, known: Iterable[str], what: str) -> tuple[str, ...]:
    """The names in options that each hold one or several with commas between. Raises ModelError for one not known."""
    names = [name.strip() for text in given or () for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ModelError(f"no {what} {name!r}{nearest(name, known)}")
    return tuple(dict.fromkeys(names))


def writable_folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        if not is_mistaken(error):
            raise
        raise ModelError(f"cannot write to {out}: {error.strerror}") from error
    return out


def write_file(path: Path, content: str | bytes) -> None:
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        if not is_mistaken(error):
            raise OSError(error.errno, error.strerror, f"cannot write {path}") from error
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


def _widths(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> list[int]:
    return [
        max(len(text) for text in [*head, *(row[i] for row in rows)]) for i, head in enumerate(heads)
    ]


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def on_terminal() -> bool:
    """What is printed is read by somebody there, in lines of a width."""
    return sys.stdout.isatty()


def print_columns(
    heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], short: Sequence[Sequence[str]] | None = None
) -> None:
    """A table; each heading is a list of lines. `short`: headings to take where the table is too wide for the terminal.

    On a terminal one that is wider still comes in parts, each with the first column, and verdicts have colours unless
    NO_COLOR is set.
    """
    room = Console().width if on_terminal() else None
    painted = room is not None and not os.environ.get("NO_COLOR")
    if room is not None and short is not None and _width(_widths(heads, rows)) > room:
        heads = short
    for n, columns in enumerate(_parts(_widths(heads, rows), room)):
        if n:
            print()
        chosen, cells = [heads[i] for i in columns], [[row[i] for i in columns] for row in rows]
        widths = _widths(chosen, cells)
        for row in [*itertools.zip_longest(*chosen, fillvalue=""), ["-" * w for w in widths], *cells]:
            line = "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
            print(_VERDICT.sub(_coloured, line) if painted else line)


def print_prose(text: str, later: str = "") -> None:
    """A line, on a terminal in lines that fit it, with `later` before those after the first one; no word is broken."""
    if on_terminal():
        text = "\n".join(wrapped(text, Console().width, "", later))
    print(text)


def _parts(widths: Sequence[int], room: int | None) -> list[list[int]]:
    """Numbers of columns, the first one in each part, so that each part fits the room if it can."""
    parts = [[0]]
    for i in range(1, len(widths)):
        if room is not None and len(parts[-1]) > 1 and _width([widths[k] for k in (*parts[-1], i)]) > room:
            parts.append([0])
        parts[-1].append(i)
    return parts


_COLOURS = {"V": 31, "Broken": 31, "P": 32, "Holds": 32, "E": 36, "B": 33, "?": 33, "UNKNOWN": 33}
_VERDICT = re.compile(r"(?<=  )(?:([VPB]) \d+|(E|\?|Broken|Holds|UNKNOWN))(?: \(vacuous\))?(?=  |$)")


def _coloured(found: re.Match[str]) -> str:
    return f"\x1b[{_COLOURS[found[1] or found[2]]}m{found[0]}\x1b[0m"


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, ensure_ascii=False))


def give_out(text: str, out: Path | None) -> None:
    """The text on standard output, or in that file."""
    text = text if text.endswith("\n") else text + "\n"
    if out is None:
        print(text, end="")
    else:
        write_file(out, text)


VmlinuzOption = Annotated[
    list[Path] | None, typer.Option("--vmlinuz", help=(
        "A kernel image to boot in qemu instead of the running kernel; its modules and probe are looked for beside it "
        "(docs/kernels.md)."
    ))
]
HostOption = Annotated[bool, typer.Option("--allow-host-settings", help=(
    "On the running kernel: change, and put back, settings of the machine (KSM, khugepaged, memory cgroups)."
))]


def read_test(file: Path, kernel: str = "") -> language.Litmus:
    """The litmus test in a file, that of the suite with such a name, or that which a trace is told as; with a kernel as
    that has it: with its own operations, and callers' words as what they are there."""
    if file.suffix != ".json":
        found = suite.read_tests([str(file)], own=find_kernel(kernel).own_operations if kernel else ())
        if len(found) > 1:
            raise ModelError(f"{file} begins the names of {len(found)} tests: {', '.join(test.name for test in found)}")
        return found[0].on(find_kernel(kernel)) if kernel else found[0]
    return told(file).litmus


def told(file: Path) -> retelling.Retold:
    """The trace in a file as a litmus test."""
    trace = traces.read(file, system_of, formula_of)
    return retelling.retell(trace, find_kernel(trace.kernel))


def test_text(file: Path, test: language.Litmus) -> str:
    """The text of the test that `read_test` gives of that file."""
    if file.suffix == ".json":
        return told(file).text
    return parser.read_text(file) if suite.is_file(str(file)) else suite.text_of(test.name)


def predict(test: language.Litmus, kernel: str) -> dict[str, Iterable[litmus_tests.Outcome]] | None:
    """The outcomes that the model's kernel of that name has for the test; None without a name."""
    if not kernel:
        return None
    built = with_features(kernel, test.features)
    found, reason = litmus_tests.outcomes(test, find_kernel(kernel), system_of(built))
    if reason:
        raise ModelError(f"{test.name}: {reason}")
    return {test.name: found}


def say_idle(specs: Iterable[str]) -> None:
    """Say which sub-steps these kernels are asked with that split nothing there."""
    for spec in sorted(set(specs)):
        for split, needs in idle_splits(spec).items():
            say(f"{spec}: --split {split} splits nothing without --with {' or '.join(needs)}")


def say(message: str) -> None:
    # Where nobody can be told any more, the exit code still says it.
    with contextlib.suppress(OSError):
        print(f"proofs: {' '.join(message.split())}", file=sys.stderr)


def complain(message: str, code: int) -> int:
    say(message)
    return code


def going_on(fresh: bool) -> str:
    """How to go on after an interrupt."""
    return f"the same command{' without --fresh' * fresh} goes on from there"
