"""Features: what is off costs nothing and changes nothing, and a rule in sub-steps does what it does in one step."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from invariants import invariant
from model import hugetlb, locks, userfaultfd
from model.all_rules import ALL_RULES
from model.features import FEATURES, SPLIT, WORLD
from model.kernels import Kernel
from model.logic import Scope, System, names_in
from model.state import CONSTANTS, FUNCTIONS, Frame, Page, fresh
from proofs.check.cells import claim_of
from proofs.check.scopes import scope_of
from proofs.derive.interpreter import Instance, Interpreter, State, instances
from proofs.engine import Claim, Exploration
from proofs.explore.search import explore
from proofs.naming.specs import find_kernel, system_of

SMALL = scope_of(2, 1, 2, 1, 1)
CLAIMS = [claim_of(invariant(name)) for name in ("coherence-write-pin", "coherence-read-pin", "isolation-mapping")]
STARTS = (
    "madvise-hugepage", "collapse", "backing-read", "file-read", "mmap-file",
    "mmap-hugetlb", "uffd-continue", "ksm-merge", "migrate", "migrate-refused",
    "numa-hint", "madv-free", "mmap", "mremap", "mremap-dontunmap", "force-store", "force-anon-fault",
    "force-cow-fault", "force-wp-reuse",
    "force-wp-copy", "mprotect-rwx", "mprotect-rwx-range", "swap-stable", "swap-sync", "mmap-soft-dirty",
    "memory-movable", "memory-cma", "memalloc-pin-save",
    "force-swap-in", "get-write-force", "pin-write-longterm-force", "ksm-join", "ksm-merge-left", "ksm-merge-undone",
    "madv-dontfork", "madv-dontfork-range", "madv-wipeonfork", "madv-wipeonfork-range",
    *(f"uffd-{what}{more}" for what in ("register-missing", "register-wp", "register-missing-wp", "unregister")
      for more in ("", "-range")),
    "uffd-copy", "uffd-copy-wp", "uffd-move", "uffd-move-zero", "uffd-move-swapped", "fork-event",
    "uffd-api-unpopulated", "uffd-api-async", "guard-install", "guard-install-block",
)
"""What makes huge pages, zero pages, file pages, KSM pages, lazy-free pages, forced writes, copies by KSM, VMAs that
fork leaves out, or that userfaultfd watches otherwise."""
LACKING = {"ksm-merge-left", "uffd-move", "uffd-move-zero", "uffd-move-swapped", "guard-install", "guard-install-block"}
"""Those of them that a kernel may lack: what it has mended, or what is newer."""


def everything(kernel: Kernel, features: Iterable[str], started: bool = True) -> System:
    """The kernel's system with all state functions, those that can never become true among them.

    State functions of features that are not on, or if nothing has `started` them of any, are not kept up.
    """
    on = frozenset(features)
    rules = [r for t in ALL_RULES if t.features <= on for r in t.build(kernel, fresh, on, locks.asks)]
    lacking = {f.name for f in FUNCTIONS if f.feature and not (started and on & set(f.feature.split("|")))}
    kept = (replace(r, updates=tuple(u for u in r.updates if u.function.name not in lacking)) for r in rules)
    return System(kernel.name, FUNCTIONS, tuple(kept), CONSTANTS)


NEW_OF_USERFAULTFD = {"fork-event", *(template.name for template in userfaultfd.RULES)}
NAMES_A_PROCESS = ("discard-lazyfree-part",)
"""Its guard names the first process, so states that differ in the names of processes only are counted apart."""


def explored(system: System, names: frozenset[str], claims: list[Claim], scope: Scope) -> Exploration:
    found = explore(system.restricted(names), scope, claims)
    assert found.complete
    return found


def assert_same_answers(less: System, more: System, claims: list[Claim], scope: Scope) -> None:
    """The two systems have equal verdicts, and but for `NAMES_A_PROCESS` as many states, on the functions of both."""
    formulas = [f for c in claims for f in (c.formula, c.premise)]
    cone = more.cone(formulas)
    assert less.cone(formulas) <= cone
    own = cone & {f.name for f in less.functions}
    fewer = explored(less.without(NAMES_A_PROCESS), own, claims, scope)
    counted = explored(more.without(NAMES_A_PROCESS), cone, claims, scope)
    assert (fewer.states, fewer.levels) == (counted.states, counted.levels)
    with_less, with_more = explored(less, own, claims, scope), explored(more, cone, claims, scope)
    for a, b in zip(with_less.findings, with_more.findings, strict=True):
        assert (a.path is None, len(a.path or ())) == (b.path is None, len(b.path or ())), a.claim.name
        assert a.vacuous == b.vacuous


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scope"),
    [("v5.7", SMALL), ("v6.15", SMALL),
     *(pytest.param(name, scope_of(2, 1, 3, 1, 1), marks=pytest.mark.slow) for name in ("v5.9", "v5.19"))],
)
def test_a_feature_that_nothing_starts_changes_no_verdict(name: str, scope: Scope) -> None:
    kernel = find_kernel(name)
    more = everything(kernel, WORLD, started=False)
    assert set(STARTS) - {r.name for r in more.rules} <= LACKING
    assert len(more.rules) - len(STARTS) > len(system_of(name).rules)
    assert_same_answers(system_of(name), more.without(STARTS), CLAIMS, scope)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "features", "scope"),
    [("v5.9", ("ksm",), SMALL), ("v6.2", ("swap-out",), SMALL), ("v5.11", ("tlb",), scope_of(1, 1, 2, 1, 1)),
     *(pytest.param("v5.18", f, scope_of(2, 1, 3, 1, 1), marks=pytest.mark.slow)
       for f in (("zero", "file"), ("numa", "migration")))],
)
def test_what_a_system_is_settled_without_never_comes_about(
    name: str, features: tuple[str, ...], scope: Scope
) -> None:
    kernel = find_kernel(name)
    claims = [claim_of(invariant("tlb"))] if "tlb" in features else CLAIMS
    assert_same_answers(kernel.system(features), everything(kernel, features), claims, scope)


def test_without_features_there_are_no_state_functions_of_features() -> None:
    base = {f.name for f in system_of("v6.15").functions}
    assert base.isdisjoint({
        "large", "file", "ksm", "stale", "copying", "fast_read", "fork_tested", "vma_dontfork", "vma_wipeonfork",
        "pin_dontfork",
    })
    assert {"large", "file", "ksm"} <= {f.name for f in system_of("v6.15@huge,file,ksm").functions}
    assert {*WORLD, *SPLIT} == set(FEATURES)


@pytest.mark.parametrize("others", [(), ("ksm", "mremap", "file"), ("huge", "zero"), ("fork", "tlb", "gup-fast")])
@pytest.mark.parametrize("name", ["v5.8", "v6.15"])
def test_userfaultfd_that_nobody_asks_for_more_leaves_no_trace_in_any_term(name: str, others: tuple[str, ...]) -> None:
    kernel = find_kernel(name)
    on = kernel.system((*others, "uffd", "uffd-fork"))
    more = [r.name for r in on.rules if r.name in NEW_OF_USERFAULTFD]
    assert on.without(more).settled().text() == kernel.system(others).text() != on.text()


@pytest.mark.parametrize("others", [(), ("ksm", "mremap", "file"), ("huge", "zero"), ("fork", "tlb", "gup-fast")])
@pytest.mark.parametrize("name", ["v5.8", "v6.15"])
def test_advice_about_fork_that_nobody_gives_leaves_no_trace_in_any_term(name: str, others: tuple[str, ...]) -> None:
    kernel = find_kernel(name)
    on = kernel.system((*others, "madv-fork"))
    advice = [r.name for r in on.rules if r.name.startswith("madv-") and "fork" in r.name]
    assert on.without(advice).settled().text() == kernel.system(others).text() != on.text()


@pytest.mark.parametrize("others", [(), ("ksm", "mremap", "file"), ("huge", "zero"), ("fork", "tlb", "gup-fast")])
@pytest.mark.parametrize("name", ["v5.8", "v5.14", "v6.15"])
def test_hugetlb_pages_that_nobody_maps_leave_no_trace_in_any_term(name: str, others: tuple[str, ...]) -> None:
    kernel = find_kernel(name)
    on = kernel.system((*others, "hugetlb"))
    new = [template.name for template in hugetlb.RULES]
    assert on.without(new).settled().text() == kernel.system(others).text() != on.text()


@pytest.mark.parametrize("split", [(), tuple(SPLIT)], ids=["rules", "sub-steps"])
def test_what_is_not_for_hugetlb_pages_leaves_them_alone(split: tuple[str, ...]) -> None:
    assert {template.name for template in ALL_RULES} > hugetlb.ALIKE
    others = "huge,ksm,migration,numa,lazyfree,file,zero,mremap,uffd,uffd-move,force,populate,madv-fork"
    for rule in system_of(f"v7.2@{','.join(('hugetlb', others, *split))}").rules:
        takes = {p.sort for p in rule.params if not p.fresh} & {Page, Frame}
        asks = frozenset().union(*(names_in(condition) for condition in rule.guard))
        own = rule.name.partition(".")[0].removeprefix("fast-")
        assert own in hugetlb.ALIKE or not takes or "hugetlb" in asks, rule.name


# Sub-steps

TAILS = {"swap-out": "swap-out-cached", "wp-copy-spurious": "wp-copy"}
"""Rules whose later sub-steps are those of another one."""
GIVEN_UP = ("retry", "undo", "undo-grab", "held", "put-back")
FAST = ("get-read", "get-write", "pin-read", "pin-write", "pin-read-longterm", "pin-write-longterm")


def walk(interpreter: Interpreter, walks: int, steps: int) -> Iterator[tuple[State, Instance, State]]:
    """Every step from the states of random walks, which fork soon, and take any other rule as often as the next."""
    chance = random.Random(0)
    for _ in range(walks):
        state = interpreter.initial()
        for _ in range(steps):
            after = list(interpreter.successors(state))
            yield from ((state, instance, result) for instance, result in after)
            kept = (step for step in after if step[1] != state)
            moved = [(i, s) for i, s in kept if i.rule.name.partition("-")[0] not in ("exit", "munmap", "dontneed")]
            names = sorted({instance.rule.name for instance, _ in moved})
            soon = [n for n in names if n in ("anon-fault", "fork", "madvise-hugepage", "huge-fault", "collapse")]
            chosen = chance.choice(soon if soon and chance.random() < 0.5 else names)
            state = chance.choice([result for instance, result in moved if instance.rule.name == chosen])


@pytest.mark.slow
@pytest.mark.parametrize("features", [
    "huge", *(pytest.param(f, marks=pytest.mark.slow) for f in (
        "huge,zero,tlb,split-pmd,collapse", "file,ksm,lazyfree,force,mremap",
    )),
])
def test_a_step_leaves_no_cell_that_is_still_to_be_cleared(features: str) -> None:
    scope = Scope.of(Proc=2, Page=2, Frame=4, Pin=1, Slot=1, Value=1, Block=1, Folio=2)
    interpreter = Interpreter(system_of(f"v7.2@{features}"), scope)
    seen = {after for _, _, after in walk(interpreter, 6, 30)}
    assert len(seen) > 1000
    assert [state for state in seen if interpreter.canonical(state) != state] == []


class Sub:
    """A system in sub-steps beside the same one in single steps."""

    def __init__(self, atomic: str, split: str, scope: Scope) -> None:
        self.whole = Interpreter(system_of(atomic), scope)
        self.parts = Interpreter(system_of(split), scope)
        self.start = self.parts.initial()

    def embedded(self, state: State) -> State:
        """The state with nothing in progress."""
        cells = list(self.start)
        for name, places in self.whole.layout.position.items():
            for index, place in places.items():
                cells[self.parts.layout.position[name][index]] = state[place]
        return self.parts.canonical(tuple(cells))

    def stages(self, name: str) -> list[str]:
        """The sub-steps of a rule in their order, but those in which it is given up."""
        own = [r.name for r in self.parts.system.rules if r.name.startswith(f"{name}.")]
        tail = TAILS.get(name)
        rest = [r.name for r in self.parts.system.rules if tail and r.name.partition(".")[0] == tail]
        names = [*own, *(rest[1:] if "." in "".join(rest) else rest)]
        return [n for n in names if n.partition(".")[2] not in GIVEN_UP]

    def bound(self, name: str, binding: dict[str, object]) -> Instance:
        rule = self.parts.system.rule(name)
        return Instance(rule, tuple((p.name, binding[p.name]) for p in rule.params))

    def run(self, name: str, instance: Instance, state: State) -> State:
        """All sub-steps of the rule one after the other."""
        now = self.embedded(state)
        for stage in self.stages(name):
            step = self.bound(stage, instance.as_dict)
            assert self.parts.enabled(step, now), f"{stage} is not enabled after {instance}"
            now = self.parts.step(step, now)
        # A cell that mattered only as long as another one did is cleared a step later. The whole has no accessed bit.
        young = self.parts.layout.position.get("pte_young", {}).values()
        return self.parts.canonical(tuple(0 if place in young else cell for place, cell in enumerate(now)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "world", "split", "scope", "rules"),
    [
        *((kernel, "", "gup-fast,fork,copy,tlb,swap-out", scope_of(2, 1, 3, 1, 1),
           ("wp-copy", "fork", "uffd-wp", "mprotect-ro", "clear-soft-dirty", "swap-out"))
          for kernel in ("v5.7", "v5.12", "v6.15")),
        ("v5.7", "huge", "split-pmd", scope_of(1, 2, 3, 1, 1), ("split-pmd",)),
        ("v5.19", "huge", "collapse", scope_of(1, 2, 4, 1, 1), ("collapse",)),
        ("v5.18", "migration", "migrate", scope_of(2, 1, 3, 1, 1), ("migrate",)),
        ("v6.1", "migration", "migrate", scope_of(2, 1, 3, 1, 1), ("migrate",)),
    ],
)
def test_sub_steps_that_nothing_interrupts_do_what_the_rule_does(
    kernel: str, world: str, split: str, scope: Scope, rules: tuple[str, ...]
) -> None:
    sub = Sub(f"{kernel}@{world}" if world else kernel, f"{kernel}@{','.join(filter(None, (world, split)))}", scope)
    split_names = {r.partition(".")[0]: r for r in (r.name for r in sub.parts.system.rules) if "." in r}
    seen: dict[str, int] = {}
    for state, instance, after in walk(sub.whole, 12, 12 if world else 10):
        name = instance.rule.name
        for version in (name, f"fast-{name}"):
            if version in split_names:
                assert sub.run(version, instance, state) == sub.embedded(after), (version, instance)
                seen[version] = seen.get(version, 0) + 1
    expected = {*rules, *(f"fast-{name}" for name in FAST if "gup-fast" in split)}
    assert expected <= seen.keys(), expected - seen.keys()


@pytest.mark.parametrize("kernel", ["v5.9", "v5.19"])
def test_sub_steps_begin_where_the_rule_is_enabled(kernel: str) -> None:
    sub = Sub(kernel, f"{kernel}@fork,copy,tlb,swap-out", scope_of(2, 1, 2, 1, 1))
    split = {n.partition(".")[0] for n in (r.name for r in sub.parts.system.rules) if "." in n}
    begun = 0
    for state in {state: None for state, _, _ in walk(sub.whole, 6, 8)}:
        embedded = sub.embedded(state)
        for name in sorted(split):
            for instance in instances(sub.whole.system.rule(name), sub.whole.scope):
                first = sub.bound(sub.stages(name)[0], instance.as_dict)
                enabled = sub.parts.enabled(first, embedded)
                assert enabled == sub.whole.enabled(instance, state), instance
                begun += enabled
    assert begun > 50


@pytest.mark.parametrize("bit", ["write", "dirty", "soft_dirty", "uffd_wp"])
@pytest.mark.parametrize("kernel", ["v5.9", "v7.2"])
def test_gup_fast_gives_up_whatever_bit_of_the_pte_has_changed(kernel: str, bit: str) -> None:
    """gup_pte_range compares the whole pte_val (mm/gup.c, read in 5.10.262, 6.1.192, 6.12.118 and 7.2.13)."""
    at = Interpreter(system_of(f"{kernel}@gup-fast"), scope_of(1, 1, 2, 1, 1))
    bound: dict[str, object] = {"p": 0, "v": 0, "k": 0, "new": 0}

    def step(name: str, state: State) -> State | None:
        rule = at.system.rule(name)
        instance = Instance(rule, tuple((p.name, bound[p.name]) for p in rule.params))
        return at.step(instance, state) if at.enabled(instance, state) else None

    state: State | None = at.initial()
    for name in ("anon-fault", "fast-pin-read.read", "fast-pin-read.grab"):
        state = step(name, state or at.initial())
    assert state is not None
    assert (step("fast-pin-read.check", state) is None, step("fast-pin-read.undo", state) is None) == (False, True)
    place = at.layout.place(next(f for f in FUNCTIONS if f.name == f"pte_{bit}"), 0, 0)
    changed = tuple(1 - cell if i == place else cell for i, cell in enumerate(state))
    assert (step("fast-pin-read.check", changed) is None, step("fast-pin-read.undo", changed) is None) == (True, False)
