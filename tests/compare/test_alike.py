"""Kernels that take the same steps are proved to, for any number of elements; what a scope shows agrees."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3
from z3 import And, Not, Or

from model import Kernel, Step, Term, rule
from model.kernels import V7_2, never
from model.logic import System, forall
from model.ptes import P, V
from model.state import Pin, exclusive, mapped_only_by, maybe_pinned, page_swapped, pin_live, pte_present, pte_swap
from proofs.check.scopes import scope_named
from proofs.cli.main import main
from proofs.compare import alike, diff
from proofs.compare.alike import Known, candidates, unlike
from proofs.engine import Exploration
from proofs.explore.search import explore

SCOPE = scope_named("2,1,3,1,1")


def pinned_but_not_exclusive(p: Term, v: Term, f: Term) -> Term:
    """7.2's rule, or a condition that no page meets: from 5.19 on a FOLL_PIN is of an exclusive page."""
    odd = And(maybe_pinned(f), Not(exclusive(f)), mapped_only_by(p, v, f), Not(page_swapped(f)))
    return Or(V7_2.reuse(p, v, f), odd)


DEAD = V7_2.but("dead", "7.2 with a dead condition", reuse=pinned_but_not_exclusive)
SHARING = V7_2.but("sharing", "7.2 whose fork shares pinned pages", fork_copies=never)


def known() -> Known:
    system = V7_2.system()
    return Known(system, candidates(V7_2, system))


def searched(one: System, other: System) -> Exploration:
    """Every state of the first system in the scope, with the claims that the second one's rules do the same."""
    found = [pair.claim(pair.name, SCOPE) for pair in unlike(one, other)]
    claims = [claim for claim in found if claim is not None]
    assert len(claims) == len(found)
    return explore(one.restricted(one.cone([t for c in claims for t in (c.formula, c.premise)])), SCOPE, claims)


def test_a_dead_condition_is_proved_and_no_state_of_a_scope_says_otherwise() -> None:
    one, other = V7_2.system(), DEAD.system()
    assert [pair.name for pair in unlike(one, other)] == ["wp-reuse", "wp-copy", "wp-copy-spurious"]
    assert known().is_like(other) == ["FOLL_PIN(k), refers to(k, f) => exclusive(f)"] * 3
    found = searched(one, other)
    assert found.complete
    assert [(f.path, f.vacuous) for f in found.findings] == [(None, False)] * 3


def test_what_is_decided_otherwise_is_not_proved_and_a_state_shows_it() -> None:
    one, other = V7_2.system(), SHARING.system()
    assert known().is_like(other) is None
    (finding,) = searched(one, other).findings
    assert finding.claim.name == "fork"
    assert finding.path is not None
    # A page that is there, and a pin of it: then fork has something to decide.
    assert len(finding.path) == 2


@pytest.mark.parametrize(("wrong", "why"), [
    (forall(Pin, lambda k: Not(pin_live(k))), "a pin may be taken"),
    (z3.BoolVal(False), "not even initially"),
])
def test_a_candidate_that_does_not_hold_proves_nothing(wrong: Term, why: str) -> None:
    assert Known(V7_2.system(), [(wrong, why)]).is_like(SHARING.system()) is None


def test_a_rule_that_no_state_allows_is_no_difference() -> None:
    @rule([P, V], "nowhere", "a test")
    def both(kernel: Kernel, p: Term, v: Term) -> Step:
        """A PTE that is present and a swap entry goes."""
        return Step([pte_present(p, v), pte_swap(p, v)], [])

    @rule([P, V], "nowhere", "a test")
    def one(kernel: Kernel, p: Term, v: Term) -> Step:
        """A PTE that is present."""
        return Step([pte_present(p, v)], [])

    dead, taken = (V7_2.but("own", "7.2 and a rule", own_rules=(template,)) for template in (both, one))
    assert known().is_like(dead.system()) == ["never present(p, v), swap entry(p, v)"]
    assert known().is_like(taken.system()) is None


def test_diff_says_at_once_that_a_dead_condition_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # That it is proved is asked here, not how fast: the machine may be busy.
    monkeypatch.setattr(diff, "PROOF_SECONDS", 900.0)
    monkeypatch.setattr(alike, "QUERY_SECONDS", 300.0)
    file = tmp_path / "dead.py"
    file.write_text(
        "from model import V7_2, And, Not, Or\n"
        "from model.state import exclusive, mapped_only_by, maybe_pinned, page_swapped\n"
        "def odd(p, v, f):\n"
        "    own = And(mapped_only_by(p, v, f), Not(page_swapped(f)))\n"
        "    return Or(V7_2.reuse(p, v, f), And(maybe_pinned(f), Not(exclusive(f)), own))\n"
        "DEAD = V7_2.but('dead', '7.2 with a dead condition', reuse=odd)\n"
    )
    assert main(["diff", "v7.2", f"{file}:DEAD", "-o", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"v7.2 and {file}:DEAD: no observable difference: proved\n")
    assert "no step is another one: reuse." in said
