"""Restrictions as switches: what each decides, that they add up to the kernels known, and how a kernel is named."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest
import z3

from invariants import invariant
from model.decisions import read_private
from model.kernels import (
    BREAK_COW,
    MAPCOUNT_UNSHARE,
    V5_7,
    V5_8,
    V5_9,
    V5_9_RC4,
    V5_11,
    V5_14,
    V5_18,
    V5_19,
    V6_2,
    V6_15,
    WRPROTECT_SKIP,
    Kernel,
)
from model.logic import ModelError, Scope, System, Term, forall, names_in
from model.operations import blocks, faults
from model.restrictions import BASES, RESTRICTIONS, SWITCHES, VARIANTS, WITH_FEATURES, bare, restricted, spec_of
from model.state import (
    Page,
    Proc,
    cached,
    in_writeback,
    live,
    pte_frame,
    pte_none,
    pte_slot,
    pte_swap,
    writeback,
)
from proofs.check.cells import claim_of
from proofs.engine import Claim
from proofs.explore.search import explore
from proofs.litmus.execution import Answer, answer
from proofs.litmus.parser import parse
from proofs.naming.specs import find_kernel, system_of

SMALL = Scope.of(Proc=2, Page=1, Frame=2, Pin=1, Slot=1, Value=1)
R2 = ("fork-early-copy", "soft-dirty-skip", "swap-out-refuse")
READERS = ("read-gup-break", "read-gup-unshare")
OTHERS = tuple(name for name in SWITCHES if name not in READERS)


def changed(base: str, *names: str) -> dict[str, str]:
    """The decisions that differ from those of the bare rule."""
    before, after = BASES[base].decisions(), restricted(BASES[base], names).decisions()
    return {decision: value for decision, value in after.items() if value != before[decision]}


@functools.lru_cache(8)
def system(kernel: Kernel, features: tuple[str, ...] = ()) -> System:
    return kernel.system(features)


def digest(kernel: Kernel, features: tuple[str, ...] = ()) -> str:
    return system(kernel, features).digest()


# Switches

DECISIONS = {
    ("page-count", "fork-early-copy"): {"fork_copies": "copies_pinned"},
    ("exclusive", "fork-early-copy"): {"fork_copies": "copies_pinned_exclusive"},
    ("page-count", "mprotect-refuse"): {"mprotect_pinned": "refuse"},
    ("page-count", "soft-dirty-skip"): {"soft_dirty_pinned": "skip"},
    ("page-count", "uffd-wp-skip"): {"uffd_wp_pinned": "skip"},
    ("page-count", "mprotect-other-skip"): {"mprotect_other_pinned": "skip"},
    ("page-count", "uffd-unwp-skip"): {"uffd_unwp_pinned": "skip"},
    ("page-count", "swap-out-refuse"): {"swap_out_pinned": "refuse"},
    ("exclusive", "unmap-refuse"): {"swap_out_pinned": "refuse", "unmap_pinned": "refuse"},
    ("mapcount", "writeback-wait"): {"fault_waits_for_writeback": "True"},
    ("mapcount", "read-gup-break"): {"read_gup": "read_as_write", "read_gup_writes": "True", "unshare": "never"},
    ("exclusive", "read-gup-break"): {
        "read_gup": "read_as_write_exclusive", "read_gup_writes": "True", "unshare": "unshares_read_only",
    },
    ("mapcount", "read-gup-unshare"): {"read_gup": "read_private", "unshare": "never"},
    ("exclusive", "read-gup-unshare"): {
        "read_gup": "read_exclusive", "unshare": "page_count_is_one_after_swap_cache",
    },
    ("mapcount", *READERS): {"read_gup": "read_as_write_private", "read_gup_writes": "True", "unshare": "never"},
    ("exclusive", *READERS): {
        "read_gup": "read_as_write_exclusive", "read_gup_writes": "True", "unshare": "unshares_read_only",
    },
    ("mapcount", "mprotect-restore"): {"mprotect_restores": "restores_pinned"},
    ("exclusive", "mprotect-restore"): {"mprotect_restores": "restores_exclusive"},
    ("mapcount", "uffd-wp-restore"): {"uffd_restores": "pinned_alone"},
    ("exclusive", "uffd-wp-restore"): {"uffd_restores": "restores_exclusive_unprotected"},
    ("mapcount", "mprotect-skip"): {"mprotect_pinned": "skip"},
    ("mapcount", "mprotect-skip", "mprotect-refuse"): {"mprotect_pinned": "refuse"},
    ("mapcount", "ksm-refuse"): {"ksm_referenced": "refuse"},
    ("exclusive", "migrate-refuse"): {"migrate_referenced": "refuse"},
    ("page-count", "huge-same-rule"): {"huge_reuse": "page_count_is_one"},
}


@pytest.mark.parametrize("case", DECISIONS, ids="+".join)
def test_what_a_switch_decides(case: tuple[str, ...]) -> None:
    assert changed(*case) == DECISIONS[case]


def test_every_switch_has_a_case() -> None:
    assert {name for _, *names in DECISIONS for name in names} == set(SWITCHES)
    assert len(SWITCHES) == len(RESTRICTIONS) + len(WITH_FEATURES) + len(VARIANTS)


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("base", BASES)
def test_no_switch_is_without_effect(base: str, name: str) -> None:
    """But that two of the bases have one rule for small pages and for THPs."""
    features = tuple(feature for feature, switch in WITH_FEATURES.items() if switch.name == name)
    alike = name == "huge-same-rule" and base != "page-count"
    assert (digest(restricted(BASES[base], [name]), features) == digest(BASES[base], features)) == alike


@pytest.mark.parametrize(("feature", "operation"), [("ksm", "*: ksm x y"), ("migration", "*: migrate x")])
def test_without_their_restriction_ksm_and_migration_take_a_pinned_page_away(feature: str, operation: str) -> None:
    test = parse(f"""litmus t
        page x
        page y
        A: write x 1
        A: write y 1
        A: r = pin y write
        A: s = pin x write
        {operation}
        exists A.x is s and A.y is r""", "t")
    base = BASES["mapcount"]
    kept = restricted(base, [WITH_FEATURES[feature].name])
    assert answer(test, base, system(base, tuple(test.features))).answer is Answer.FORBIDDEN
    assert answer(test, kept, system(kept, tuple(test.features))).answer is Answer.ALLOWED


KNOWN = [
    (V5_7, ()), (V5_8, ("read-gup-break",)), (V5_9_RC4, ()), (V5_9, ("fork-early-copy",)), (V5_11, R2), (V5_14, R2),
    (V5_18, R2), (V5_19, (*R2, "unmap-refuse", "read-gup-unshare")),
    (V6_2, (*R2, "unmap-refuse", "read-gup-unshare", "mprotect-restore")),
    (BREAK_COW, ("read-gup-unshare",)), (MAPCOUNT_UNSHARE, (*R2, "read-gup-unshare")),
    (WRPROTECT_SKIP, (*R2, "uffd-wp-skip", "mprotect-skip")),
]


@pytest.mark.parametrize(("kernel", "names"), KNOWN, ids=[k.name for k, _ in KNOWN])
def test_known_kernels_are_a_bare_rule_with_switches(kernel: Kernel, names: tuple[str, ...]) -> None:
    assert digest(restricted(bare(kernel), names)) == digest(kernel)


@pytest.mark.parametrize(("base", "kernel"), [("page-count", V5_9), ("mapcount", V5_7), ("exclusive", V5_19)])
def test_bases_are_the_bare_rules_of_kernels(base: str, kernel: Kernel) -> None:
    assert digest(BASES[base]) == digest(bare(kernel))


@pytest.mark.parametrize("kernel", [V5_8, V6_15, MAPCOUNT_UNSHARE, WRPROTECT_SKIP], ids=lambda k: k.name)
def test_baring_keeps_the_reuse_rule_and_clears_everything_else(kernel: Kernel) -> None:
    cleared = {
        "fork_copies", "mprotect_pinned", "mprotect_other_pinned", "soft_dirty_pinned", "uffd_wp_pinned",
        "uffd_unwp_pinned", "swap_out_pinned", "unmap_pinned", "fault_waits_for_writeback",
        "read_gup", "read_gup_writes", "unshare", "unshare_writable", "mprotect_restores", "uffd_restores",
    }
    before, after, plain = kernel.decisions(), bare(kernel).decisions(), V5_7.decisions()
    allowed = dict.fromkeys(("ksm_referenced", "migrate_referenced"), "allow")
    assert all(after[d] == (plain[d] if d in cleared else allowed.get(d, before[d])) for d in before)


# What switches do

def outcome(kernel: Kernel, *lines: str) -> Answer:
    return answer(parse("\n".join(("litmus t", "page x uffd", *lines)), "t"), kernel, system(kernel)).answer


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("switch", "undoing"), [
    ("mprotect-restore", ("A: mprotect x ro", "A: mprotect x rw")),
    ("uffd-wp-restore", ("A: uffd-wp x", "A: uffd-unwp x")),
])
def test_restoring_gives_the_write_bit_back_to_a_pinned_page(
    base: str, switch: str, undoing: tuple[str, str]
) -> None:
    history = ("A: write x 1", "A: r = pin x write", *undoing, "exists writable A.x")
    assert outcome(BASES[base], *history) is Answer.FORBIDDEN
    assert outcome(restricted(BASES[base], [switch]), *history) is Answer.ALLOWED


@pytest.mark.parametrize("base", BASES)
def test_restoring_leaves_shared_and_tracked_pages_read_only(base: str) -> None:
    kernel = restricted(BASES[base], ["mprotect-restore", "uffd-wp-restore"])
    start = ("A: write x 1", "A: r = pin x write")
    undone = ("A: mprotect x ro", "A: mprotect x rw", "exists writable A.x")
    for tracked in (("A: fork C",), ("A: clear-soft-dirty",), ("A: uffd-wp x",)):
        assert outcome(kernel, *start, *tracked, *undone) is Answer.FORBIDDEN
    assert outcome(kernel, *start, "A: clear-soft-dirty", "A: uffd-wp x", "A: uffd-unwp x", undone[-1]) is (
        Answer.FORBIDDEN
    )


def test_a_kernel_without_the_exclusive_bit_can_refuse_to_unmap_too() -> None:
    history = ("A: write x 1", "A: fork C", "*: pageout x", "C: read x", "C: r = pin x", "C: pageout x",
               "exists refused 6")
    assert outcome(V5_11, *history) is Answer.FORBIDDEN
    assert outcome(V5_11.but("x", "x", unmap_pinned="refuse"), *history) is Answer.ALLOWED


# Readers get on

READS = {
    "shared": ("A: write x 1", "A: fork C"),
    "shared once": ("A: write x 1", "A: fork C", "C: exit"),
    "shared, read-only": ("A: write x 1", "A: fork C", "A: mprotect x ro"),
    "shared once, read-only": ("A: write x 1", "A: fork C", "C: exit", "A: mprotect x ro"),
    "swapped out while shared": ("A: write x 1", "A: fork C", "*: pageout x"),
    "swapped out, read-only": ("A: write x 1", "A: fork C", "A: mprotect x ro", "*: pageout x"),
    "in the swap cache, named by a swap entry": ("A: write x 1", "A: fork C", "*: pageout x", "C: read x"),
    "referenced by another": ("A: write x 1", "A: fork C", "C: s = get x write", "C: munmap x"),
    "pinned already, read-only": ("A: write x 1", "A: s = pin x write", "A: fork C", "A: mprotect x ro"),
    "with a transient reference": ("A: write x 1", "A: fork C", "C: exit", "*: extra-ref x", "A: mprotect x ro"),
    "write-protected": ("A: write x 1", "A: fork C", "A: uffd-wp x", "A: uffd-unwp x"),
}


@pytest.mark.parametrize("others", [(), OTHERS], ids=["alone", "with-all-others"])
@pytest.mark.parametrize("readers", [(), *itertools.combinations(READERS, 1), READERS], ids="+".join)
@pytest.mark.parametrize("base", BASES)
def test_a_read_pin_of_a_shared_page_succeeds_in_the_end(
    base: str, readers: tuple[str, ...], others: tuple[str, ...]
) -> None:
    """Every execution comes to the pin: one that faults for ever, or finds no rule, would be UNKNOWN."""
    kernel = restricted(BASES[base], (*readers, *others))
    for what, history in READS.items():
        for flags in ("", " longterm"):
            got = outcome(kernel, *history, f"A: r = pin x{flags}", "always r sees 1")
            assert got is Answer.HOLDS, what


def reader_gets_on(kernel: Kernel, p: Term, v: Term) -> Term:
    """Where a page is mapped or swapped out, a read pin or one of its faults is enabled, or the monitor or the end of
    writeback is waited for. Fresh elements are not asked for: running out of them is a matter of the scope."""
    steps = [
        z3.And(*(g for g in rule.guard if not names_in(g) & {"k", "new"}))
        for rule in system(kernel).rules
        if rule.name in ("pin-read", *itertools.chain(*faults("read-gup", kernel), blocks("read-gup", kernel)))
    ]
    slot = pte_slot(p, v)
    waits = z3.If(pte_swap(p, v), z3.And(cached(slot), writeback(slot)), in_writeback(pte_frame(p, v)))
    here = (z3.Const("p", Proc), p), (z3.Const("v", Page), v)
    return z3.Implies(z3.And(live(p, v), z3.Not(pte_none(p, v))), z3.Or(waits, z3.substitute(z3.Or(*steps), *here)))


@pytest.mark.parametrize("readers", [(), *itertools.combinations(READERS, 1), READERS], ids="+".join)
@pytest.mark.parametrize("base", BASES)
def test_in_no_state_is_a_reader_stuck(base: str, readers: tuple[str, ...]) -> None:
    kernel = restricted(BASES[base], (*readers, *OTHERS))
    gets_on = forall(Proc, Page, functools.partial(reader_gets_on, kernel))
    whole = system(kernel)
    explored = explore(whole.restricted(whole.cone([gets_on])), SMALL, [Claim("reader", gets_on, z3.BoolVal(True))])
    assert explored.complete
    assert explored.findings[0].path is None


def test_a_reader_without_its_fault_is_found_stuck() -> None:
    kernel = BASES["page-count"].but("stuck", "a read GUP refuses a shared page", read_gup=read_private)
    assert outcome(kernel, *READS["shared"], "A: r = pin x", "always r sees 1") is Answer.UNKNOWN
    gets_on = forall(Proc, Page, functools.partial(reader_gets_on, kernel))
    stuck = explore(system(kernel), SMALL, [Claim("reader", gets_on, z3.BoolVal(True))], stop_at_violations=True)
    assert stuck.findings[0].path is not None


@pytest.mark.parametrize("base", BASES)
def test_a_reader_that_breaks_cow_waits_for_the_monitor_and_one_that_unshares_does_not(base: str) -> None:
    history = ("A: write x 1", "A: fork C", "A: uffd-wp x", "A: r = pin x", "exists blocked 4")
    assert outcome(restricted(BASES[base], ["read-gup-break"]), *history) is Answer.ALLOWED
    assert outcome(restricted(BASES[base], ["read-gup-unshare"]), *history) is Answer.FORBIDDEN


def test_read_pins_are_found_to_need_their_switches() -> None:
    """The exclusive bit keeps read pins if fork copies early and readers unshare, not with one of them alone."""
    claim = claim_of(invariant("coherence-read-pin"))
    needed = ("fork-early-copy", "read-gup-unshare")

    def broken(*names: str) -> bool:
        whole = system(restricted(BASES["exclusive"], names))
        needed = whole.restricted(whole.cone([claim.formula, claim.premise]))
        explored = explore(needed, SMALL, [claim], stop_at_violations=True)
        return explored.findings[0].path is not None

    assert all(broken(name) for name in needed)
    assert broken(*needed, "swap-out-refuse")
    assert not broken(*needed, "unmap-refuse")


# Names

def test_a_restricted_kernel_is_found_again_by_its_name() -> None:
    for base in (*BASES, "bare:v5.18", "bare:mapcount-unshare"):
        for names in ([], ["mprotect-skip", "fork-early-copy"], SWITCHES):
            spec = spec_of(base, names)
            assert find_kernel(spec).name == spec
            assert spec == "+".join((base, *sorted(names, key=list(SWITCHES).index)))
            assert digest(restricted(find_kernel(base), names)) == system_of(spec).digest()


def test_order_and_repetition_make_no_difference() -> None:
    one = find_kernel("page-count+fork-early-copy+mprotect-refuse")
    other = find_kernel("page-count+mprotect-refuse+fork-early-copy+mprotect-refuse")
    assert other.name == one.name == "page-count+fork-early-copy+mprotect-refuse"
    assert digest(one) == digest(other)
    assert one.base == "page-count"
    assert dict(one.cite) == {n: SWITCHES[n].source for n in ("fork-early-copy", "mprotect-refuse")}


def test_a_rule_of_a_users_file_can_be_restricted(tmp_path: Path) -> None:
    path = tmp_path / "a+b.py"
    path.write_text("from model.kernels import V5_9\nMINE = V5_9.but('mine', 'as 5.9', trylock=False)\n")
    kernel = find_kernel(f"bare:{path}:MINE+uffd-wp-skip")
    assert (kernel.name, kernel.trylock, kernel.uffd_wp_pinned) == ("bare:mine+uffd-wp-skip", False, "skip")
    assert kernel.fork_copies.__name__ == "never"


@pytest.mark.parametrize(("spec", "complaint"), [
    ("page-count+fork-early-cpy", "no restriction 'fork-early-cpy'; did you mean fork-early-copy?"),
    ("bare:v5.18+mprotect-refuze", "did you mean mprotect-refuse?"),
    ("page-count+", "no restriction ''; there are fork-early-copy, "),
    ("page-cout", "no kernel 'page-cout'; did you mean page-count?"),
    ("bare:v5.91", "there was no Linux 5.91; the model has the rules of 4.8 to 7.3-rc7"),
    ("bare:", "no kernel ''"),
    ("v5.9+fork-early-copy", "no kernel 'v5.9+fork-early-copy'"),
    ("bare:missing.py:MINE+fork-early-copy", "no file missing.py"),
])
def test_a_wrong_name_is_said_with_the_nearest_right_one(spec: str, complaint: str) -> None:
    with pytest.raises(ModelError) as raised:
        find_kernel(spec)
    assert complaint in str(raised.value)


def test_unknown_names_are_refused_by_the_model_too() -> None:
    for use in (functools.partial(spec_of, "page-count"), functools.partial(restricted, BASES["page-count"])):
        with pytest.raises(ModelError, match="no restriction 'fork'"):
            use(["fork"])


def test_unmapping_is_allowed_or_refused() -> None:
    with pytest.raises(ModelError, match="unmap_pinned is one of allow, refuse, not 'skip'"):
        V5_19.but("x", "x", unmap_pinned="skip")
