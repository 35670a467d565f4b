"""Counterexamples told as litmus tests: what each step is told as, and that the test shows what the trace showed."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import z3
from places import ROOT

from invariants import INVARIANTS, invariant
from model.features import FEATURES
from model.kernels import KERNELS, V5_8, V5_9, V5_19, Kernel, read_as_mapped
from model.logic import ModelError, Scope, Step, System, Term, put, rule
from model.operations import DECLARED, OPERATIONS, TOLD_AS, faults
from model.ptes import P, V
from model.state import pte_present, pte_write
from proofs.check import jobs, scopes
from proofs.check.cells import Table, trace_of
from proofs.cli.main import main
from proofs.data import FULL
from proofs.derive.interpreter import Instance
from proofs.errors import RetellError
from proofs.litmus import execution, parser
from proofs.litmus.retell import Retold, retell
from proofs.naming.specs import find_kernel, system_of
from proofs.traces import trace
from proofs.traces.trace import Trace, execute

LITMUS_DOCS = ROOT / "docs" / "litmus.md"


@functools.cache
def counterexamples(spec: str, *claims: str, scope: str = "default", without: tuple[str, ...] = ()) -> dict[str, Trace]:
    """What exploration finds, by claim."""
    stated = tuple(i for i in INVARIANTS if i.name in claims)
    table = Table(((spec, find_kernel(spec)),), stated, scopes.scope_named(scope), without)
    cells = [cell for job in jobs.jobs(table, "explore", 0) for cell in jobs.run_job(job)]
    return {c.invariant: trace_of(c, table.scope) for c in cells if c.verdict == "VIOLATED"}


def counterexample(spec: str, claim: str, **how: tuple[str, ...]) -> Trace:
    return counterexamples(spec, claim, **how)[claim]  # type: ignore[arg-type]


def made(spec: str, claim: str, *steps: str, pages: int = 1, pins: int = 1, kernel: Kernel | None = None) -> Trace:
    """The steps `wp-copy new=1`, parameters left out being 0; the last one breaks the claim."""
    system = kernel.system() if kernel else system_of(spec)
    scope = Scope.of(Proc=2, Page=pages, Frame=5, Pin=pins, Slot=1, Value=2, Folio=2, Block=1)
    instances = []
    for step in steps:
        name, *words = step.split()
        given = {key: _number(number) for key, number in (word.split("=") for word in words)}
        functions = {p.name: tuple(range(scope.size(p.over))) for p in system.rule(name).params if p.over is not None}
        binding = {**{p.name: 0 for p in system.rule(name).params}, **functions, **given}
        instances.append(Instance(system.rule(name), tuple(binding.items())))
    broken = invariant(claim)
    return execute(spec, claim, broken.statement, system, scope, instances, violated=broken.formula)


def _number(text: str) -> int | tuple[int, ...]:
    """1, or 1/2 for a function."""
    numbers = tuple(map(int, text.split("/")))
    return numbers if len(numbers) > 1 else numbers[0]


def told(found: Trace, kernel: Kernel | None = None) -> Retold:
    """The trace retold, after looking at what every retold trace has to be."""
    kernel = kernel or find_kernel(found.kernel)
    retold = retell(found, kernel)
    broken = invariant(found.claim).formula
    parsed = parser.parse(retold.text, "retold.litmus")
    assert parsed == replace(retold.litmus, filename="retold.litmus")
    system = built(kernel, parsed.features)
    result = execution.answer(parsed, kernel, system)
    assert result.answer == execution.Answer.ALLOWED
    assert result.trace is not None
    assert not result.trace.interpreter.evaluate(broken, result.trace.states[-1])
    unbroken = replace(parsed, condition=z3.And(parsed.condition, broken))
    assert execution.answer(unbroken, kernel, system).answer == execution.Answer.FORBIDDEN
    return retold


@functools.cache
def built(kernel: Kernel, features: frozenset[str]) -> System:
    return kernel.system(features)


def lines(retold: Retold) -> list[str]:
    """What follows the name and the about line, without comments."""
    kept = [line.partition("#")[0].strip() for line in retold.text.splitlines()]
    return [" ".join(line.split()) for line in kept if line][2:]


# What exploration finds

@pytest.mark.parametrize(("spec", "claim", "expected"), [
    ("v5.11", "coherence-write-pin", [
        "page x", "A: write x 1", "A: r = pin x write", "A: mprotect x rwx", "A: write x 2",
        "exists not A.x is r and r sees 1 and A.x == 2",
    ]),
    ("v5.9", "swap-slot", [
        "page x", "A: write x 1", "*: pageout x", "A: read x", "A: write x 2", "exists slots == 1",
    ]),
    ("wrprotect-skip", "uffd-wp", [
        "page x uffd", "A: write x 1", "A: r = pin x", "A: uffd-wp x",
        "exists writable A.x and not uffd-wp A.x",
    ]),
    ("v5.9", "write-bit", [
        "page x", "A: write x 1", "A: r = pin x write", "A: mprotect x rwx",
        "exists A.x is r and not writable A.x and r sees 1 and A.x == 1",
    ]),
])
def test_a_counterexample_is_told_as_the_operations_that_take_its_steps(
    spec: str, claim: str, expected: list[str]
) -> None:
    assert lines(told(counterexample(spec, claim))) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_counterexample_of_the_default_table_can_be_told(kernel: Kernel) -> None:
    table = Table(((kernel.name, kernel),), INVARIANTS, scopes.scope_named("default"))
    expected = [i.name for i in INVARIANTS if i.applies_to(kernel) and table.expects_violation(kernel.name, i)]
    found = counterexamples(kernel.name, *expected)
    assert found
    assert sorted(found) == sorted(expected)
    for each in found.values():
        told(each)


HOLDS_EVERYWHERE = {"guard", "uffd-async"}
"""Tables of `check --full` without a cell that is expected to be violated."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry["name"] for entry in tomllib.loads(FULL.read_text())["configuration"]])
def test_counterexamples_with_features_can_be_told_unless_they_end_amid_operations(name: str) -> None:
    """Of the cells that are expected to be violated: an exploration of the others to their end has nothing to tell."""
    table = next(table for table in scopes.configured() if table.name == name)
    found = 0
    for spec, kernel in table.kernels[:6:3] + table.kernels[-2:]:
        stated = tuple(i for i in table.invariants if table.expects_violation(spec, i))
        kept = replace(table, kernels=((spec, kernel),), invariants=stated)
        for cell in (cell for job in jobs.jobs(kept, "explore", 0) for cell in jobs.run_job(job)):
            assert cell.verdict == "VIOLATED", cell
            found += 1
            example = trace_of(cell, table.scope)
            # KSM may merge pages of two processes, which no operation names.
            apart = any(step.as_dict.get("q", step.as_dict.get("p")) != step.as_dict.get("p") for step in example.steps)
            # Nobody makes the swap space half full.
            full = any(step.rule.name == "swap-in-read-full" for step in example.steps)
            # Claims about what is not over yet: a flush, a fault that reads.
            if table.name in ("tlb", "sync-swap") or apart or full:
                why = (
                    "an operation is about pages of one process" if apart
                    else "no operation of a litmus test takes it" if full else "in the middle of an operation"
                )
                with pytest.raises(RetellError, match=why):
                    retell(example, find_kernel(cell.kernel))
            else:
                told(example)
    assert bool(found) == (name not in HOLDS_EVERYWHERE)


# Single steps

def test_every_rule_has_an_operation_or_a_declaration_but_two() -> None:
    takers = {name for o in OPERATIONS for name in o.rules}
    for kernel in (V5_8, V5_19):
        raised = {name for o in OPERATIONS for names in faults(o.access, kernel) for name in names}
        rules = {
            r.name.partition(".")[0] for r in kernel.system(FEATURES).rules if r.kind == "step" and not r.environment
        }
        assert rules - takers - raised - set(DECLARED) - set(TOLD_AS) <= {"free-swap-slot", "swap-in-read-full"}


PINNED = ["pin-write", "clear-soft-dirty"]
"""What breaks write-bit on 5.9 once the PTE is writable."""


@pytest.mark.parametrize(("spec", "claim", "steps", "expected"), [
    pytest.param("v5.9", "write-bit", ["anon-fault", "mprotect-ro", "mprotect-rw", "wp-copy-spurious new=1", *PINNED], [
        "A: mprotect x ro", "A: mprotect x rw", "*: trylock-fails", "A: r = pin x write", "A: clear-soft-dirty",
    ], id="a failed trylock is told before what meets it"),
    pytest.param("v5.9", "write-bit", ["anon-fault", "extra-ref", "drop-extra", *PINNED], [
        "*: extra-ref x", "*: drop-extra x", "A: r = pin x write", "A: clear-soft-dirty",
    ], id="transient references are told where they are seen"),
    pytest.param("v5.9", "write-bit", [
        "anon-fault", "pin-write", "unpin", "fork child=1", "exit p=1", "fork child=1", "exit p=1", "wp-reuse", *PINNED,
    ], [
        "A: r = pin x write", "A: drop r", "A: fork C", "C: exit", "A: fork C2", "C2: exit", "A: r2 = pin x write",
        "A: clear-soft-dirty",
    ], id="what comes again has a name of its own"),
    pytest.param("mapcount-unshare", "write-bit", [
        "anon-fault", "fork child=1", "unshare-copy p=1 new=1", "extra-ref", "wp-reuse", "pin-write", "uffd-wp",
    ], [
        "A: fork C", "C: r = vmsplice x", "C: drop r", "*: extra-ref x", "A: r2 = pin x write", "A: uffd-wp x",
    ], id="a fault that only readers raise is told as a reference that is dropped again"),
    pytest.param("v5.9", "swap-slot", [
        "anon-fault", "swap-out", "fork child=1", "swap-in-write", "exit p=1", "wp-copy new=1",
    ], [
        "*: pageout x", "A: fork C", "A: read x", "C: exit", "A: write x 2",
    ], id="a write fault that leaves the page read-only is told as a load"),
    pytest.param("v5.9@mremap,numa", "write-bit", [
        "anon-fault v=1 new=1", "mremap v=1 w=0", "numa-hint", *PINNED,
    ], [
        "A: mremap y x", "*: numa x", "A: r = pin x write", "A: clear-soft-dirty",
    ], id="an operation on two pages"),
    pytest.param("v5.9@ksm", "write-bit", [
        "anon-fault", "anon-fault v=1 new=1", "ksm-merge w=1", "wp-copy new=1", *PINNED,
    ], [
        "A: write y 1", "*: ksm x y", "A: r = pin x write", "A: clear-soft-dirty",
    ], id="where contents are compared they are as in the trace, but never that of an untouched page"),
    pytest.param("v5.9@lazyfree,migration", "coherence-write-pin", [
        "anon-fault", "migrate new=1", "madv-free", "pin-write", "discard-lazyfree f=1",
    ], [
        "*: migrate x", "A: madv-free x", "A: r = pin x write fast", "*: pageout x",
    ], id="what the kernel does by itself, and a reference that does not make the page dirty"),
    pytest.param("v5.9@gup-fast,fork", "coherence-write-pin", [
        "anon-fault", "fast-pin-write.read", "fork.test child=1", "fast-pin-write.grab", "fast-pin-write.check",
        "fork.copy child=1", "fork.finish child=1", "wp-copy new=1",
    ], [
        "A: r = pin x write fast || A: fork C", "A: write x 2",
    ], id="sub-steps that overlap are of operations on one line"),
    pytest.param("v5.9@gup-fast,fork", "coherence-get", [
        "anon-fault", "get-write", "fork.test child=1", "fork.copy child=1", "fork.finish child=1", "wp-copy new=1",
    ], [
        "A: r = get x write", "A: fork C", "A: write x 2",
    ], id="sub-steps that do not overlap are not asked for"),
    pytest.param("v5.11@gup-fast,swap-out", "coherence-write-pin", [
        "anon-fault", "age", "fast-pin-write.read", "swap-out.add", "fast-pin-write.grab", "fast-pin-write.check",
        "swap-out-cached", "swap-in-read", "wp-copy new=1",
    ], [
        "*: pageout x || A: r = pin x write fast", "A: read x", "A: write x 2",
    ], id="reclaim begins where it looks whether a page was used"),
])
def test_steps_are_told_as_operations(spec: str, claim: str, steps: list[str], expected: list[str]) -> None:
    retold = told(made(spec, claim, *steps, pages=2))
    assert [line for line in lines(retold) if ": " in line][1:] == expected
    split = [line for line in lines(retold) if line.startswith("split")]
    assert split == [f"split {spec.partition('@')[2].replace(',', ' ')}"] * ("||" in retold.text)


@pytest.mark.parametrize(("spec", "claim", "steps", "expected"), [
    pytest.param("v5.9@zero,file", "coherence-read-pin", [
        "mmap-file", "file-read", "map-backing", "pin-read", "wp-copy new=1",
    ], [
        "page x file", "A: r = pin x", "A: write x 1", "exists not A.x is r and r sees 0 and A.x == 1",
    ], id="a file"),
    pytest.param("v5.9@zero", "coherence-read-pin", ["backing-read", "map-backing", "pin-read", "wp-copy new=1"], [
        "page x", "A: r = pin x", "A: write x 1", "exists not A.x is r and r sees 0 and A.x == 1",
    ], id="the zero page is always there"),
    pytest.param("v5.9@huge", "isolation-reference", [
        "madvise-hugepage", "huge-fault", "get-read", "fork child=1", "exit", "huge-wp-reuse p=1",
    ], [
        "page x huge 2", "A: r = vmsplice x.0", "A: fork C", "A: exit", "C: write x.0 1",
        "exists C.x.0 is r and writable C.x.0 and r sees 1 and C.x.0 == 1",
    ], id="a huge page is mapped from the start"),
    pytest.param("v5.9@huge", "isolation-reference", [
        "madvise-hugepage", "fork child=1", "exit", "huge-fault p=1", "get-read p=1", "fork p=1 child=0", "exit p=1",
        "huge-wp-reuse",
    ], [
        "page x huge 2", "A: dontneed x", "A: fork C", "A: exit", "C: write x.0 1", "C: r = vmsplice x.0",
        "C: fork A2", "C: exit", "A2: write x.0 2",
        "exists A2.x.0 is r and writable A2.x.0 and r sees 2 and A2.x.0 == 2",
    ], id="unless somebody else maps it first"),
    pytest.param("wrprotect-skip@huge", "coherence-write-pin", [
        "anon-fault", "anon-fault v=1 new=1", "collapse new=2/3", "pin-write", "clear-soft-dirty", "split-pmd",
        "wp-copy new=0",
    ], [
        "page x huge 2 uffd", "*: split x", "A: write x.0 1", "A: write x.1 2", "*: collapse x.0",
        "A: r = pin x.0 write", "A: clear-soft-dirty", "A: mprotect x.0 rwx", "A: write x.0 3",
        "exists not A.x.0 is r and r sees 1 and A.x.0 == 3",
    ], id="a block that becomes huge starts as small pages"),
    pytest.param("v5.9@huge", "write-bit", ["madvise-hugepage", "huge-fault", "pin-write", "uffd-wp-range"], [
        "page x huge 2 uffd", "A: r = pin x.0 write", "A: uffd-wp x",
        "exists A.x.0 is r and not writable A.x.0 and r sees 0 and A.x.0 == 0",
    ], id="an operation on all of it"),
    # The condition is looked at where everybody can look: what was stored is not in the private copy.
    pytest.param("v4.8@zero,file,force", "force-write", [
        "anon-fault", "mprotect-ro", "force-wp-reuse", "dontneed", "backing-read", "map-backing", "force-store",
    ], [
        "page x", "A: write x 1", "A: mprotect x ro", "A: force-write x 2 || A: dontneed x || A: read x",
        "A: dontneed x", "A: read x", "exists A.x == 2",
    ], id="a retry loop, and an ending that shows what it did"),
])
def test_pages_are_declared_as_the_steps_ask(spec: str, claim: str, steps: list[str], expected: list[str]) -> None:
    assert lines(told(made(spec, claim, *steps, pages=2))) == expected


def test_what_the_claim_speaks_of_is_told_of_the_place() -> None:
    """A FOLL_PIN that does not unshare: the page that fork shares is pinned, and is nobody's own."""
    mine = V5_19.but("mine", "pins what is mapped", read_gup=read_as_mapped)
    retold = told(made("mine", "exclusive", "anon-fault", "fork child=1", "pin-read", kernel=mine), mine)
    assert lines(retold) == [
        "page x", "A: write x 1", "A: fork C", "A: r = pin x",
        "exists A.x is r and not writable A.x and not exclusive A.x and r sees 1 and A.x == 1",
    ]


def test_steps_that_no_operation_takes_are_left_out_where_the_claim_is_broken_without_them() -> None:
    out = ["anon-fault", "swap-out", "extra-ref", "drop-extra"]
    retold = told(made("v5.9", "write-bit", *out, "swap-in-read", "free-swap-slot", "wp-reuse", *PINNED))
    left_out = [line for line in retold.text.splitlines() if line.startswith("#")]
    assert left_out == ["# Left out: extra-ref(f=P)", "# Left out: drop-extra(f=P)", "# Left out: free-swap-slot(s=s0)"]
    merged = ["anon-fault", "fork child=1", "wp-copy p=1 new=1", "ksm-merge q=1", "wp-copy new=1", *PINNED]
    assert "# Left out: ksm-merge(p=A, v=x, q=C, w=x)" in told(made("v5.9@ksm", "write-bit", *merged)).text


def test_names_that_the_language_does_not_allow_are_replaced() -> None:
    found = made("v5.9", "write-bit", "anon-fault", *PINNED)
    named = replace(found, names={**found.names, "Proc": ("init", "is"), "Page": ("not",), "Pin": ("0",)})
    assert lines(told(named))[:3] == ["page n", "A: write n 1", "A: n2 = pin n write"]


# What cannot be told

AMID = ["anon-fault", "uffd-wp.change", "uffd-unwp.change", "wp-copy-spurious.decide new=1"]
"""A fault copies what a stale TLB entry still writes."""


@rule([P, V], "stolen_write_bit", "made up")
def steal(kernel: object, p: Term, v: Term) -> Step:
    """Somebody takes the write bit."""
    return Step([pte_present(p, v), pte_write(p, v)], put(pte_write(p, v), False))


def test_the_step_that_no_operation_takes_is_named() -> None:
    mine = V5_19.but("mine", "a rule of its own", own_rules=(steal,))
    found = made("mine", "write-bit", "anon-fault", "pin-write", "steal", kernel=mine)
    message = r"^write-bit on mine: told as .*; step 3, steal\(p=A, v=x\): no operation of a litmus test takes it$"
    with pytest.raises(RetellError, match=message):
        retell(found, mine)


def test_what_is_broken_only_amid_operations_is_not_told() -> None:
    found = made("v5.11@tlb", "tlb", *AMID)
    with pytest.raises(RetellError, match=r"step 2, uffd-wp\.change.*: it is in the middle of an operation"):
        retell(found, find_kernel("v5.11"))


def test_only_traces_of_broken_invariants_from_the_initial_state_are_told() -> None:
    found = made("v5.9", "write-bit", "anon-fault", *PINNED)
    for other, message in (
        (replace(found, claim="F1"), "F1 is no invariant"),
        (replace(found, reachable=False), "does not start from the initial state"),
        (replace(found, states=found.states[1:], steps=found.steps[1:]), "does not start from the initial state"),
    ):
        with pytest.raises(ModelError, match=message) as raised:
            retell(other, V5_9)
        assert not isinstance(raised.value, RetellError)


# The command

@pytest.fixture
def soft_dirty(tmp_path: Path) -> Path:
    path = tmp_path / "found.trace.json"
    trace.write(made("v5.9", "coherence-write-pin", "anon-fault", *PINNED, "wp-copy new=1"), path)
    return path


def test_the_command_writes_a_test_that_litmus_answers(
    soft_dirty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "told.litmus"
    assert main(["retell", str(soft_dirty), "-o", str(file)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["litmus", str(file), "-k", "v5.9", "-k", "v5.19", "-o", str(tmp_path), "--json"]) == 0
    assert [row["answer"] for row in json.loads(capsys.readouterr().out)["results"]] == ["Allowed", "Forbidden"]


def test_the_command_prints_what_the_document_shows(soft_dirty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.search(r"<!-- retell -->\n```\n(.*?)```", LITMUS_DOCS.read_text(encoding="utf-8"), re.S)
    assert shown
    assert main(["retell", str(soft_dirty)]) == 0
    assert capsys.readouterr().out == shown.group(1)
    assert main(["retell", str(soft_dirty), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["schema"], data["kernel"], data["claim"]) == (1, "v5.9", "coherence-write-pin")
    assert data["text"] == shown.group(1)
    assert data["text"].endswith(f"exists {data['condition']}\n")
    assert data["witness"][-2:] == ["wp-copy(p=A, v=x, new=Q)", "store(p=A, v=x, n=2)"]


def test_what_the_command_cannot_do_is_one_line(
    soft_dirty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amid = tmp_path / "amid.trace.json"
    trace.write(made("v5.11@tlb", "tlb", *AMID), amid)
    for arguments, code, message in (
        (["retell", str(amid)], 3, "in the middle of an operation"),
        (["retell", str(tmp_path / "none.json")], 2, "cannot read"),
        (["retell", str(soft_dirty), "-o", str(tmp_path / "no" / "told.litmus")], 2, "cannot write"),
    ):
        assert main(arguments) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert message in printed.err
        assert printed.err.count("\n") == 1
