"""What is exported means to other programs what it means to us."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import itertools
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import z3

from invariants import INVARIANTS, invariant
from model.kernels import KERNELS, V5_9, V5_19, Kernel
from model.logic import Scope, System
from proofs import export
from proofs.bmc import bmc
from proofs.check import claim_of, scope_of
from proofs.cli import main
from proofs.export import Machine, machine
from proofs.export_tla import camel, claim_name, to_cfg, to_tla
from proofs.interpreter import Interpreter
from proofs.kernel_file import system_of

SCOPE = scope_of(2, 1, 3, 1, 1)
VIOLATED = [("v5.9", "coherence-write-pin"), ("v5.7", "write-bit"), ("v5.11", "swap-slot")]
HELD = [("v5.9", "isolation-mapping"), ("v5.19", "exclusive")]


def made(kernel: str, name: str, scope: Scope = SCOPE) -> Machine:
    return machine(kernel, system_of(kernel), scope, invariant(name).formula)


def shortest(kernel: str, name: str, depth: int) -> int | None:
    """Length of a shortest violation of at most `depth` steps by our own engine."""
    path = bmc(system_of(kernel), SCOPE, claim_of(invariant(name)), depth).path
    return None if path is None else len(path)


# SMT-LIB and VMT, read by z3

@pytest.mark.parametrize(("kernel", "name"), VIOLATED)
def test_smt2_is_satisfiable_from_the_shortest_violation_on(kernel: str, name: str) -> None:
    length = shortest(kernel, name, 6)
    assert length is not None
    for depth, answer in ((length - 1, z3.unsat), (length, z3.sat), (length + 1, z3.sat)):
        solver = z3.Solver()
        solver.from_string(export.to_smt2(made(kernel, name), depth))
        assert solver.check() == answer


@pytest.mark.parametrize(("kernel", "name"), HELD)
def test_smt2_of_a_claim_that_holds_is_unsatisfiable(kernel: str, name: str) -> None:
    solver = z3.Solver()
    solver.from_string(export.to_smt2(made(kernel, name), 4))
    assert solver.check() == z3.unsat


def test_cvc5_reads_smt2() -> None:
    cvc5 = pytest.importorskip("cvc5")
    solver = cvc5.Solver()
    parser = cvc5.InputParser(solver)
    symbols = parser.getSymbolManager()
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, export.to_smt2(made("v5.7", "write-bit"), 3), "export")
    answers = []
    while not (command := parser.nextCommand()).isNull():
        answers.append(command.invoke(solver, symbols).strip())
    assert [a for a in answers if a in ("sat", "unsat")] == ["sat"]


@pytest.mark.parametrize(("kernel", "name"), VIOLATED[:2])
def test_vmt_unrolled_by_its_annotations_has_the_same_shortest_violation(kernel: str, name: str) -> None:
    text = export.to_vmt(made(kernel, name))
    pairs = re.findall(r"\(! (\|[^|]*\|) :next (\|[^|]*\|)\)", text)
    asserted = "\n".join(f"(assert .{term})" for term in ("init", "trans", "property"))
    start, moves, good = z3.parse_smt2_string(text + asserted)
    assert len(pairs) == len(made(kernel, name).state)
    choice = [z3.Bool(n) for n in made(kernel, name).choice_names]

    def at(term: Any, time: int) -> Any:
        renaming = [(c, z3.Bool(f"{c}@{time}")) for c in choice]
        for now, after in pairs:
            renaming += [(z3.Bool(now.strip("|")), z3.Bool(f"{now}@{time}"))]
            renaming += [(z3.Bool(after.strip("|")), z3.Bool(f"{now}@{time + 1}"))]
        return z3.substitute(term, *renaming)

    solver = z3.SolverFor("QF_FD")
    solver.add(at(start, 0))
    for time in itertools.count():
        if solver.check(z3.Not(at(good, time))) == z3.sat:
            break
        solver.add(at(moves, time))
    assert time == shortest(kernel, name, 6)


# AIGER, read by ABC

@pytest.fixture
def abc() -> str:
    found = shutil.which("berkeley-abc") or shutil.which("yosys-abc")
    if not found:
        pytest.skip("ABC is not here: apt-get install berkeley-abc")
    return found


def asked(abc: str, made_: Machine, folder: Path, commands: str) -> str:
    file = folder / "exported.aig"
    file.write_bytes(export.to_aiger(made_))
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


@pytest.mark.parametrize(("kernel", "name"), [VIOLATED[0], HELD[1]])
def test_btor2_does_what_the_interpreter_does_on_random_walks(kernel: str, name: str) -> None:
    chance, stated = random.Random(3), invariant(name)
    system = system_of(kernel).restricted(system_of(kernel).cone([stated.formula]))
    interpreter = Interpreter(system, SCOPE)
    one = made(kernel, name)
    text = export.to_btor2(one)
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
    text = export.to_btor2(made(kernel, name))
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
