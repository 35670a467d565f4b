"""`python -m benchmarks explore`, `bmc`: our searches beside those of other programs, on one model from the terms."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from benchmarks.bmc import CASES, SEARCHERS, answers
from benchmarks.explore import CHECKERS, SCOPES, Comparison, Disagreement, Missing, compared
from model.blame import nearest
from model.logic import ModelError
from proofs.check.scopes import scope_named
from proofs.naming.specs import find_kernel

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _several() -> None:
    """Benchmarks against other tools."""


@app.command()
def explore(
    kernel: Annotated[str, typer.Option("--kernel", "-k", help="A kernel by name.")] = "v6.15",
    scope: Annotated[list[str] | None, typer.Option(
        help=f"P,V,F,K,S or one of {', '.join(SCOPES)}; may be repeated. All of the latter if not given."
    )] = None,
    checker: Annotated[list[str] | None, typer.Option(
        help=f"One of {', '.join(CHECKERS)}; may be repeated. All if not given; `ours` is always run."
    )] = None,
    runs: Annotated[int, typer.Option(help="Runs of each, of which the fastest counts; one if it takes a minute.")] = 3,
    timeout: Annotated[float, typer.Option(help="Seconds after which a run is given up.")] = 3600,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run all checkers in turn and print how they compare with ours."""
    names = checker or list(CHECKERS)
    for name in names:
        if name not in CHECKERS:
            raise ModelError(f"no checker {name!r}{nearest(name, CHECKERS)}")
    system = find_kernel(kernel).system()
    found = [
        compared(kernel, system, SCOPES.get(text, text), names, runs, timeout) for text in scope or list(SCOPES)
    ]
    if as_json:
        print(json.dumps({"explore": [dataclasses.asdict(c) for c in found]}, indent=2))
        return
    for comparison in found:
        print(_shown(comparison))


@app.command()
def bmc(
    searcher: Annotated[list[str] | None, typer.Option(
        help=f"One of {', '.join(SEARCHERS)}; may be repeated. All if not given; `ours` is always run."
    )] = None,
    case: Annotated[list[int] | None, typer.Option(
        help=f"Number of a case, from 1 to {len(CASES)}; may be repeated. All if not given."
    )] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the fastest counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bounded model checking: our encoding, the former one, and ours given to other solvers."""
    names = searcher or list(SEARCHERS)
    for name in names:
        if name not in SEARCHERS:
            raise ModelError(f"no searcher {name!r}{nearest(name, SEARCHERS)}")
    told = []
    for number in case or range(1, len(CASES) + 1):
        if not 1 <= number <= len(CASES):
            raise ModelError(f"no case {number}: there are {len(CASES)}")
        kernel, stated, scope, depth = CASES[number - 1]
        found = answers(find_kernel(kernel).system(), scope_named(scope), stated, depth, tuple(names), runs)
        told.append({
            "kernel": kernel, "invariant": stated, "scope": scope, "depth": depth,
            "answers": [dataclasses.asdict(each) for each in found],
        })
        if not as_json:
            size = ", ".join(f"{count} {what}" for what, count in found[0].size.items())
            length = "none" if found[0].length is None else f"one of {found[0].length} steps"
            print(f"{kernel}, {stated}, scope {scope}, to {depth} steps: {length}; a step has {size}")
            for each in found:
                print(f"  {each.searcher:<9} {each.wall:7.2f} s  {each.wall / found[0].wall:6.1f} times ours")
    if as_json:
        print(json.dumps({"bmc": told}, indent=2))


def _shown(comparison: Comparison) -> str:
    rows = [[
        "", "states", "transitions", "wall s", "CPU s", "states/s", "transitions/s", "MiB", "B/state", "times ours",
    ]]
    for run in comparison.runs:
        if run.failed:
            rows.append([run.checker, run.failed, *[""] * 8])
            continue
        rows.append([
            run.checker, f"{run.states:,}", f"{run.transitions:,}", f"{run.wall:.2f}", f"{run.cpu:.2f}",
            f"{run.states / run.wall:,.0f}", f"{run.transitions / run.wall:,.0f}", f"{run.memory >> 20:,}",
            f"{run.memory / run.states:.0f}", f"{comparison.ratio(run):.1f}",
        ])
    widths = [max(len(row[i]) for row in rows if i == 0 or row[2] or row is rows[0]) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join([f"{comparison.kernel}, scope {comparison.scope}", *(line.rstrip() for line in lines), ""])


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        app(standalone_mode=False)
    except (ModelError, Missing) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except TyperException as error:
        print(f"benchmarks: {error.format_message()}", file=sys.stderr)
        return 2
    except Disagreement as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
