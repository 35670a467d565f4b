"""No cell is read where it has no meaning, none gains one unwritten, no two updates disagree.

z3 proves it of the model; a user's file of which it is not so is refused at its line.
"""

from __future__ import annotations

import re
from pathlib import Path

import mutant_proofs
import pytest
import z3

from invariants import FURTHER as FURTHER_INVARIANTS
from invariants import INVARIANTS, Invariant
from model.features import FEATURES, SPLIT, WORLD
from model.kernels import FURTHER, KERNELS, V7_2
from model.logic import ModelError, Rule, System, Term, functions_in, meaning, text_of
from proofs.check.tables import verdicts
from proofs.derive.steps import after
from proofs.naming.specs import find_invariant, find_kernel, system_of, system_with
from proofs.naming.wellformed import defects_of_claim, defects_of_rule, facts_of

EVERY = [k.name for k in (*KERNELS, *FURTHER)]
QUICK = ("v5.7", "v5.9", "v7.2")
HEAD = """\
from invariants import Invariant
from model import *
from model.state import *
"""
UNREACHABLE = {
    # That a slot whose entry is exclusive has no other entry is what `exclusive` claims, and more than the facts say.
    ("v7.3-rc7", "swap-in-write"): "may let slot_value matter without writing it",
}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [pytest.param(k, marks=() if k in QUICK else pytest.mark.slow) for k in EVERY])
def test_no_rule_of_a_kernel_depends_on_what_has_no_meaning(kernel: str) -> None:
    system = system_of(kernel)
    facts = facts_of(system)
    assert len(facts) == 4
    meanings = [(f.name, text_of(m)) for f in system.functions if (m := meaning(f)[1]) is not None]
    found = {(kernel, r.name): what for r in system.rules for what in whats_of_rule(r, system, facts, meanings)}
    assert found == {at: what for at, what in UNREACHABLE.items() if at[0] == kernel}


TOLD: dict[str, list[str]] = {}


def whats_of_rule(rule: Rule, system: System, facts: list[Term], meanings: list[tuple[str, str]]) -> list[str]:
    """What is wrong with a rule, proved once for all kernels that have it in the same words."""
    updates = [(u.function.name, *map(text_of, (*u.over, *u.index, u.value, u.when))) for u in rule.updates]
    key = repr((sorted(map(text_of, rule.guard)), updates, meanings, sorted(map(text_of, facts))))
    if key not in TOLD:
        TOLD[key] = [d.what for d in defects_of_rule(rule, system, facts)]
    return TOLD[key]


@pytest.mark.slow
def test_no_rule_of_a_feature_depends_on_what_has_no_meaning() -> None:
    system = system_with(V7_2, frozenset(WORLD) - {"huge"})
    assert {r.name: d.what for r in system.rules for d in defects_of_rule(r, system, facts_of(system))} == {}


WITH_HUGE = {
    # Which frames of a folio nobody has: what a free one says of its folio keeps that folio from being given out again,
    # and another, of which nobody speaks, can be given out in its place.
    "huge-fault": "large", "collapse": "large",
    # Of a block without a page nothing is said.
    "fork": "page_table",
}


@pytest.mark.slow
def test_nor_does_one_with_huge_pages_where_what_every_rule_keeps_holds() -> None:
    system = system_of("v7.2@huge")
    said = [system.reduced(lemma) for lemma in mutant_proofs.LEMMAS]
    few = facts_of(system)
    many = [*few, *mutant_proofs.invariant(system.rules, [f for f in said if not z3.is_true(f)])]
    seen = {r: {d.key for d in defects_of_rule(r, system, few)} for r in system.rules}
    left = {r.name: keys & {d.key for d in defects_of_rule(r, system, many)} for r, keys in seen.items() if keys}
    assert {name: what for name, keys in left.items() for what, _ in keys} == WITH_HUGE


@pytest.mark.slow
@pytest.mark.parametrize("spec", [
    "v5.9", "v7.2@zero,file,ksm", pytest.param("v5.9@huge", marks=pytest.mark.slow),
    *(pytest.param(f"v7.2@{f}", marks=pytest.mark.slow) for f in FEATURES if f not in SPLIT),
])
def test_no_invariant_depends_on_what_has_no_meaning(spec: str) -> None:
    system = system_of(spec)
    functions = {f.name for f in system.functions}
    facts = facts_of(system)
    asked = [
        i for i in (*INVARIANTS, *FURTHER_INVARIANTS)
        if i.applies_to(find_kernel(spec)) and functions_of(i, system) <= functions
    ]
    assert len(asked) > 8
    assert {i.name: d.what for i in asked for d in defects_of_claim(i, system, facts)} == {}


def functions_of(stated: Invariant, system: System) -> frozenset[str]:
    return functions_in(system.reduced(stated.formula)) | functions_in(system.reduced(stated.premise))


def refused(tmp_path: Path, text: str, kernel: str = "v5.9", invariant: str = "coherence-write-pin") -> str:
    """What one is told of a file in which MINE is a kernel or PROMISE an invariant."""
    file = tmp_path / "mine.py"
    file.write_text(HEAD + text)
    names = [f"{file}:MINE" if "MINE" in text else kernel], [f"{file}:PROMISE" if "PROMISE" in text else invariant]
    with pytest.raises(ModelError) as raised:
        verdicts(*names, scope="2,1,2,2,1", out=tmp_path / "out", engine="explore", workers=1)
    message = str(raised.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/")


def test_a_claim_of_a_process_that_may_be_gone_is_refused(tmp_path: Path) -> None:
    """A pin may outlive its process, of whose has_pinned proofs would remember what exploration forgets: without the
    refusal this is PROVED on v5.9, and violated in 3 steps at two references."""
    text = """PROMISE = Invariant("promise", "x", "me", (Pin, Pin),
    lambda k, l: And(pin_live(k), pin_foll_pin(k), pin_live(l), pin_foll_pin(l)),
    lambda k, l: Or(has_pinned(pin_proc(k)), k == l))
"""
    message = refused(tmp_path, text)
    assert message.startswith("mine.py:6: invariant ")
    assert "it depends on has_pinned where that has no meaning" in message
    assert message.endswith("has_pinned(proc'0) has one where alive(proc'0)")


def test_the_same_claim_of_a_process_that_is_alive_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + """PROMISE = Invariant("promise", "x", "me", (Pin,),
    lambda k: And(pin_live(k), pin_foll_pin(k), alive(pin_proc(k))), lambda k: has_pinned(pin_proc(k)))
""")
    (cell,) = verdicts(["v5.9"], [f"{file}:PROMISE"], scope="2,1,2,2,1", out=tmp_path / "out", workers=1)
    assert cell.verdict == "PROVED"


DECISIONS = [
    ("reuse=lambda p, v, f: forall(Pin, lambda k: Implies(pin_live(k), has_pinned(pin_proc(k))))", "has_pinned"),
    ("reuse=lambda p, v, f: exists(Slot, lambda s: slot_frame(s) == f)", "slot_frame"),
    ("reuse=lambda p, v, f: exists(Proc, lambda q: And(q != p, pte_write(q, v)))", "pte_write"),
    ("fork_copies=lambda p, v, f: exists(Pin, lambda k: pin_frame(k) == f)", "pin_frame"),
    # Whatever it wraps or is made of, it is not the model's.
    ("reuse=functools.wraps(never)(lambda p, v, f: cached(pte_slot(p, v)))", "pte_slot"),
    ("reuse=eval('lambda p, v, f: cached(pte_slot(p, v))')", "pte_slot"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("decision", "function"), DECISIONS)
def test_a_decision_that_reads_what_has_no_meaning_is_refused(decision: str, function: str, tmp_path: Path) -> None:
    message = refused(tmp_path, f"import functools\nMINE = V5_9.but('mine', 'x', {decision})\n")
    assert message.startswith("kernel mine: rule " if "eval" in decision else "mine.py:5: rule ")
    assert f"it depends on {function} where that has no meaning" in message


RULES = [
    ("Step([alive(p), pte_write(p, v)], put(vma(p, v), False))", "its conditions: it depends on pte_write where"),
    ("Step([live(p, v)], put(has_pinned(p), pte_write(p, v)))",
     "the value that it gives has_pinned: it depends on pte_write where"),
    ("Step([live(p, v), pte_swap(p, v)], put(cached(pte_slot(p, v)), True))",
     "may let slot_frame matter without writing it"),
    ("Step([live(p, v), pte_swap(p, v)], put(cached(pte_slot(p, v)), True))",
     "it writes cached, after which slot_frame (the page in the swap cache) may say something"),
    ("Step([live(p, v)], put(pte_write(p, v), True) + put(pte_write(p, v), False))",
     "may give one cell of pte_write two values at once"),
    ("Step([alive(p)], each(Proc, lambda q: put(vma(p, v), q == p)))", "may give one cell of vma two values at once"),
]


@pytest.mark.parametrize(("step", "says"), RULES)
def test_a_rule_that_engines_would_take_differently_is_refused(step: str, says: str, tmp_path: Path) -> None:
    text = f"""@rule([Param("p", Proc), Param("v", Page)], "f", "s")
def mine(kernel, p, v):
    return {step}
MINE = V5_9.but("mine", "x", own_rules=(mine,))
"""
    message = refused(tmp_path, text)
    assert message.startswith("mine.py:4: rule mine: ")
    assert says in message


BY_MAPCOUNT = "lambda p, v, f: And(mapped_only_by(p, v, f), Not(maybe_pinned(f)){})"


@pytest.mark.slow
def test_reuse_by_mapcount_alone_is_refused_and_the_document_says_what_helps(tmp_path: Path) -> None:
    """A swap entry may still name the slot of the page that leaves the swap cache: one copies then, or keeps it."""
    message = refused(tmp_path, f"MINE = V7_2.but('mine', 'x', reuse={BY_MAPCOUNT.format('')})\n")
    assert "rule wp-reuse: may let slot_value matter without writing it: it writes cached, after which" in message
    told = re.search(r"(docs/\S+), '(.*)'", message)
    assert told
    assert told[2] in (Path(__file__).parents[2] / told[1]).read_text()
    copies = BY_MAPCOUNT.format(", Not(page_swapped(f))")
    keeps = f"{BY_MAPCOUNT.format('')}, reuse_frees_swap_cache=lambda p, v, f: Not(page_swapped(f))"
    for reuse in (copies, keeps):
        assert system_of(kernel_like(tmp_path, f"V7_2.but('mine', 'x', reuse={reuse})"))


@pytest.mark.slow
def test_a_decision_of_the_model_is_refused_where_it_does_not_fit(tmp_path: Path) -> None:
    """The page leaves the swap cache though another entry may lead there, and nobody has written it out."""
    for decide in ("always", "lambda p, v, s, f: BoolVal(True)"):
        message = refused(tmp_path, f"from z3 import BoolVal\nfrom model.kernels import always\n"
                                    f"MINE = V5_9.but('mine', 'x', swap_in_frees={decide})\n")
        assert "rule swap-in-write: may let slot_value matter without writing it: it writes cached and" in message
    assert system_of(kernel_like(tmp_path, "V5_9.but('mine', 'x', reuse=V5_18.reuse)"))


def kernel_like(tmp_path: Path, made: str) -> str:
    """The spec of a kernel so made in a file."""
    (tmp_path / "like.py").write_text(f"{HEAD}MINE = {made}\n")
    return f"{tmp_path}/like.py:MINE"


def test_updates_that_disagree_only_beyond_the_scope_are_refused(tmp_path: Path) -> None:
    """With one page there is but one value; with two there are two."""
    text = """@rule([Param("p", Proc)], "f", "s")
def mine(kernel, p):
    return Step([alive(p)], each(Page, lambda v: put(vm_soft(p), vma(p, v))))
vm_soft = has_pinned
MINE = V5_9.but("mine", "x", own_rules=(mine,))
"""
    assert "may give one cell of has_pinned two values at once" in refused(tmp_path, text)


NAMES = [
    ("[Param('p', Proc), Param('p', Page)]", "the name 'p' is taken"),
    ("[Param('first', Proc), Param('v', Page)]", "the name 'first' is taken"),
    ("[Param('alive', Proc), Param('v', Page)]", "the name 'alive' is taken"),
    ('[Param("proc\'0", Proc), Param(\'v\', Page)]', "letters, digits and _, not \"proc'0\""),
    ("[Param('goal!0', Proc), Param('v', Page)]", "letters, digits and _, not 'goal!0'"),
    ("[Param('', Proc), Param('v', Page)]", "letters, digits and _, not ''"),
    ("[Param(1, Proc), Param('v', Page)]", "Param takes a name and a sort"),
]


@pytest.mark.parametrize(("params", "says"), NAMES)
def test_a_parameter_has_a_name_of_its_own(params: str, says: str, tmp_path: Path) -> None:
    text = f"""@rule({params}, "f", "s")
def mine(kernel, p, v):
    return Step([live(p, v), pte_present(p, v)], put(pte_write(p, v), False))
MINE = V5_9.but("mine", "x", own_rules=(mine,))
"""
    assert says in refused(tmp_path, text)


def test_a_parameter_may_be_called_as_proofs_call_what_they_make_up(tmp_path: Path) -> None:
    """Names of the program's own have a `!`: that a VMA may go from under its PTE is found, not bound and proved."""
    file = tmp_path / "mine.py"
    file.write_text(HEAD + """@rule([Param("after0", Proc), Param("after1", Page)], "f", "s")
def mine(kernel, p, v):
    return Step([live(p, v), pte_present(p, v)], put(vma(p, v), False))
MINE = V5_9.but("mine", "x", own_rules=(mine,))
PROMISE = Invariant("promise", "x", "me", (Proc, Page), pte_present, vma)
""")
    system, promised = system_of(f"{file}:MINE"), find_invariant(f"{file}:PROMISE").formula
    asserted = z3.Solver()
    asserted.add(promised, *system.rule("mine").guard, z3.Not(after(system.rule("mine"), promised)))
    assert asserted.check() == z3.sat
    (cell,) = verdicts([f"{file}:MINE"], [f"{file}:PROMISE"], scope="2,1,2,1,1", out=tmp_path, engine="explore")
    assert (cell.verdict, cell.length) == ("VIOLATED", 2)


def test_a_constant_of_another_sort_is_not_the_models_own(tmp_path: Path) -> None:
    text = "from z3 import Const\nMINE = V5_9.but('mine', 'x', reuse=lambda p, v, f: Const('first', Frame) == f)\n"
    assert "speaks of another 'first' than the model's, of the sort Frame" in refused(tmp_path, text)
    text = "from z3 import Const\nMINE = V5_9.but('mine', 'x', reuse=lambda p, v, f: Const('p', Frame) == f)\n"
    assert "speaks of another 'p' than the model's, of the sort Frame" in refused(tmp_path, text)
