"""GUP-fast's second look at the PTE, and the reference that it holds by then (mm/gup.c: gup_pte_range)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from z3 import BoolVal, Const, Not

from model.logic import Rule, System, put
from model.state import Pin, fast_held, fast_read, pin_foll_pin
from proofs.check.scopes import scope_of
from proofs.data import SUITE
from proofs.derive.interpreter import Instance, Interpreter, State, interpreter_of
from proofs.litmus import parser
from proofs.litmus.execution import Run
from proofs.naming.specs import find_kernel, system_of

SPLIT = "gup-fast,swap-out"


class Steps:
    """One process and one page, on a kernel with GUP-fast and reclaim in sub-steps."""

    def __init__(self, kernel: str) -> None:
        self.at = Interpreter(system_of(f"{kernel}@{SPLIT}"), scope_of(1, 1, 2, 1, 1))

    def after(self, *names: str) -> State:
        state = self.at.initial()
        for name in names:
            assert self.enabled(name, state), f"{name} of {names}"
            state = self.at.step(self.bound(name), state)
        return state

    def bound(self, name: str) -> Instance:
        return Instance(rule := self.at.system.rule(name), tuple((p.name, 0) for p in rule.params))

    def enabled(self, name: str, state: State) -> bool:
        return self.at.enabled(self.bound(name), state)

    def ends(self, *names: str) -> list[str]:
        """What GUP-fast does once it has taken its reference after those steps."""
        state = self.after(*names)
        return [end for end in ("check", "undo") if self.enabled(f"fast-pin-write.{end}", state)]


READ, GRAB = "fast-pin-write.read", "fast-pin-write.grab"


@pytest.mark.parametrize("kernel", ["v5.9", "v7.2"])
def test_gup_fast_gives_up_a_page_whose_accessed_bit_has_changed(kernel: str) -> None:
    """pte_val has the accessed bit (arch/x86/include/asm/pgtable_types.h), which a fault sets (PAGE_COPY has it), and
    page_referenced and MADV_PAGEOUT clear (5.10.262: ptep_clear_flush_young, madvise_cold_or_pageout_pte_range)."""
    steps = Steps(kernel)
    assert steps.ends("anon-fault", READ, GRAB) == ["check"]
    assert steps.ends("anon-fault", READ, "age", GRAB) == ["undo"]
    assert steps.ends("anon-fault", READ, GRAB, "age") == ["undo"]
    assert steps.ends("anon-fault", "age", READ, GRAB) == ["check"]
    assert steps.ends("anon-fault", "age", READ, GRAB, "load-accessed") == ["undo"]
    assert steps.ends("anon-fault", "age", READ, "store-accessed", GRAB) == ["undo"]
    # Through the TLB, or set and cleared again: the PTE is what it was.
    assert steps.ends("anon-fault", "age", READ, "load", GRAB) == ["check"]
    assert steps.ends("anon-fault", "age", READ, "load-accessed", "age", GRAB) == ["check"]


def test_reclaim_takes_what_nobody_has_used_since_it_looked() -> None:
    """page_check_references: PAGEREF_RECLAIM only without an accessed bit (mm/vmscan.c, 5.10.262)."""
    steps = Steps("v5.9")
    assert not steps.enabled("swap-out.add", steps.after("anon-fault"))
    assert steps.enabled("swap-out.add", steps.after("anon-fault", "age"))
    assert not steps.enabled("swap-out.add", steps.after("anon-fault", "age", "store-accessed"))
    assert steps.ends("anon-fault", "age", READ, "swap-out.add", GRAB) == ["check"]


def test_pages_come_used_but_to_a_child() -> None:
    """copy_present_pte makes the child's PTE old (pte_mkold); the parent's stays as it is."""
    at = Interpreter(system_of(f"v5.9@{SPLIT}"), scope_of(2, 1, 2, 1, 1))
    state = at.initial()
    for name, binding in (("anon-fault", {"p": 0, "v": 0, "new": 0}), ("fork", {"p": 0, "child": 1})):
        step = next(i for i in at.instances(at.system.rule(name)) if binding.items() <= i.as_dict.items())
        assert at.enabled(step, state)
        state = at.step(step, state)
    young = at.layout.position["pte_young"]
    assert [state[young[p, 0]] for p in (0, 1)] == [1, 0]


def test_there_is_no_accessed_bit_unless_both_are_in_sub_steps() -> None:
    for features, there in (("gup-fast", False), ("swap-out", False), ("gup-fast,fork,tlb,copy", False), (SPLIT, True)):
        names = {f.name for f in system_of(f"v5.9@{features}").functions}
        assert ({"pte_young", "fast_young"} <= names) == there
        assert names.isdisjoint({"pte_young", "fast_young"}) != there


def test_a_store_may_set_the_bit_that_reclaim_has_cleared() -> None:
    test = parser.parse(
        f"litmus t\npage x\nsplit {SPLIT.replace(',', ' ')}\nA: write x 1\n"
        "A: r = pin x write fast || *: pageout x || A: write x 2\nnever A.x == 1", "t.litmus",
    )
    kernel = find_kernel("v5.9")
    run = Run(test, kernel, interpreter_of(system_of(f"v5.9@{','.join(sorted(test.features))}"), test.scope()))
    run.explore(run.start)
    taken = {step.rule.name for _, step, _ in run.came.values() if step is not None}
    assert {"age", "store", "store-accessed", "fast-pin-write.check", "fast-pin-write.undo"} <= taken


# The grab


def in_two(system: System) -> System:
    """GUP-fast counts a FOLL_PIN by two writes: by 1, and then by what is left of 1024."""

    def rules() -> Iterator[Rule]:
        for rule in system.rules:
            if rule.name.startswith("fast-get-"):
                continue  # would go on with what is counted by 1
            if not (rule.name.startswith("fast-pin-") and rule.name.endswith(".grab")):
                yield rule
                continue
            k = Const("k", Pin)
            yield replace(rule, updates=(*rule.updates, *put(pin_foll_pin(k), False)))
            wanted = tuple(g for g in rule.guard if not g.eq(pin_foll_pin(k)) and not g.eq(fast_read(k)))
            assert len(wanted) == len(rule.guard) - 2
            yield replace(rule, name=rule.name.replace(".grab", ".rest"),
                          guard=(fast_held(k), Not(pin_foll_pin(k)), *(g for g in wanted if "pin_" in g.sexpr())),
                          updates=tuple(put(pin_foll_pin(k), BoolVal(True))))

    return replace(system, rules=tuple(rules()))


RACES = (
    "F4-gup-fast-fork", "F4p-gup-fast-fork-child-gone", "F9r-swap-pin-race", "F10c-read-pin-copying",
    "F21-exclusive-gup-fast", "migrate-pin-race",
)


@pytest.mark.parametrize("name", RACES)
@pytest.mark.parametrize("kernel", ["v5.9", "debian-5.10"])
def test_it_does_not_matter_that_5_10_counts_a_pin_by_two_writes(kernel: str, name: str) -> None:
    """try_grab_compound_head (mm/gup.c, 5.10.262): in between the page has a reference, and does not look pinned. All
    executions end in the same states."""
    test, kind = parser.read(SUITE / f"{name}.litmus"), find_kernel(kernel)
    test = test.on(kind)
    system = system_of(f"{kernel}@{','.join(sorted(test.features))}")
    ends, taken = [], set[str]()
    for each in (system, in_two(system)):
        run = Run(test, kind, interpreter_of(each, test.scope()))
        found, stuck = run.ends()
        assert not stuck
        ends.append({(end.situation.state, end.refused, end.blocked) for end in found})
        taken |= {step.rule.name.rpartition(".")[2] for _, step, _ in run.came.values() if step is not None}
    assert ends[0] == ends[1]
    assert {"grab", "rest"} <= taken
