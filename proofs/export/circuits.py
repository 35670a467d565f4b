"""A kernel's system for other programs: in a finite scope as SMT-LIB 2, VMT, BTOR2 and AIGER; as TLA+ of any size.

The finite ones are written from one circuit. It is deterministic: an input says which rule instance is taken, with
which parameters; if that is not enabled the state stays. So a violation of at most n steps is one of exactly n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from invariants import Invariant
from model.logic import ModelError, Scope, System, Term
from proofs.derive.circuit import Circuit
from proofs.derive.ground import Grounder
from proofs.derive.interpreter import Instance
from proofs.export import tla
from proofs.traces.trace import default_names


@dataclass(frozen=True)
class SequentialCircuit:
    """A grounded system and one claim, as a sequential circuit.

    state     the literal of each state bit; its name; its initial value; the literal of its next value
    choice    the literals of the inputs that give a step's number, lowest bit first; their names
    steps     what the numbers mean; any other number leaves the state as it is
    bad       the literal that says that the claim is broken
    """

    about: str
    circuit: Circuit
    state: tuple[int, ...]
    names: tuple[str, ...]
    initial: tuple[bool, ...]
    following: tuple[int, ...]
    choice: tuple[int, ...]
    choice_names: tuple[str, ...]
    steps: tuple[Instance, ...]
    bad: int


def machine_of(about: str, system: System, scope: Scope, claim: Term) -> SequentialCircuit:
    """The machine of that part of the system on which the claim depends. `about`: one line for readers of the file."""
    system = system.restricted(system.cone([claim]))
    grounder = Grounder(system, scope)
    circuit = grounder.circuit
    steps = grounder.steps()
    width = max(1, (len(steps) - 1).bit_length())
    names = tuple(f"step.{i}" for i in range(width))
    choice = tuple(circuit.input(name) for name in names)
    changes: list[list[int]] = [[] for _ in range(grounder.bits)]
    for number, step in enumerate(steps):
        taken = circuit.all([step.guard, *(bit ^ (number >> i & 1 ^ 1) for i, bit in enumerate(choice))])
        for bit, literal in step.bits:
            changes[bit].append(circuit.and2(taken, circuit.xor2(literal, grounder.inputs[bit])))
    following = tuple(
        circuit.xor2(now, circuit.any(changed)) for now, changed in zip(grounder.inputs, changes, strict=True)
    )
    start = grounder.initial()
    return SequentialCircuit(
        about, circuit, tuple(grounder.inputs), tuple(_bit_names(grounder)),
        tuple(bool(start >> i & 1) for i in range(grounder.bits)), following, choice, names,
        tuple(step.instance for step in steps), grounder.formula(claim) ^ 1,
    )


FORMATS: dict[str, str] = {
    "smt2": "SMT-LIB 2, satisfiable if the claim can be broken within some steps", "vmt": "VMT", "btor2": "BTOR2",
    "aiger": "AIGER, binary", "tla": "a TLA+ module, and beside it a configuration for TLC",
}


def written(
    form: str, spec: str, about: str, system: System, scope: Scope, claims: Sequence[Invariant], depth: int,
    out: Path | None,
) -> dict[Path, bytes]:
    """Path to content of what the format is made of, the first the file itself; the path is `out` if that is given.

    All but `tla` have one claim. Raises ModelError if the form needs a path and there is none.
    """
    path = out or Path(f"{tla.module_name(spec)}.{form}")
    if form == "tla":
        if out is not None and path.stem != (name := tla.module_name(spec)):
            raise ModelError(f"a TLA+ module has the name of its file: write {out.with_name(name + '.tla')}")
        text = tla.to_tla(spec, about, system, claims)
        return {path: text.encode(), path.with_suffix(".cfg"): tla.to_cfg(system, scope, claims).encode()}
    (claim,) = claims
    sizes = ", ".join(f"{size} {sort}" for sort, size in scope.sizes)
    machine = machine_of(f"{spec}, {claim.name}: {claim.statement}. Scope: {sizes}.", system, scope, claim.formula)
    match form:
        case "smt2":
            return {path: to_smt2(machine, depth).encode()}
        case "vmt":
            return {path: to_vmt(machine).encode()}
        case "btor2":
            return {path: to_btor2(machine).encode()}
        case _:
            if out is None:
                raise ModelError("AIGER is binary: say with -o which file to write")
            return {path: to_aiger(machine)}


def _bit_names(grounder: Grounder) -> Iterable[str]:
    """`pte_frame(A,x)`, with the number of the bit if it has several."""
    called = default_names(grounder.scope)
    for (function, index), (_, width) in zip(grounder.layout.cells, grounder.bit_of_cell, strict=True):
        elements = ",".join(called[s.name()][i] for s, i in zip(function.domain, index, strict=True))
        for bit in range(width):
            yield f"{function.name}({elements})" + (f".{bit}" if width > 1 else "")


def _comments(machine: SequentialCircuit, mark: str) -> list[str]:
    """What the file is, and what the numbers of steps mean."""
    lines = [f"{mark} {machine.about}", f"{mark} The input step gives the number of the step that is tried:"]
    for number, instance in enumerate(machine.steps):
        bound = ", ".join(f"{name}={value}" for name, value in instance.binding)
        lines.append(f"{mark} {number} {instance.rule.name}({bound})")
    return lines


def _name_gates(
    circuit: Circuit, literals: Iterable[int], known: dict[int, str], gate: Callable[[str, int, int, int], str]
) -> None:
    """Give every gate on which the literals depend a name: `known` has those of inputs, `gate(op, number, a, b)` writes
    one whose operands are written, and returns its name."""
    for number in circuit.cone(literals):
        if number not in known:
            op, a, b = circuit.gates[number]
            known[number] = gate(op, number, a, b)


# SMT-LIB

def _smt_definitions(
    circuit: Circuit, literals: Sequence[int], inputs: dict[int, str], prefix: str
) -> tuple[list[str], list[str]]:
    """Definitions of the gates, and the literals as terms."""
    lines: list[str] = []
    known = {0: "false", **inputs}

    def signed(literal: int) -> str:
        return f"(not {known[literal >> 1]})" if literal & 1 else known[literal >> 1]

    def gate(op: str, number: int, a: int, b: int) -> str:
        lines.append(f"(define-fun {prefix}{number} () Bool ({op} {signed(a)} {signed(b)}))")
        return f"{prefix}{number}"

    _name_gates(circuit, literals, known, gate)
    return lines, [signed(literal) for literal in literals]


def to_smt2(machine: SequentialCircuit, depth: int) -> str:
    """SMT-LIB 2: satisfiable if and only if the claim can be broken by at most `depth` steps."""
    if depth < 0:
        raise ModelError(f"a depth is 0 or more, not {depth}")
    lines = [*_comments(machine, ";"), f"; Satisfiable: the claim can be broken by at most {depth} steps.",
             "(set-option :produce-models true)", "(set-logic QF_UF)"]
    now = ["true" if value else "false" for value in machine.initial]
    for time in range(depth + 1):
        state = [f"|{name}@{time}|" for name in machine.names]
        lines += [f"(declare-const {name} Bool)" for name in state]
        lines += [f"(assert (= {name} {value}))" for name, value in zip(state, now, strict=True)]
        choice = [f"|{name}@{time}|" for name in machine.choice_names]
        inputs = {literal >> 1: name for literal, name in zip(machine.state, state, strict=True)}
        if time == depth:
            gates, (bad,) = _smt_definitions(machine.circuit, [machine.bad], inputs, f"g{time}.")
            lines += [*gates, f"(assert {bad})"]
        else:
            lines += [f"(declare-const {name} Bool)" for name in choice]
            inputs |= {literal >> 1: name for literal, name in zip(machine.choice, choice, strict=True)}
            gates, now = _smt_definitions(machine.circuit, machine.following, inputs, f"g{time}.")
            lines += gates
    # Without a model to get, get-model is an error: who wants one asks for it.
    return "\n".join([*lines, "(check-sat)", ""])


def to_vmt(machine: SequentialCircuit) -> str:
    """VMT: SMT-LIB 2 with annotations for next states, initial states, transitions and the property."""
    state = [f"|{name}|" for name in machine.names]
    lines = [*_comments(machine, ";")]
    for i, name in enumerate(state):
        lines += [f"(declare-const {name} Bool)", f"(declare-const |{machine.names[i]}'| Bool)",
                  f"(define-fun state{i} () Bool (! {name} :next |{machine.names[i]}'|))"]
    lines += [f"(declare-const |{name}| Bool)" for name in machine.choice_names]
    inputs = {literal >> 1: name for literal, name in zip(machine.state, state, strict=True)}
    inputs |= {literal >> 1: f"|{name}|" for literal, name in zip(machine.choice, machine.choice_names, strict=True)}
    gates, (*following, bad) = _smt_definitions(machine.circuit, [*machine.following, machine.bad], inputs, "g")
    start = [name if value else f"(not {name})" for name, value in zip(state, machine.initial, strict=True)]
    moves = [f"(= |{name}'| {term})" for name, term in zip(machine.names, following, strict=True)]
    return "\n".join([
        *lines, *gates,
        f"(define-fun init () Bool (! (and {' '.join(start)}) :init true))",
        f"(define-fun trans () Bool (! (and {' '.join(moves)}) :trans true))",
        f"(define-fun property () Bool (! (not {bad}) :invar-property 0))", "",
    ])


# BTOR2

def to_btor2(machine: SequentialCircuit) -> str:
    """BTOR2, of bit vectors of one bit."""
    lines = [*_comments(machine, ";"), "1 sort bitvec 1", "2 zero 1", "3 one 1"]
    count = 3

    def line(text: str) -> str:
        nonlocal count
        count += 1
        lines.append(f"{count} {text}")
        return str(count)

    known = {0: "2"}
    for literal, name in zip(machine.state, machine.names, strict=True):
        known[literal >> 1] = line(f"state 1 {name}")
    for literal, name in zip(machine.choice, machine.choice_names, strict=True):
        known[literal >> 1] = line(f"input 1 {name}")
    for literal, value in zip(machine.state, machine.initial, strict=True):
        line(f"init 1 {known[literal >> 1]} {3 if value else 2}")

    def signed(literal: int) -> str:
        # A negative number stands for the complement.
        return f"-{known[literal >> 1]}" if literal & 1 else known[literal >> 1]

    def gate(op: str, number: int, a: int, b: int) -> str:
        return line(f"{op} 1 {signed(a)} {signed(b)}")

    _name_gates(machine.circuit, [*machine.following, machine.bad], known, gate)
    for literal, following in zip(machine.state, machine.following, strict=True):
        line(f"next 1 {known[literal >> 1]} {signed(following)}")
    line(f"bad {signed(machine.bad)}")
    return "\n".join([*lines, ""])


# AIGER

def to_aiger(machine: SequentialCircuit) -> bytes:
    """AIGER 1.9, binary, with one bad-state literal. A latch holds whether its bit differs from its initial value."""
    inputs, latches = len(machine.choice), len(machine.state)
    ands: list[tuple[int, int]] = []
    known = {0: 0}
    for i, literal in enumerate(machine.choice, 1):
        known[literal >> 1] = 2 * i
    for i, (literal, value) in enumerate(zip(machine.state, machine.initial, strict=True), inputs + 1):
        known[literal >> 1] = 2 * i + value

    def both(a: int, b: int) -> int:
        ands.append((max(a, b), min(a, b)))
        return 2 * (inputs + latches + len(ands))

    for number in machine.circuit.cone([*machine.following, machine.bad]):
        if number not in known:
            op, a, b = machine.circuit.gates[number]
            left, right = known[a >> 1] ^ a & 1, known[b >> 1] ^ b & 1
            known[number] = (
                both(left, right) if op == "and" else both(both(left, right) ^ 1, both(left ^ 1, right ^ 1) ^ 1)
            )

    def signed(literal: int) -> int:
        return known[literal >> 1] ^ literal & 1

    text = [f"aig {inputs + latches + len(ands)} {inputs} {latches} 0 {len(ands)} 1"]
    text += [str(signed(f) ^ value) for f, value in zip(machine.following, machine.initial, strict=True)]
    text.append(str(signed(machine.bad)))
    gates = bytearray()
    for i, (left, right) in enumerate(ands, inputs + latches + 1):
        gates += _delta(2 * i - left) + _delta(left - right)
    symbols = [f"i{i} {name}" for i, name in enumerate(machine.choice_names)]
    symbols += [f"l{i} {name}" for i, name in enumerate(machine.names)]
    closing = [*symbols, "b0 the claim is broken", "c", *_comments(machine, ""), ""]
    return ("\n".join(text) + "\n").encode() + bytes(gates) + "\n".join(closing).encode()


def _delta(number: int) -> bytes:
    """A number in the binary format: seven bits a byte, lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
