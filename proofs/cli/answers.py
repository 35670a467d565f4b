"""Answers of litmus tests: asked, with their traces written, and printed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.kernels import Kernel
from proofs.cli.app import print_columns
from proofs.litmus.account import account
from proofs.litmus.language import Litmus
from proofs.naming.specs import file_name, system_of, with_features
from proofs.traces import trace as traces
from proofs.traces.trace import Trace

Row = dict[str, Any]
"""What JSON says of one test on one kernel."""


def answer_row(test: Litmus, spec: str, kernel: Kernel, folder: Path, ends: bool, lost: list[OSError]) -> Row:
    """Ask the kernel, named `spec`, and write the traces into the folder; `ends`: those of all ends. `lost` gets why
    one could not be written: the answer stands."""
    # The name by which the kernel is found again, which for a user's file is not its own.
    built = with_features(spec, test.features)
    told = account(test, kernel, system_of(built), ends)
    stem = file_name(f"{test.name}.{file_name(spec)}")

    def written(trace: Trace | None, name: str) -> str | None:
        if trace is None:
            return None
        try:
            traces.write(dataclasses.replace(trace, kernel=built), folder / name)
        except OSError as error:
            lost.append(error)
            return None
        return str(folder / name)

    return {
        "litmus": test.name, "kernel": spec, "answer": str(told.result.answer),
        "trace": written(told.result.trace, f"{stem}.trace.json"), "reason": told.result.reason,
        "vacuous": told.vacuous, "notes": list(told.notes),
        **({"ends": [
            {
                "shows": end.shows, "condition": end.condition, "executions": end.executions,
                "steps": [[note, label] for note, label in _steps(end.trace)],
                "trace": written(end.trace, f"{stem}.end-{number}.trace.json"),
            }
            for number, end in enumerate(told.endings, 1)
        ]} if ends else {}),
    }


def _steps(trace: Trace) -> Iterator[tuple[str, str]]:
    """What each operation did, as (the operation, its rules with their parameters)."""
    for note, run in itertools.groupby(range(len(trace.steps)), lambda i: trace.notes[i]):
        yield note, ", ".join(map(trace.label, run))


def print_answers(names: Sequence[str], kernels: Sequence[str], rows: Sequence[Row], folder: Path) -> None:
    """The table, and what there is to say of its entries."""
    answers = {(r["litmus"], r["kernel"]): f"{r['answer']}{' (vacuous)' * bool(r['vacuous'])}" for r in rows}
    print_columns(
        [["kernel"], *(n.split("-") for n in names)],
        [[k, *(answers.get((n, k), "not asked") for n in names)] for k in kernels],
    )
    for name, where, said in _remarks(rows, kernels):
        print(f"{name}, {where}: {said}")
    for r in rows:
        if "features" in r:
            print(f"{r['litmus']}, {r['kernel']}: {', '.join(r['features']) or 'no'} features, {r['functions']} of "
                  f"{r['all_functions']} state functions, {r['rules']} of {r['all_rules']} rules")
        for line in _ends(r):
            print(line)
    found = [r["trace"] for r in rows if r["trace"]]
    if len(found) == 1:
        print(f"Trace: {found[0]}; `python -m proofs show FILE` prints it.")
    elif found:
        print(f"{len(found)} traces in {folder}; `python -m proofs show FILE` prints one.")


def _remarks(rows: Sequence[Row], kernels: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Each remark once, as (test, kernels, remark)."""
    found: dict[tuple[str, str], list[str]] = {}
    for r in rows:
        remarks = [r["reason"], f"vacuous: {r['vacuous']}" if r["vacuous"] else "", *r["notes"]]
        for said in filter(None, remarks):
            found.setdefault((r["litmus"], said), []).append(r["kernel"])
    for (name, said), where in found.items():
        yield name, "every kernel" if len(where) == len(kernels) > 1 else _named(where, kernels), said


def _named(some: Sequence[str], kernels: Sequence[str]) -> str:
    """Some of the kernels; of three or more releases in a row the first and the last."""
    runs: list[list[str]] = []
    for kernel in some:
        before = runs[-1][-1] if runs else ""
        together = before.startswith("v") and kernel.startswith("v") and (
            kernels.index(kernel) == kernels.index(before) + 1
        )
        if together:
            runs[-1].append(kernel)
        else:
            runs.append([kernel])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def _ends(row: Row) -> Iterator[str]:
    """The ends, those in which the condition is true with a star, and an execution to each."""
    ends = row.get("ends", ())
    if not ends:
        return
    total = sum(end["executions"] for end in ends)
    yield f"\n{row['litmus']} on {row['kernel']}: executions to each end, of {total}; * where the condition is true"
    for end in ends:
        yield f"{end['executions']:5} {'*' if end['condition'] else ' '} {end['shows']}"
        width = max((len(operation) for operation, _ in end["steps"]), default=0)
        yield from (f"          {operation.ljust(width)}  {did}" for operation, did in end["steps"])
        yield f"          {end['trace'] or 'its trace is not written'}"
