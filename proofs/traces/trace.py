"""Traces: a start state and steps, executed by the reference interpreter, kept as versioned JSON that is valid ITF.

ITF is the Informal Trace Format of Apalache; what it has no place for stands under `#meta`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from model.logic import ModelError, Rule, Scope, System, Term
from proofs import json_text, store
from proofs.derive.interpreter import Instance, Interpreter, State
from proofs.errors import TraceError

SCHEMA = 1
LARGEST = 256
"""Elements of one sort, at most, in a scope that is asked for and in a trace that is read."""
Names = Mapping[str, tuple[str, ...]]
"""Sort name to the names of its elements."""
_ALPHABET: dict[str, str] = {
    "Proc": "A C D E G H I J", "Page": "x y z u v w", "Frame": "P Q S T U V X Y Z", "Pin": "r t k l m n",
    "Slot": "s0 s1 s2 s3 s4 s5",
}


def default_names(scope: Scope) -> dict[str, tuple[str, ...]]:
    """Names for the elements of a scope: processes A, C, D, pages x, y, frames P, Q, S, references r, t, slots s0.

    No frame is called R or W, which say how a PTE maps one.
    """
    names = {}
    for sort, size in scope.sizes:
        known = _ALPHABET.get(sort, "").split()
        extra = [f"{sort.lower()}{i}" for i in range(len(known), size)]
        names[sort] = tuple((known + extra)[:size]) if known else tuple(str(i) for i in range(size))
    return names


@dataclass(frozen=True, repr=False)
class Trace:
    """Steps from a start state and the states they pass through.

    `kernel`: a kernel's name, or `file.py:NAME`, and `without` the rules that it is taken to lack. `claim`: name of the
    invariant or litmus test, and `formula` what `formula_digest` says of it. `statement`: what the last state shows, in
    words. `witness`: sort-named elements that break the claim, as (sort, element number), or that the condition of a
    litmus test asks of; `verdict`: the answer to that test which the trace shows, else empty.
    `notes`: one text per step, empty if none (a litmus test's statement). `reachable`: False for a counterexample to
    induction, whose start state need not be reachable.
    """

    kernel: str
    claim: str
    statement: str
    system: System
    scope: Scope
    names: Names
    steps: tuple[Instance, ...]
    states: tuple[State, ...]
    witness: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    reachable: bool = True
    without: tuple[str, ...] = ()
    formula: str = ""
    verdict: str = ""

    def __repr__(self) -> str:
        """One line: the system alone would fill pages of a session."""
        steps = ", ".join(self.label(number) for number in range(len(self.steps)))
        return f"<Trace of {self.claim} on {self.kernel}: {steps}>"

    @property
    def bad(self) -> bool:
        """It shows what somebody claims not to be: of `exists` neither answer is good or bad."""
        return bool(self.witness) and self.verdict != "Allowed"

    @property
    def marked(self) -> str:
        """What is said of elements of the witness."""
        return "asked of by the condition" if self.verdict else "breaks the claim"

    @cached_property
    def interpreter(self) -> Interpreter:
        return Interpreter(self.system, self.scope)

    def element(self, sort: str, number: int) -> str:
        """The element's name."""
        return self.names[sort][number]

    def arguments(self, number: int) -> dict[str, str]:
        """The parameters of step `number` (0-based) by name, with element names.

        A function parameter is written x->Q, for those arguments alone for which its value matters.
        """
        step = self.steps[number]
        shown = {}
        for param in step.rule.params:
            value = step.as_dict[param.name]
            sort = param.sort.name()
            if param.over is None:
                shown[param.name] = self.element(sort, value)
                continue
            over = param.over.name()
            needed = [
                f"{self.element(over, i)}->{self.element(sort, x)}"
                for i, x in enumerate(value)
                if self.interpreter.evaluate(
                    param.needed, self.states[number], {**step.as_dict, param.of.decl().name(): i}
                )
            ]
            if needed:
                shown[param.name] = ", ".join(needed)
        return shown

    def label(self, number: int) -> str:
        """Step `number` (0-based) as `wp-copy(p=A, v=x, new=Q)`."""
        arguments = ", ".join(f"{k}={v}" for k, v in self.arguments(number).items())
        return f"{self.steps[number].rule.name}({arguments})"

    def changed(self, number: int) -> frozenset[int]:
        """Positions of the cells that step `number` (0-based) changed."""
        before, after = self.states[number], self.states[number + 1]
        return frozenset(i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)


def execute(
    kernel: str, claim: str, statement: str, system: System, scope: Scope, steps: Sequence[Instance], *,
    names: Names | None = None, start: State | None = None, notes: Sequence[str] = (),
    violated: Term | None = None, reachable: bool = True, without: Sequence[str] = (),
) -> Trace:
    """Run the steps on the reference interpreter.

    `violated`: a closed formula that must fail in the last state. `without`: rules that the system lacks.
    Raises TraceError if a step is not enabled or `violated` is not broken there.
    """
    interpreter = Interpreter(system, scope)
    states = [interpreter.initial() if start is None else interpreter.canonical(start)]
    for number, step in enumerate(steps, 1):
        if not interpreter.enabled(step, states[-1]):
            raise TraceError(f"step {number} ({step.rule.name}) is not enabled in {kernel}")
        states.append(interpreter.step(step, states[-1]))
    witness: tuple[tuple[str, int], ...] = ()
    if violated is not None:
        if interpreter.evaluate(violated, states[-1]):
            raise TraceError(f"{claim} holds in the last state of the trace on {kernel}")
        found = interpreter.counterexample(violated, states[-1]) or {}
        sorts = [violated.var_sort(i).name() for i in range(violated.num_vars())] if found else []
        witness = tuple(zip(sorts, found.values(), strict=True))
    return Trace(
        kernel, claim, statement, system, scope, names or default_names(scope), tuple(steps), tuple(states), witness,
        tuple(notes), reachable, tuple(without), formula_digest(violated),
    )


def formula_digest(claim: Term | None) -> str:
    """Short hash of a claim's terms, by which a trace says what it breaks; empty if it is no invariant."""
    return "" if claim is None else hashlib.sha256(claim.sexpr().encode()).hexdigest()[:16]


# JSON

def to_json(trace: Trace) -> dict[str, Any]:
    """The trace as an ITF object."""
    interpreter = trace.interpreter
    return {
        "#meta": {
            "format": "ITF",
            "format-description": "https://apalache-mc.org/docs/adr/015adr-trace.html",
            "schema": SCHEMA,
            "kernel": trace.kernel,
            "claim": trace.claim,
            "statement": trace.statement,
            "terms": trace.system.digest(),
            "without": list(trace.without),
            "formula": trace.formula,
            "scope": trace.scope.as_dict(),
            "names": {sort: list(names) for sort, names in trace.names.items()},
            "reachable": trace.reachable,
            "verdict": trace.verdict,
            "witness": [[sort, trace.element(sort, number)] for sort, number in trace.witness],
            "steps": [
                {"rule": step.rule.name, "binding": _binding(step), "note": trace.notes[i] if trace.notes else "",
                 "kernel_function": step.rule.kernel_function}
                for i, step in enumerate(trace.steps)
            ],
        },
        "vars": [f.name for f in trace.system.functions],
        "states": [
            {"#meta": {"index": i}, **_itf_state(interpreter, trace.names, state)}
            for i, state in enumerate(trace.states)
        ],
    }


def _binding(step: Instance) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in step.binding}


def _itf_state(interpreter: Interpreter, names: Names, state: State) -> dict[str, Any]:
    shown = {}
    for function in interpreter.system.functions:
        entries = []
        for index, place in interpreter.layout.position[function.name].items():
            keys = [names[s.name()][i] for s, i in zip(function.domain, index, strict=True)]
            key: Any = keys[0] if len(keys) == 1 else {"#tup": keys}
            value = state[place]
            entries.append([key, bool(value) if function.is_bool else names[function.range.name()][value]])
        shown[function.name] = {"#map": entries}
    return shown


def write(trace: Trace, path: Path) -> None:
    """Write the trace as JSON, all of it or nothing. Raises OSError."""
    store.write(path, json.dumps(to_json(trace), indent=1) + "\n")


def read(
    path: Path, system_of: Callable[..., System], formula_of: Callable[[str], Term | None] = lambda claim: None
) -> Trace:
    """Read a trace and execute it again, as `from_json` does. Raises TraceError."""
    return from_json(read_json(path), str(path), system_of, formula_of)


def read_json(path: Path) -> Any:
    """What a trace file says. Raises TraceError if it cannot be read."""
    try:
        return json_text.read(path)
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise TraceError(f"{path} is not a trace: {error}") from error


def from_json(
    data: Any, path: str, system_of: Callable[..., System],
    formula_of: Callable[[str], Term | None] = lambda claim: None,
) -> Trace:
    """The trace of an ITF object, executed again. `path`: how messages call it.

    `system_of(kernel)`: the full System of a kernel's name, `system_of(kernel, rules)` without those.
    `formula_of(claim)`: the closed formula that the last state must break, None for a claim that is not an invariant.
    Raises TraceError if the object is no trace, is for other terms or another claim, or its states are not what the
    steps give.
    """
    try:
        meta = data["#meta"]
        if meta["schema"] != SCHEMA:
            raise TraceError(f"{path}: schema {meta['schema']} is not {SCHEMA}")
        for key in ("kernel", "claim", "statement"):
            if not isinstance(meta[key], str):
                raise TraceError(f"{path}: {key} is not a text")
        scope = Scope(tuple((str(k), int(v)) for k, v in meta["scope"].items()))
        if max(scope.as_dict().values()) > LARGEST:
            raise TraceError(f"{path}: a scope of more than {LARGEST} elements of a sort")
        names = {sort: tuple(values) for sort, values in meta["names"].items()}
        without = tuple(map(str, meta["without"]))
        full = system_of(meta["kernel"], without) if without else system_of(meta["kernel"])
        system, violated = full.restricted(data["vars"]), formula_of(meta["claim"])
        if system.digest() != meta["terms"]:
            raise TraceError(f"{path} is for other terms than those of {meta['kernel']} here")
        if meta["formula"] != formula_digest(violated):
            raise TraceError(f"{path} is for another claim than {meta['claim']} is here")
        steps = [_read_step(system.rule(s["rule"]), s["binding"]) for s in meta["steps"]]
        start = _read_state(Interpreter(system, scope), names, data["states"][0])
        trace = execute(
            meta["kernel"], meta["claim"], meta["statement"], system, scope, steps, names=names, start=start,
            notes=[str(s["note"]) for s in meta["steps"]], violated=violated,
            reachable=bool(meta.get("reachable", True)), without=without,
        )
        if not trace.witness:
            witness = tuple((sort, names[sort].index(name)) for sort, name in meta["witness"])
            trace = replace(trace, witness=witness, verdict=str(meta.get("verdict", "")))
        if to_json(trace)["states"] != data["states"]:
            raise TraceError(f"{path}: its states are not what its steps give on {meta['kernel']}")
    except TraceError:
        raise
    except ModelError as error:
        raise TraceError(f"{path}: {error}") from error
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError) as error:
        raise TraceError(f"{path} is not a complete trace: {type(error).__name__} {error}") from error
    return trace


def _read_step(rule: Rule, binding: Mapping[str, Any]) -> Instance:
    values = ((p.name, binding[p.name], p.over is not None) for p in rule.params)
    return Instance(rule, tuple((name, tuple(value) if many else int(value)) for name, value, many in values))


def _read_state(interpreter: Interpreter, names: Names, shown: Mapping[str, Any]) -> State:
    state = [0] * len(interpreter.layout.cells)
    for function in interpreter.system.functions:
        for key, value in shown[function.name]["#map"]:
            keys = [key] if isinstance(key, str) else key["#tup"]
            index = tuple(names[s.name()].index(k) for s, k in zip(function.domain, keys, strict=True))
            number = int(value) if function.is_bool else names[function.range.name()].index(value)
            state[interpreter.layout.position[function.name][index]] = number
    return tuple(state)
