"""Whoever drops a guard or an update of a rule is found out, or it is said why not."""

from __future__ import annotations

import mutant_proofs
import pytest
import z3
from feature_mutants import (
    FeatureMutant,
    explored,
    feature_kernels,
    known_of,
    noticed,
    noticed_by_cells,
    proved,
    variants,
    world,
)
from mutants import EVERY_RULE, STARTED, Change, by_name, changes, conjuncts, judge_all, mutants
from mutate import unexplained

from model.all_rules import ALL_RULES
from model.features import WORLD
from model.kernels import FURTHER, KERNELS


def test_the_kernels_that_are_mutated_have_every_rule() -> None:
    """Every variant of each in the default table, and no kernel beside it has another rule."""
    mutated = {(r.name, r.text()) for kernel in EVERY_RULE for r in by_name(kernel).system().rules}
    assert mutated == {(r.name, r.text()) for kernel in KERNELS for r in kernel.system().rules}
    assert {name for name, _ in mutated} >= {r.name for kernel in FURTHER for r in kernel.system().rules}


@pytest.mark.slow
def test_the_kernels_whose_feature_rules_are_mutated_have_every_variant() -> None:
    mutated = frozenset().union(*(variants(by_name(kernel)) for kernel in feature_kernels()))
    assert mutated == frozenset().union(*(variants(kernel) for kernel in (*KERNELS, *FURTHER)))
    judged = {t.name for t in ALL_RULES if t.features and t.features <= WORLD.keys()}
    # Ranges are refused as a whole where a decision refuses pinned pages, which no kernel's does for these two.
    assert judged - {name for name, _ in mutated} == {"mprotect-rw-range-refused", "mprotect-rwx-range-refused"}


def test_the_mutant_of_a_feature_rule_is_put_into_any_system_that_has_it() -> None:
    known = world("v5.9", "ksm-merge")
    mutant = known.mutants["ksm-merge", "update ksm(pte_frame(p, v)) := True"]
    for features in (frozenset({"ksm"}), frozenset({"ksm", "huge", "zero"})):
        original, mutated = known.original(features), known.mutated(mutant, features)
        changed = [r.name for r, m in zip(original.rules, mutated.rules, strict=True) if r.text() != m.text()]
        assert changed == ["ksm-merge"]
        assert len(mutated.rule("ksm-merge").updates) == len(original.rule("ksm-merge").updates) - 1


def test_a_mutant_that_lacks_nothing_writes_what_the_rule_does() -> None:
    """With whatever features, be a state function asked for by either of two."""
    known = world("v5.9", "mremap")
    for features in (frozenset({"mremap", "zero"}), frozenset({"file", "force"})):
        original = known.original(features)
        for name in (r.name for r in original.rules if r.name in ("mremap", "force-anon-fault", "cow-fault")):
            rule = known.system.rule(name)
            same = FeatureMutant(rule, Change("", rule, None, ()))
            written = [[u.function.name for u in s.rule(name).updates]
                       for s in (known.mutated(same, features), original)]
            assert written[0] == written[1], (name, features)


@pytest.mark.slow
def test_what_is_assumed_of_states_holds_and_tells_mutants_apart() -> None:
    """With PG_anon_exclusive all lemmas but two do: an mmap beside an older mapping leaves that as it is, be it merged
    with it, so that parts of one PMD need not agree in VM_SOFTDIRTY, and an mprotect not give both the write bit. A VMA
    is implied by what it maps; that nothing else of the folio is written by a fault into the page cache is seen from
    its cells."""
    assert len(known_of("v7.2", "unmerge-copy", quickly=False)) >= len(mutant_proofs.LEMMAS) - 2
    keys = [("unmerge-copy", "guard vma(p, v)"), ("unmerge-copy", "guard ksm(pte_frame(p, v))")]
    assert [proved(key, "v7.2") for key in keys] == [True, False]
    assert noticed_by_cells(("file-read", "update ksm(new) := False"), ["v7.2"])[0] == "v7.2"


@pytest.mark.slow
def test_an_exploration_tells_what_is_implied_from_what_is_not() -> None:
    guards = ("guard vma(p, v)", "guard ksm(pte_frame(p, v))")
    group = ("v5.9", frozenset({"ksm"}), False)
    found = explored(group, [("unmerge-copy", what) for what in guards])
    assert found == dict(zip((("unmerge-copy", what) for what in guards), ("equivalent", "differs"), strict=True))


def test_what_a_condition_reads_without_a_meaning_is_noticed() -> None:
    """A PMD's bit means nothing where nothing is mapped."""
    assert noticed_by_cells(("split-pmd", "guard pte_present(p, v)"), ["v5.9"])[0] == "v5.9"


def test_rules_of_one_family_of_features_are_judged_without_the_others() -> None:
    assert mutant_proofs.beside(frozenset({"ksm", "huge"})) == mutant_proofs.COMMON
    assert mutant_proofs.beside(frozenset({"uffd-move", "zero"})) - mutant_proofs.COMMON == {
        "uffd", "uffd-move", "uffd-fork"
    }


def test_conjuncts_of_conjuncts_count_separately() -> None:
    a, b, c = z3.Bools("a b c")
    assert list(conjuncts(z3.And(a, z3.And(b, z3.Or(b, c))))) == [a, b, z3.Or(b, c)]


def test_each_mutant_lacks_one_thing() -> None:
    rule = by_name("v5.14").system().rule("unpin")
    found = [(c.what, len(c.rule.guard), len(c.rule.updates)) for c in changes(rule)]
    assert found == [("guard pin_live(k)", 0, 1), ("update pin_live(k) := False", 1, 0)]


def test_mutants_differ_from_the_system_and_from_each_other() -> None:
    kernel = by_name("v5.8")
    system = kernel.system()
    some = [m for m in mutants(system, kernel.system(STARTED)) if m.rule.name in ("store", "wp-copy", "fork")]
    assert len({m.system.digest() for m in some} | {system.digest()}) == len(some) + 1


@pytest.mark.slow
def test_mutations_are_noticed_or_explained() -> None:
    """One in thirty of them; `python tests/mutate.py --part default` judges all, in five minutes of CPU time."""
    assert unexplained(judge_all(EVERY_RULE, 2, every=30)) == []


@pytest.mark.slow
def test_a_merge_that_makes_no_ksm_page_is_noticed() -> None:
    """`python tests/mutate.py --part features` judges all mutations of the rules of features."""
    kernel, by = noticed(("ksm-merge", "update ksm(pte_frame(p, v)) := True"), ("v5.9",))
    assert (kernel, bool(by)) == ("v5.9", True)
