"""Inductive proofs: what is proved, what must never be, and what is shown where there is no proof."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
import z3
from z3 import And, Implies, Not

from invariants import INVARIANTS, invariant
from model.kernels import KERNELS, V5_9, never
from model.logic import Param, Scope, Step, System, Term, forall, put, rule
from model.state import Frame, Page, Proc, alive, exclusive, maps, pte_present, vma
from proofs import json_text
from proofs.certify import manifest as manifests
from proofs.certify import verify
from proofs.check import prove
from proofs.check.scopes import configured
from proofs.clock import done_by
from proofs.data import CERTIFICATES, EXPECTED, FEATURE_CERTIFICATES
from proofs.derive.interpreter import Interpreter
from proofs.derive.steps import after, initially
from proofs.engine import Claim
from proofs.errors import OutOfTime, TraceError
from proofs.explore.progress import Checkpoint, Standing
from proofs.explore.search import explore
from proofs.induct import search as searching
from proofs.induct.mine import Clause, Miner, Tables
from proofs.induct.search import Proof, Search, Unproved, dead_rules, state_of, unwritten
from proofs.naming.specs import find_kernel, system_of
from proofs.traces import trace as traces
from proofs.traces.text import to_table

SCOPES = (
    Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=1),
    Scope.of(Proc=1, Page=2, Frame=3, Pin=1, Slot=1, Value=1),
    Scope.of(Proc=2, Page=1, Frame=2, Pin=2, Slot=1, Value=1),
)

SAME_TERMS = ("v5.12", "v5.17")
"""Kernels that differ from the one before only in what the model does not have."""


def no_miner() -> Miner:
    raise AssertionError("no candidates should be needed")


def claim(name: str) -> Clause:
    return Clause(invariant(name).formula, name)


def changed(system: System, name: str, **parts: object) -> System:
    """The system with one rule changed."""
    rules = tuple(dataclasses.replace(r, **parts) if r.name == name else r for r in system.rules)  # type: ignore[arg-type]
    return dataclasses.replace(system, rules=rules)


# What is proved

@pytest.mark.parametrize("name", ["mprotect", "soft-dirty", "uffd-wp", "counters"])
def test_some_claims_are_inductive_by_themselves(name: str) -> None:
    found = Search(system_of("v5.9"), no_miner).prove(claim(name), 60)
    assert isinstance(found, Proof)
    assert [c.text for c in found.clauses] == [name]


@pytest.mark.slow
def test_others_need_clauses_that_are_found() -> None:
    found = prove.search_of("v5.9", ["isolation-mapping"]).prove(claim("isolation-mapping"), 120)
    assert isinstance(found, Proof)
    assert 2 < len(found.clauses) < 15
    assert "maps(p, v, f), maps(q, w, f) => same page(v, w)" in [c.text for c in found.clauses]


@pytest.mark.slow
def test_no_clause_of_a_proof_can_be_left_out() -> None:
    search = prove.search_of("v5.9", ["isolation-mapping"])
    found = search.prove(claim("isolation-mapping"), 120)
    assert isinstance(found, Proof)
    for clause in found.clauses[1:]:
        fewer = [c for c in found.clauses if c is not clause]
        assert not all(search.keeps(rule, fewer) for rule in search.system.rules)


@pytest.mark.slow
def test_proofs_with_huge_pages_are_found_from_nothing(tmp_path: Path) -> None:
    """In the system of that table of `check --full`; z3 and cvc5 accept the certificate."""
    (table,) = (each for each in configured() if each.name == "huge")
    pair = (table.spec("v5.19", invariant("isolation-reference")), "isolation-reference")
    verdict = prove.prove([pair], tmp_path, without=table.without, fresh=True, seconds=600)[pair]
    assert verdict.note == ""
    assert verdict.proved


def test_what_proved_one_claim_is_tried_first_for_the_next() -> None:
    """With the clauses of a certificate and no candidates; then without those clauses."""
    full = system_of("v5.9")
    formulas = manifests.formulas(manifests.manifest_path(CERTIFICATES, "v5.9", "isolation-mapping"), full)
    system = full.restricted(full.cone(formulas))
    search = Search(system, NoCandidates, hints=[Clause(f, f"clause {i}") for i, f in enumerate(formulas)])
    found = search.prove(claim("isolation-mapping"), 60)
    assert isinstance(found, Proof)
    search.hints.clear()
    needy = [
        again for again in (Clause(c.formula, f"again, {c.text}") for c in found.clauses)
        if isinstance(Search(system, NoCandidates).prove(again, 60), Unproved)
    ]
    assert needy
    assert all(isinstance(search.prove(again, 60), Proof) for again in needy)


# What must never be

def no_early_copy() -> System:
    """5.9 without fork's early copy, and nothing else that could take the write bit away."""
    kernel = V5_9.but("no-early-copy", "", fork_copies=never)
    return kernel.system().without(
        ["clear-soft-dirty", "mprotect-ro", "mprotect-other", "uffd-wp", "uffd-unwp", "swap-out"]
    )


def no_clearing() -> System:
    """5.19 with a fork that leaves PG_anon_exclusive set on the pages that it shares."""
    system = system_of("v5.19")
    updates = tuple(u for u in system.rule("fork").updates if not (u.function is exclusive and z3.is_false(u.value)))
    assert len(updates) == len(system.rule("fork").updates) - 1
    return changed(system, "fork", updates=updates)


@pytest.mark.parametrize(
    ("make", "broken"),
    [
        (no_early_copy, "coherence-write-pin"),
        pytest.param(no_clearing, "exclusive", marks=pytest.mark.slow),
        pytest.param(no_early_copy, "write-bit", marks=pytest.mark.slow),
        pytest.param(no_clearing, "isolation-mapping", marks=pytest.mark.slow),
        pytest.param(no_clearing, "isolation-reference", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_rule_is_never_proved(make: Callable[[], System], broken: str) -> None:
    full, stated = make(), invariant(broken)
    system = full.restricted(full.cone([stated.formula, stated.premise]))
    searched = explore(system, SCOPES[0], [Claim(broken, stated.formula, stated.premise)], stop_at_violations=True)
    assert searched.findings[0].path is not None
    assert isinstance(Search(system, lambda: Miner(system)).prove(claim(broken), 10), Unproved)


def test_an_unknown_answer_is_not_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "QUERY_SECONDS", 0)
    monkeypatch.setattr(z3.Solver, "check", lambda self, *assumptions: z3.unknown)
    found = Search(system_of("v5.9"), no_miner).prove(claim("mprotect"), 60)
    assert isinstance(found, Unproved)
    assert "z3 gave up" in found.reason


def test_no_time_is_no_proof() -> None:
    found = Search(system_of("v5.9"), no_miner).prove(claim("mprotect"), 0)
    assert isinstance(found, Unproved)
    assert "no proof after 0 s" in found.reason


def test_a_rule_whose_next_state_is_no_term_is_not_proved(tmp_path: Path) -> None:
    """Fork fills the child's new frames, one for each page that it copies: there is no term for what a frame has."""
    file = tmp_path / "content.py"
    file.write_text(
        "from invariants import Invariant\n"
        "from model.state import Frame, Not, frame_free, frame_value, ZERO\n"
        "BLANK = Invariant('blank', 'nobody has written', 'test', (Frame,),\n"
        "    lambda f: Not(frame_free(f)), lambda f: frame_value(f) == ZERO)\n"
    )
    (attempt,) = prove.attempt(prove.ProofJob(("v5.9",), (f"{file}:BLANK",), (), 60, tmp_path))
    assert attempt.manifest is None
    assert attempt.note == "rule fork: the next value of frame_value is not a term"


def test_hints_that_speak_of_what_the_search_has_not_got_are_left_out() -> None:
    """What proved one set of restrictions may speak of what another one does not need."""
    pinned, mapped = (Clause(invariant(name).formula, name) for name in ("coherence-write-pin", "isolation-mapping"))
    search = prove.search_of("exclusive", ["isolation-mapping"], hints=[pinned, mapped])
    assert "pin_foll_pin" not in {f.name for f in search.system.functions}
    assert search.hints == [mapped]


# Counterexamples to induction

def test_a_counterexample_to_induction_is_a_step_that_the_interpreter_takes() -> None:
    """Nothing but the claim itself to lean on: the state before keeps it, the state after does not."""
    system = system_of("v5.19").restricted(system_of("v5.19").cone([invariant("coherence-write-pin").formula]))
    found = Search(system, NoCandidates).prove(claim("coherence-write-pin"), 60)
    assert isinstance(found, Unproved)
    assert found.cti is not None
    assert found.cti.step is not None
    oracle = Interpreter(system, found.cti.scope)
    before = oracle.canonical(state_of(system, found.cti.tables))
    formula = invariant("coherence-write-pin").formula
    assert oracle.evaluate(formula, before)
    assert oracle.enabled(found.cti.step, before)
    assert not oracle.evaluate(formula, oracle.step(found.cti.step, before))


def test_a_counterexample_by_a_rule_that_chooses_for_what_the_claim_leaves_out() -> None:
    """Fork chooses a frame for each page, and a claim about processes alone leaves no pages in the system."""
    one = forall(Proc, Proc, lambda p, q: Implies(And(alive(p), alive(q)), p == q))
    whole = system_of("v5.7")
    forking = whole.without([r.name for r in whole.rules if r.name != "fork"])
    system = forking.restricted(forking.cone([one]))
    assert Page not in {s for f in system.functions for s in (*f.domain, f.range)}
    found = Search(system, NoCandidates).prove(Clause(one, "one"), 60)
    assert isinstance(found, Unproved)
    assert found.cti is not None
    assert found.cti.step is not None
    assert found.cti.step.rule.name == "fork"
    assert found.cti.step.as_dict["copy"] == (0,)


def test_a_counterexample_to_induction_is_small() -> None:
    system = system_of("v5.19").restricted(system_of("v5.19").cone([invariant("coherence-write-pin").formula]))
    found = Search(system, NoCandidates).prove(claim("coherence-write-pin"), 60)
    assert isinstance(found, Unproved)
    assert found.cti is not None
    assert found.cti.scope.as_dict()["Pin"] == 1
    assert max(found.cti.scope.as_dict().values()) <= 3


def test_an_attempt_that_fails_leaves_a_picture_of_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "Miner", lambda *_, **__: NoCandidates())
    (attempt,) = prove.attempt(prove.ProofJob(("v5.19",), ("coherence-write-pin",), (), 60, tmp_path))
    assert attempt.manifest is None
    assert attempt.cti is not None
    trace = traces.read(attempt.cti, system_of, lambda name: invariant(name).formula)
    assert not trace.reachable
    assert "counterexample to induction" in to_table(trace)
    picture = attempt.cti.parent / "coherence-write-pin.cti.svg"
    assert "counterexample to induction" in picture.read_text()


@pytest.mark.slow
def test_mining_that_runs_out_of_time_goes_on_where_it_was() -> None:
    system = system_of("v5.9").restricted(system_of("v5.9").cone([claim("mprotect").formula]))
    whole = Miner(system)
    assert list(whole.work)
    search, late = Search(system, lambda: Miner(system)), 0
    while late < 10_000:
        try:
            with done_by(0):
                found = search.mine()
            break
        except OutOfTime:
            late += 1
    assert late > 5
    assert [seen.all.tolist() for seen in found.rows] == [seen.all.tolist() for seen in whole.rows]


class NoCandidates(Miner):
    """A template that is too weak for anything."""

    def __init__(self) -> None:
        self.work = iter(())

    def excluding(self, tables: Tables) -> Iterator[Clause]:
        return iter(())

    def deeper(self, tables: Tables) -> Iterator[Clause]:
        return iter(())


# What is kept

def test_a_kept_certificate_of_something_else_is_not_taken(tmp_path: Path) -> None:
    pair = ("v5.9", "soft-dirty")
    proved = prove.prove([pair, ("v5.9", "mprotect")], tmp_path, workers=0)
    manifest = proved[pair].attempt.manifest
    assert manifest is not None
    text = manifest.read_text()
    manifest.write_text((manifest.parent / "mprotect.json").read_text())
    assert prove.kept(*pair, (), tmp_path / "certificates") is None
    again = prove.prove([pair], tmp_path, workers=0)[pair]
    assert again.proved
    assert again.checked is not None
    assert again.checked.invariant == "soft-dirty"
    assert manifest.read_text() == text


def test_a_counterexample_to_induction_without_a_rule_is_one_of_that_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove, "Miner", lambda *_, **__: NoCandidates())
    found = []
    for without in ((), ("fork",)):
        (attempt,) = prove.attempt(prove.ProofJob(("v5.19",), ("coherence-write-pin",), without, 60, tmp_path))
        assert attempt.cti is not None
        found.append(attempt.cti)
        trace = traces.read(attempt.cti, system_of, lambda name: invariant(name).formula)
        assert trace.without == without
    assert len(set(found)) == 2


def test_a_trace_of_another_claim_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "Miner", lambda *_, **__: NoCandidates())
    (attempt,) = prove.attempt(prove.ProofJob(("v5.19",), ("coherence-write-pin",), (), 60, tmp_path))
    assert attempt.cti is not None
    with pytest.raises(TraceError, match="is for another claim than coherence-write-pin is here"):
        traces.read(attempt.cti, system_of, lambda name: invariant("write-bit").formula)


def test_a_checkpoint_under_another_s_name_is_not_taken(tmp_path: Path) -> None:
    standing = Standing(2, [1, 1], 1, {}, [], [], [], 0.5)
    Checkpoint(tmp_path, "one", 1).save(np.array([[3, 4]], np.uint64), standing)
    kept = Checkpoint(tmp_path, "one", 1).load()
    assert kept is not None
    assert kept[0].tolist() == [[3], [4]]
    for file in tmp_path.iterdir():
        other = hashlib.sha256(b"other").hexdigest()[:24]
        file.rename(tmp_path / f"{other}{file.suffix}")
    assert Checkpoint(tmp_path, "other", 1).load() is None


# Lemmas

def one_place() -> Term:
    """A page that two PTEs map is mapped at one address."""
    return forall(
        Proc, Page, Proc, Page, Frame, lambda p, v, q, w, f: Implies(And(maps(p, v, f), maps(q, w, f)), v == w)
    )


@pytest.mark.slow
def test_a_lemma_is_used_but_must_be_proved_itself() -> None:
    wrong = forall(Proc, alive)
    system = system_of("v5.9").restricted(system_of("v5.9").cone([invariant("isolation-mapping").formula]))
    search = Search(system, functools.cache(lambda: Miner(system)), [one_place(), wrong])
    found = search.prove(claim("isolation-mapping"), 120)
    assert isinstance(found, Proof)
    assert wrong not in [c.formula for c in found.clauses]
    assert [search.dropped[c] for c in search.lemmas if c.formula is wrong] == ["exit"]


# The obligations themselves

@pytest.mark.parametrize("kernel", ["v5.9", "v5.19", "v6.15"])
def test_the_weakest_precondition_says_what_the_interpreter_does(kernel: str) -> None:
    """A claim after a step, said of the state before, against the state after; on the states within four steps."""
    full = system_of(kernel)
    formulas = [i.formula for i in INVARIANTS if i.applies_to(find_kernel(kernel))]
    system = full.restricted(full.cone(formulas))
    oracle = Interpreter(system, Scope.of(Proc=2, Page=1, Frame=2, Pin=1, Slot=1, Value=1))
    preconditions = {(r.name, i): after(r, f) for r in system.rules for i, f in enumerate(formulas)}
    random = Random(0)
    checked = 0
    for _ in range(6):
        state = oracle.initial()
        for _ in range(12):
            steps = list(oracle.successors(state))
            for step, target in steps:
                for i, formula in enumerate(formulas):
                    before = preconditions[step.rule.name, i]
                    if random.random() < 0.1:
                        checked += 1
                        assert oracle.evaluate(before, state, step.as_dict) == oracle.evaluate(formula, target)
            if not steps:
                break
            state = random.choice(steps)[1]
    assert checked > 300


def test_the_initial_state_is_what_the_interpreter_starts_from() -> None:
    system = system_of("v5.19")
    oracle = Interpreter(system, SCOPES[0])
    for stated in INVARIANTS:
        formula = system.reduced(stated.formula)
        assert oracle.evaluate(initially(formula), oracle.initial()) == oracle.evaluate(formula, oracle.initial())


def test_a_rule_that_lets_a_cell_matter_without_writing_it_is_named() -> None:
    """Another engine might give such a cell another value than the proof does."""

    @rule([Param("p", Proc), Param("v", Page)], "none", "test")
    def map_something(kernel: object, p: Term, v: Term) -> Step:
        """A PTE becomes present, whatever it maps."""
        return Step([alive(p), vma(p, v), Not(pte_present(p, v))], [put(pte_present(p, v), True)])

    kernel = V5_9.but("careless", "", own_rules=(map_something,))
    system = kernel.system()
    assert "rule map-something may let" in unwritten(system, [system.rule("map-something")], [])


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["v5.7", "v5.9", "v5.19", "v6.15", "wrprotect-skip"])
def test_no_rule_of_ours_lets_a_cell_matter_without_writing_it(kernel: str) -> None:
    system = system_of(kernel)
    system = system.restricted(f.name for f in system.functions if f.name not in ("frame_value", "slot_value"))
    assert unwritten(system, system.rules, [invariant("counters").formula]) == ""


def test_a_rule_whose_guard_contradicts_the_invariant_is_dead() -> None:
    nobody = forall(Proc, lambda p: Not(alive(p)))
    dead = dead_rules(system_of("v5.9").rules, [nobody])
    assert "fork" in dead
    assert "unpin" not in dead


# Second opinions on what is shipped

def of_default_table() -> list[tuple[str, str]]:
    """(kernel, invariant) of every cell that is not violated."""
    expected = tomllib.loads(EXPECTED.read_text())
    return [
        (k.name, i.name) for k in KERNELS for i in INVARIANTS
        if i.applies_to(k) and i.name not in expected[k.name]["violated"]
    ]


def test_every_cell_that_is_not_violated_has_a_certificate() -> None:
    assert [pair for pair in of_default_table() if prove.kept(*pair, (), CERTIFICATES) is None] == []


@pytest.mark.slow
def test_both_solvers_accept_every_certificate() -> None:
    checked = verify.verify(CERTIFICATES)
    assert [(c.kernel, c.invariant, c.reason) for c in checked if not c.accepted] == []
    assert {(c.kernel, c.invariant) for c in checked} == set(of_default_table())


# ... and on what is shipped of `check --full`

MREMAP, = (each for each in configured() if each.name == "mremap")
MOVED = (MREMAP.spec("v7.2", invariant("coherence-write-pin")), "coherence-write-pin")
"""A cell whose proof needs clauses beside the claim."""


def test_a_certificate_of_a_cell_with_features_is_taken_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove, "attempt", lambda job: pytest.fail(f"nothing is to be sought: {job}"))
    verdict = prove.prove([MOVED], tmp_path, without=MREMAP.without, workers=0)[MOVED]
    assert (verdict.proved, verdict.note, verdict.spoiled) == (True, "", "")
    assert verdict.attempt.manifest is not None
    assert verdict.attempt.manifest.is_relative_to(tmp_path), "with its obligations, which do not come along"


@pytest.mark.parametrize(("clause", "said"), [
    ("(not (exclusive f))", "is not what the model and the clauses give"), ("(not (no-such f))", "is no certificate"),
])
def test_a_certificate_of_a_cell_with_features_that_is_damaged_is_refused(
    clause: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = manifests.manifest_path(FEATURE_CERTIFICATES, *MOVED, MREMAP.without)
    bad = tmp_path / "shipped" / good.parent.name / good.name
    bad.parent.mkdir(parents=True)
    read = json_text.read(good)
    other = next(c for c in read["clauses"] if ["f", "Frame"] in c["variables"])
    bad.write_text(json.dumps(read | {"clauses": [
        {"variables": [["f", "Frame"]], "body": clause} if c is other else c for c in read["clauses"]
    ]}))
    monkeypatch.setattr(prove, "FEATURE_CERTIFICATES", tmp_path / "shipped")
    verdict = prove.prove([MOVED], tmp_path, without=MREMAP.without, workers=0, seconds=0.01)[MOVED]
    assert not verdict.proved
    assert said in verdict.spoiled


def with_features() -> dict[Path, tuple[tuple[str, str], tuple[str, ...]]]:
    """Where the certificate of each cell of `check --full` that is not violated would lie, to the cell and the rules
    left out."""
    return {
        manifests.manifest_path(FEATURE_CERTIFICATES, *pair, table.without): (pair, table.without)
        for table in configured() for kernel, value in table.kernels for stated in table.invariants
        if stated.applies_to(value) and not table.expects_violation(kernel, stated)
        for pair in [(table.spec(kernel, stated), stated.name)]
    }


def test_every_certificate_with_features_is_of_a_cell_that_is_not_violated() -> None:
    cells = with_features()
    assert [m for m in manifests.manifests_in(FEATURE_CERTIFICATES) if m not in cells] == []


@pytest.mark.slow
def test_both_solvers_accept_every_certificate_with_features() -> None:
    """And each is of the terms that its cell has now."""
    cells = with_features()
    shipped = manifests.manifests_in(FEATURE_CERTIFICATES)
    assert [m for m in shipped if prove.kept(*cells[m][0], cells[m][1], FEATURE_CERTIFICATES) is None] == []
    assert [(c.kernel, c.invariant, c.reason) for c in verify.verify(shipped) if not c.accepted] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "scope"),
    [(k.name, SCOPES[0]) for k in KERNELS if k.name not in SAME_TERMS]
    + [(name, s) for name in ("v5.19", "wrprotect-skip") for s in SCOPES[1:]],
)
def test_every_clause_of_a_certificate_holds_in_every_reachable_state(kernel: str, scope: Scope) -> None:
    full = system_of(kernel)
    clauses = {
        c for pair in of_default_table() if pair[0] == kernel
        for c in manifests.formulas(manifests.manifest_path(CERTIFICATES, *pair), full)
    }
    claims = [Claim(str(n), c, z3.BoolVal(True)) for n, c in enumerate(clauses)]
    system = full.restricted(full.cone(clauses))
    searched = explore(system, scope, claims, stop_at_violations=True)
    assert searched.complete
    assert [str(f.claim.formula) for f in searched.findings if f.path is not None] == []


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["v5.19", "mapcount-unshare"])
def test_proofs_are_found_from_nothing(kernel: str, tmp_path: Path) -> None:
    wanted = [pair for pair in of_default_table() if pair[0] == kernel]
    verdicts = prove.prove(wanted, tmp_path, fresh=True)
    assert {pair: v.note for pair, v in verdicts.items() if not v.proved} == {}
