"""What a check says of one kernel and one invariant, its trace, and tables of such cells."""

from __future__ import annotations

import dataclasses
import functools
import html
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import z3

from invariants import Invariant
from model.kernels import Kernel
from model.logic import ModelError, Scope, System, functions_in, names_in
from model.state import ZERO, Value, frame_value, slot_value, vma_soft_dirty
from proofs import store
from proofs.check.prove import SECONDS
from proofs.data import EXPECTED
from proofs.derive.interpreter import Instance
from proofs.engine import Claim, Evidence
from proofs.naming.specs import file_name, find_invariant, state_of, system_of, with_features
from proofs.traces.trace import Trace, execute, read_json, to_json, write

LEGEND = {
    "VIOLATED": "V n  VIOLATED: the shortest counterexample has n steps",
    "PROVED": "P n  PROVED for any number of processes, pages, frames, references and slots, by n clauses; "
              "z3 and cvc5 agree",
    "EXHAUSTED": "E    EXHAUSTED: holds in every state of the scope; not proved beyond it",
    "BOUNDED": "B n  BOUNDED: no violation within n steps",
    "UNKNOWN": "?    UNKNOWN: see the notes",
}
"""Verdict to what `mark` writes for it, explained."""
CellKey = tuple[str, str, str]
"""A cell's place: table, kernel with features, invariant."""
OBSERVED_ONLY = frozenset(f.name for f in (frame_value, slot_value, vma_soft_dirty))
"""Names of state functions that no claim needs; traces of `check` leave them out."""


@dataclass(frozen=True)
class Cell:
    """One verdict. `length`: steps of the shortest counterexample. `depth`: steps that BMC excluded.

    `note`: what ran out. `clauses`: size of the inductive invariant, `certificate`: the manifest of its proof.
    `steps`: the counterexample as (rule name, binding), in `scope`; `trace`: its file, once written. `encoding`: the
    size of a step as BMC or k-induction encodes it, by the names of `bmc.Size`.
    """

    kernel: str
    invariant: str
    verdict: str
    engine: str
    seconds: float
    vacuous: bool
    length: int | None = None
    states: int | None = None
    transitions: int | None = None
    diameter: int | None = None
    depth: int | None = None
    note: str = ""
    clauses: int | None = None
    certificate: str | None = None
    steps: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    trace: str | None = None
    dead_rules: tuple[str, ...] = ()
    encoding: Mapping[str, int] | None = field(default=None, hash=False)
    scope: Scope | None = field(default=None, compare=False)

    @classmethod
    def of(cls, kernel: str, evidence: Evidence) -> Cell:
        """What an engine said of the kernel."""
        said = {f.name: getattr(evidence, f.name) for f in dataclasses.fields(evidence)}
        claim, path = said.pop("claim"), said.pop("path")
        return cls(
            kernel, claim, **said, length=None if path is None else len(path),
            steps=tuple((step.rule.name, step.binding) for step in path or ()),
        )

    @classmethod
    def from_kept(cls, row: Mapping[str, Any]) -> Cell:
        """The cell of which that was kept as JSON. Raises KeyError or TypeError if it is of none."""
        scope = row["scope"] and Scope(_tuples(row["scope"]["sizes"]))
        return cls(**{**row, "steps": _tuples(row["steps"]), "dead_rules": tuple(row["dead_rules"]), "scope": scope})

    def public(self) -> dict[str, Any]:
        """The cell as `check --json` prints it."""
        shown = dataclasses.asdict(self)
        del shown["steps"], shown["scope"]
        shown["seconds"] = round(self.seconds, 3)
        shown["dead_rules"] = list(self.dead_rules)
        return shown


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


class Cells(list[Cell]):
    """Cells by rows, which `print` and a notebook show as a table: kernels against invariants, verdicts as `mark` has
    them.
    """

    def _rows(self) -> list[list[str]]:
        kernels, invariants = (dict.fromkeys(getattr(c, name) for c in self) for name in ("kernel", "invariant"))
        found = {(c.kernel, c.invariant): c for c in self}
        return [["", *invariants], *([k, *(mark(found.get((k, i))) for i in invariants)] for k in kernels)]

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        rows = self._rows()
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows)
        verdicts = {c.verdict for c in self}
        legend = "".join(f"<li>{html.escape(text)}</li>" for verdict, text in LEGEND.items() if verdict in verdicts)
        return f"<table>{body}</table><ul>{legend}</ul>"


def mark(cell: Cell | None) -> str:
    """The verdict as a table has it; LEGEND explains it."""
    if cell is None:
        return "n/a"
    text = {
        "VIOLATED": f"V {cell.length}", "PROVED": f"P {cell.clauses}", "EXHAUSTED": "E",
        "BOUNDED": f"B {cell.depth}", "UNKNOWN": "?",
    }[cell.verdict]
    return text + (" (vacuous)" if cell.vacuous else "")


@dataclass(frozen=True)
class Table:
    """Kernels against invariants in one scope. A cell is of the kernel with `features` and those of the invariant.

    `kernels` are (name by which to find it again, kernel). `without`: rules left out. `name`: of a configuration of
    `check --full`, empty for the table that was asked for. `timeout`, `proof_time`: limits in seconds for a search and
    for one proof; with no time for proofs none is sought. `violated`: (kernel, invariant) to the reason why that is
    expected; with `inherits` also what is known of the kernel without features, but for `holds`.
    """

    kernels: tuple[tuple[str, Kernel], ...]
    invariants: tuple[Invariant, ...]
    scope: Scope
    without: tuple[str, ...] = ()
    timeout: float | None = None
    proof_time: float = SECONDS
    name: str = ""
    about: str = ""
    features: tuple[str, ...] = ()
    inherits: bool = True
    violated: Mapping[tuple[str, str], str] = field(default_factory=dict)
    holds: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def spec(self, kernel: str, stated: Invariant) -> str:
        """The kernel with the features of its cell."""
        return with_features(kernel, (*self.features, *stated.features))

    def expects_violation(self, kernel: str, stated: Invariant) -> bool:
        """Whether the cell is expected to be violated: by the table itself or, where it `inherits`, by what is known of
        the kernel without features."""
        inherits = self.inherits and (kernel, stated.name) not in self.holds
        inherited = _known_cells().get(kernel, {"violated": ()})["violated"] if inherits else ()
        return (kernel, stated.name) in self.violated or stated.name in inherited

    def cells(self, found: Mapping[CellKey, Cell]) -> list[Cell]:
        """Those of its cells that are found, by rows."""
        keys = ((self.name, self.spec(spec, i), i.name) for spec, _ in self.kernels for i in self.invariants)
        return [found[key] for key in keys if key in found]


@functools.cache
def _known_cells() -> Mapping[str, Mapping[str, Any]]:
    """What is expected of the default table, by kernel."""
    return tomllib.loads(EXPECTED.read_text(encoding="utf-8"))


def claim_of(stated: Invariant) -> Claim:
    """The invariant as engines take it."""
    return Claim(stated.name, stated.formula, stated.premise)


def trace_system(spec: str, claims: tuple[Invariant, ...] = ()) -> System:
    """The system on which traces of `check` are executed, for those claims beside what every trace shows."""
    return _trace_system(spec, claims, state_of(spec))


@functools.lru_cache(64)
def _trace_system(spec: str, claims: tuple[Invariant, ...], state: int) -> System:
    system = system_of(spec)
    shown = [f(*(z3.Const(s.name(), s) for s in f.domain)) for f in system.functions if f.name not in OBSERVED_ONLY]
    # Some feature may make a rule depend on what is otherwise observed only, as KSM on the content of pages.
    return system.restricted(system.cone([*shown, *(i.formula for i in claims)]))


def with_contents(scope: Scope, stated: Invariant, system: System) -> Scope:
    """The scope, with two contents of pages where the invariant speaks of contents, or a rule of the system that it
    depends on looks for zeros; else they do not matter."""
    if functions_in(stated.formula) & {frame_value.name, slot_value.name} or looks_for_zeros(system):
        return Scope(tuple((sort, 2 if sort == "Value" else size) for sort, size in scope.sizes))
    return scope


def looks_for_zeros(system: System) -> bool:
    """Some rule does one thing to a page of zeros and another to a page of something else."""
    zero = ZERO.decl().name()
    asked = (
        term for r in system.rules
        for term in (*r.guard, *(u.when for u in r.updates), *(u.value for u in r.updates if u.function.range != Value))
    )
    return any(zero in names_in(term) for term in asked)


def trace_of(cell: Cell, scope: Scope | None = None) -> Trace:
    """The cell's counterexample, executed on the reference interpreter. `scope`: where the cell does not say it.

    Raises TraceError if it is none, ModelError if there is none, or no scope.
    """
    scope = scope or cell.scope
    if cell.verdict != "VIOLATED":
        raise ModelError(f"{cell.kernel}, {cell.invariant} is {cell.verdict}: there is no counterexample")
    if scope is None:
        raise ModelError(f"{cell.kernel}, {cell.invariant}: in which scope? trace_of(cell, scope)")
    broken = find_invariant(cell.invariant)
    system = trace_system(cell.kernel, (broken,))
    steps = [Instance(system.rule(name), binding) for name, binding in cell.steps]
    alone = system_of(cell.kernel).restricted(system_of(cell.kernel).cone([broken.formula, broken.premise]))
    sizes = with_contents(scope, broken, alone)
    return execute(cell.kernel, broken.name, broken.statement, system, sizes, steps, violated=broken.formula)


def _is_of_another_scope(path: Path, trace: Trace) -> bool:
    """Whether there is a trace in that file, and in another scope."""
    if not path.exists():
        return False
    try:
        return bool(read_json(path)["#meta"]["scope"] != to_json(trace)["#meta"]["scope"])
    except (ModelError, KeyError, TypeError):
        return False  # nothing that anybody can use


def write_trace(
    cell: Cell, scope: Scope, out: Path, formats: dict[str, Callable[[Trace], str]], apart: str = ""
) -> Cell:
    """Write the counterexample as JSON and in each of `formats` (file ending to renderer); the cell with its path.

    `apart`: what tells it from those in other scopes. It becomes part of the folder's name if one is there already.
    """
    trace, name = trace_of(cell, scope), file_name(cell.invariant)
    folder = out / file_name(cell.kernel)
    path = folder / f"{name}.trace.json"
    if _is_of_another_scope(path, trace):
        folder = out / f"{file_name(cell.kernel)}{apart}"
        path = folder / path.name
    folder.mkdir(parents=True, exist_ok=True)
    write(trace, path)
    for ending, render in formats.items():
        store.write(folder / f"{name}.{ending}", render(trace))
    return dataclasses.replace(cell, trace=str(path))
