"""Whole checks kept: the same question is answered at once as long as nothing changed that its answer rests on."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from proofs import json_text, store
from proofs.check.cells import Cell, CellKey, Table
from proofs.check.jobs import program_digest
from proofs.naming.specs import is_own

RESTS_ON = ("z3-solver", "cvc5", "llvmlite", "numpy")
"""Distributions whose other version might say something else."""


def question(tables: Sequence[Table], engine: str, depth: int) -> str | None:
    """Hash of what is asked, and of the programs that answer; None where something of a user's is asked, which may
    rest on what nobody sees."""
    names = {name for t in tables for name in (*(spec for spec, _ in t.kernels), *(i.name for i in t.invariants))}
    if any(map(is_own, names)):
        return None
    asked = [
        ([spec for spec, _ in t.kernels], [i.name for i in t.invariants], t.scope.sizes, t.without, t.timeout,
         t.proof_time, t.name, t.features)
        for t in tables
    ]
    versions = [f"python {platform.python_version()}", *(f"{name} {_version(name)}" for name in RESTS_ON)]
    text = f"{asked} {engine} {depth} {program_digest()} {versions}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def answered(out: Path, key: str) -> dict[CellKey, Cell] | None:
    """The cells that were kept under that key; None if there are none, or evidence of theirs is lost or changed."""
    try:
        row = store.kept(_file(out, key), key)
        found = {}
        for table, kept in row["cells"]:
            cell = Cell.from_kept(kept)
            found[table, cell.kernel, cell.invariant] = _with_paths(cell, lambda path: str(out / path))
        return found if row["evidence"] == _digest(out, found) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep(out: Path, key: str, found: Mapping[CellKey, Cell], proved: Collection[str]) -> None:
    """Keep the cells, unless one may come out better, or be said otherwise, next time. Raises OSError.

    `proved`: names of the tables for whose cells proofs were sought.
    """
    for (table, _, _), cell in found.items():
        final = ("VIOLATED", "PROVED") if table in proved else ("VIOLATED", "EXHAUSTED", "BOUNDED")
        if cell.note or cell.verdict not in final:
            return
    rows = [
        (table, dataclasses.asdict(_with_paths(cell, lambda path: str(Path(path).relative_to(out)))))
        for (table, _, _), cell in found.items()
    ]
    file = _file(out, key)
    file.parent.mkdir(exist_ok=True)
    store.keep(file, key, {"cells": rows, "evidence": _digest(out, found)})


def _with_paths(cell: Cell, change: Callable[[str], str]) -> Cell:
    return dataclasses.replace(
        cell, trace=cell.trace and change(cell.trace), certificate=cell.certificate and change(cell.certificate)
    )


def _file(out: Path, key: str) -> Path:
    return out / "checks" / f"{key}.json"


def _digest(out: Path, found: Mapping[CellKey, Cell]) -> str:
    """Hash of all files of evidence. Raises OSError if one is not there, ValueError or KeyError if it is none."""
    digest = hashlib.sha256()
    for path in dict.fromkeys(path for cell in found.values() for path in _evidence(cell)):
        digest.update(f"{path.relative_to(out)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _evidence(cell: Cell) -> Iterator[Path]:
    """The cell's trace with its pictures, its certificate with the obligations."""
    if cell.trace is not None:
        trace = Path(cell.trace)
        name = trace.name.removesuffix(".trace.json")
        yield from (trace, *(trace.with_name(f"{name}.{ending}") for ending in ("svg", "dot")))
    if cell.certificate is not None:
        manifest = Path(cell.certificate)
        yield manifest
        for name in json_text.read(manifest)["obligations"].values():
            yield manifest.parent.parent / "obligations" / f"{name}.smt2"
