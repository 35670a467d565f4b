"""Would anybody notice? The mutations of mutants.py, of the rules that a system has only with features.

A mutation is *noticed* if, on one of the kernels, the answer of a litmus test that needs the rule's features, or a
specification of rule_specs.py or feature_specs.py, changes, or if the rule then depends on a cell without a meaning or
lets one matter that it has not written. It is *equivalent* if on each of them z3 proves that it changes no step, for
any number of elements (mutant_proofs.py). Else it is looked for in an exploration of the rule's features and of those
that what was dropped speaks of, on one kernel for each variant of the rule: equivalent if it changes no step there,
*survives* if it does, *undecided* if there are too many states. Sub-steps (features of SPLIT) are left out. A rule is
judged beside some other features, not all (mutant_proofs.FAMILIES).
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import mutant_proofs
import z3
from feature_specs import UNNOTICED_SPECS
from mutant_proofs import beside
from mutants import (
    CONTENTS,
    IN_SCOPE,
    PROVED,
    Asked,
    Change,
    Fate,
    Seen,
    by_name,
    changes,
    conjuncts,
    noticed_by,
    say,
)
from rule_specs import FEATURE_SPECS, SPECS, test_of

from model import locks
from model.all_rules import ALL_RULES
from model.features import SPLIT
from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError, Rule, Scope, System, Term, folded, functions_in, text_of
from model.state import Page, Proc, fresh
from proofs.data import SUITE
from proofs.derive.interpreter import Instance, Interpreter, State
from proofs.engine import Claim
from proofs.errors import EngineError
from proofs.explore.search import explore
from proofs.litmus import cow_selftest
from proofs.litmus.parser import parse, read

FIRST = ("v5.9", "v6.15", "v5.7", "v5.19", "v7.2")
"""Kernels of which specifications speak most; others are added until every variant of every rule is there."""
MEMORY = 3 << 29
TIME = 60
ALIKE = 2
"""Kernels with the same rule that are asked for each test and specification."""
FEATURES_OF = {t.name: t.features for t in ALL_RULES}
Features = frozenset[str]
WORLDS = tuple(dict.fromkeys(beside(t.features) for t in ALL_RULES if t.features))
"""Features beside which some rules are judged."""
QUIET = (
    "uffd-", "userfault", "clear-soft-", "mmap-soft-", "extra-", "mprotect-other", "swap-out", "get-", "pin-read-l",
    "pin-write-l",
)
"""Beginnings of the names of rules that are left out where there would be too many states."""


@dataclass(frozen=True, eq=False)
class FeatureMutant:
    """A rule with one thing dropped, as the system with all features beside which it is judged has it."""

    rule: Rule
    change: Change

    @property
    def key(self) -> tuple[str, str]:
        return self.rule.name, self.change.what

    @property
    def features(self) -> Features:
        return FEATURES_OF[self.rule.name]


def mechanical(rule: Rule, kernel: Kernel, system: System) -> frozenset[str]:
    """The conjuncts, as text, that RuleTemplate.build adds alike to all rules, those of the default table among them:
    that a fresh element is one, and what the rule's lock asks."""
    lock = next(t.lock for t in ALL_RULES if t.name == rule.name)
    added = [fresh(p.term) for p in rule.params if p.fresh and p.over is None]
    added += locks.asks(kernel, lock, {p.name: p.term for p in rule.params})
    return frozenset(text_of(c) for term in added for c in conjuncts(system.reduced(folded(term))))


def feature_mutants(kernel: Kernel, features: Features) -> Iterator[FeatureMutant]:
    """The mutants of the rules of the kernel that are judged beside those features, each once."""
    system = kernel.system(features)
    for rule in system.rules:
        if FEATURES_OF[rule.name] and beside(FEATURES_OF[rule.name]) == features:
            known = set()
            free = mechanical(rule, kernel, system)
            for change in changes(rule):
                idle = len(change.dropped) == 1 and (
                    text_of(*change.dropped) in free or z3.is_true(z3.simplify(*change.dropped))
                )
                if change.rule.text() not in known and not idle:
                    known.add(change.rule.text())
                    yield FeatureMutant(rule, change)


def asked(rule: Rule, features: Features) -> Rule:
    """The rule without updates of state functions for which nobody asks without a feature that is off."""
    return replace(rule, updates=tuple(u for u in rule.updates if u.function.asked_with(features)))


class World:
    """A kernel with all features beside which some rules are judged, the mutants of these rules, and its systems with
    some of the features."""

    def __init__(self, kernel: Kernel, features: Features) -> None:
        self.kernel, self.features = kernel, features
        self.system = kernel.system(features)
        self.mutants = {m.key: m for m in feature_mutants(kernel, features)}

    @functools.cache  # noqa: B019 - worlds live as long as the process
    def original(self, features: Features) -> System:
        return self.kernel.system(features)

    @functools.lru_cache(64)  # noqa: B019
    def mutated(self, mutant: FeatureMutant, features: Features) -> System:
        """The system with those features and the mutant's rule."""
        system = self.original(features)
        false = {f.name for f in system.false}
        changed = asked(mutant.change.rule, features)
        made = changed.rewritten(system.reduced)
        if made is None:
            return system.without([mutant.rule.name])
        if any(u.function.name in false and not z3.is_false(u.value) for u in made.updates):
            rules = (
                changed if r is mutant.rule else asked(r, features) for r in self.system.rules
                if FEATURES_OF[r.name] <= features
            )
            return replace(self.system, rules=tuple(rules)).settled()
        made = replace(made, updates=tuple(u for u in made.updates if u.function.name not in false))
        rules = tuple(made if r.name == made.name else r for r in system.rules)
        return replace(system, rules=rules if made in rules else (*rules, made))

    @functools.cache  # noqa: B019
    def seen(self, test: Asked) -> Seen:
        """What happens in the test on the kernel as it is."""
        return Seen(test.litmus, self.kernel, self.original(test.litmus.features))


@functools.cache
def world_of(kernel: str, features: Features) -> World:
    return World(by_name(kernel), features)


def world(kernel: str, rule: str) -> World:
    """Where the rule of that name is judged."""
    return world_of(kernel, beside(FEATURES_OF[rule]))


@functools.cache
def feature_tests() -> tuple[Asked, ...]:
    """Those without sub-steps and without operations at the same time."""
    files = (read(path) for path in sorted(SUITE.glob("*.litmus")))
    selftest = (parse(text, name) for name, text in cow_selftest.tests())
    return tuple(
        Asked(t) for t in (*files, *selftest)
        if not t.missing and not t.features & SPLIT.keys() and len(t.groups) == len(t.statements)
    )


@functools.cache
def feature_specs() -> tuple[Asked, ...]:
    """Those without sub-steps."""
    found = (Asked(test_of(spec), spec) for spec in (*FEATURE_SPECS, *UNNOTICED_SPECS, *SPECS))
    return tuple(t for t in found if not t.litmus.features & SPLIT.keys())


def variants(kernel: Kernel) -> frozenset[tuple[str, str]]:
    """The rules of features of a kernel, with their texts."""
    return frozenset(
        (r.name, r.text()) for features in WORLDS for r in kernel.system(features).rules
        if FEATURES_OF[r.name] and beside(FEATURES_OF[r.name]) == features
    )


@functools.cache
def feature_kernels() -> tuple[str, ...]:
    """Kernels that have every variant of every rule of a feature between them."""
    of = {k.name: variants(k) for k in (*KERNELS, *FURTHER)}
    chosen = list(FIRST)
    while missing := frozenset().union(*of.values()) - frozenset().union(*(of[k] for k in chosen)):
        chosen.append(max(of, key=lambda k: len(of[k] & missing)))
    return tuple(chosen)


# Judging


def noticed(key: tuple[str, str], kernels: Sequence[str]) -> tuple[str, str]:
    """The first kernel on which a litmus test or a specification notices, and which; empty if none does."""
    of_variant: dict[str, list[str]] = {}
    for kernel in kernels:
        of_variant.setdefault(world(kernel, key[0]).mutants[key].rule.text(), []).append(kernel)
    alike = [kernel for same in of_variant.values() for kernel in same[:ALIKE]]
    for test in (*feature_specs(), *feature_tests()):
        for kernel in [k for k in kernels if k in test.spec.kernels][:ALIKE] if test.spec else alike:
            try:
                by = noticed_by_test(test, world(kernel, key[0]).mutants[key], world(kernel, key[0]))
            except (ModelError, EngineError) as error:
                by = f"error: {error}"
            if by:
                return kernel, by
    return "", ""


def noticed_by_test(test: Asked, mutant: FeatureMutant, known: World) -> str:
    """What the test says of the mutant, or nothing."""
    if not mutant.features <= test.litmus.features <= known.features:
        return ""
    mutated = known.mutated(mutant, test.litmus.features)
    return noticed_by(test, mutant.rule.name, known.kernel, mutated, known.seen(test))


# Equivalence


def needed(mutant: FeatureMutant, known: World) -> Features:
    """The rule's features, and those without which what was dropped says nothing."""
    spoken = frozenset().union(*(functions_in(t) for t in mutant.change.dropped))
    base = mutant.features

    def false(features: Features) -> frozenset[str]:
        return spoken & {f.name for f in known.original(features).false}

    without = false(base)
    return base | {x for x in known.features - base if false(base | {x}) < without} if without else base


def scopes(features: Features, contents: bool) -> list[Scope]:
    """Small scopes: with two processes, and with two pages where rules are about that."""

    def of(procs: int, pages: int, frames: int, folios: int = 1) -> Scope:
        values = 2 if contents else 1
        return Scope.of(Proc=procs, Page=pages, Frame=frames, Pin=1, Slot=1, Value=values, Folio=folios, Block=1)

    if "huge" in features:
        two = [] if features & {"ksm", "mremap"} else [of(2, 2, 3 if len(features) == 1 else 2)]
        return [*two, of(1, 2, 3, 2)]
    if "mremap" in features:
        return [of(1, 2, 3)]
    return [of(2, 1, 3), of(1, 2, 3)] if "ksm" in features else [of(2, 1, 3)]


def quieted(system: System, quiet: bool) -> System:
    """The system; without the rules of QUIET."""
    return system.without([r.name for r in system.rules if r.name.startswith(QUIET)]).settled() if quiet else system


Group = tuple[str, Features, bool]
"""A kernel, features, and whether contents of pages matter: what one exploration is of."""


def explored(group: Group, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """For each mutant `equivalent`, `differs`, or why it is undecided."""
    kernel, features, contents = group
    here = world_of(kernel, beside(features))
    left = {key: here.mutants[key] for key in keys}
    found: dict[tuple[str, str], str] = {}
    for scope in scopes(features, contents):
        large = scope.size(Proc) * scope.size(Page) > 2 or contents
        for quiet in (True,) if large else (False, True):
            answers = in_scope(here, left, features, scope, quiet)
            if set(answers.values()) <= {"equivalent", "differs"}:
                break
        found |= {key: what for key, what in answers.items() if found.get(key, "equivalent") == "equivalent"}
        left = {key: mutant for key, mutant in left.items() if answers[key] != "differs"}
    return found


def in_scope(
    known: World, mutants: Mapping[tuple[str, str], FeatureMutant], features: Features, scope: Scope, quiet: bool
) -> dict[tuple[str, str], str]:
    """The same in one scope. `quiet`: without the rules of QUIET."""
    original = quieted(known.original(features), quiet)
    names = {str(number): key for number, key in enumerate(mutants)}
    claims = [
        Claim(name, original.reduced(mutants[key].change.same), z3.BoolVal(True)) for name, key in names.items()
        if mutants[key].change.same is not None
    ]
    found: dict[tuple[str, str], str] = {}
    if claims:
        exploration = explore(original, scope, claims, memory=MEMORY, timeout=TIME, stop_at_violations=True)
        for finding in exploration.findings:
            key = names[finding.claim.name]
            if finding.path is None:
                found[key] = "equivalent" if exploration.complete else exploration.stopped
            elif distinguished(original, quieted(known.mutated(mutants[key], features), quiet), scope, finding.path):
                found[key] = "differs"
    for key, mutant in mutants.items():
        if key not in found:
            found[key] = counted(original, quieted(known.mutated(mutant, features), quiet), scope)
    return found


def distinguished(original: System, mutated: System, scope: Scope, path: Iterable[Instance]) -> bool:
    """In the state to which the path leads the two systems have different next states."""
    interpreter, other = Interpreter(original, scope), Interpreter(mutated, scope)
    state = interpreter.initial()
    for step in path:
        state = interpreter.step(step, state)
    return after(interpreter, state) != after(other, state)


def after(interpreter: Interpreter, state: State) -> set[State]:
    return {result for _, result in interpreter.successors(state) if result != state}


def counted(original: System, mutated: System, scope: Scope) -> str:
    """Whether the two have as many states, levels and steps."""
    found = []
    for system in (original, mutated):
        explored = explore(system, scope, [], memory=MEMORY, timeout=TIME)
        if not explored.complete:
            return explored.stopped
        found.append((explored.levels, explored.transitions))
    return "equivalent" if found[0] == found[1] else "differs"


# By proof

def proved(key: tuple[str, str], kernel: str) -> bool:
    """The mutant is equivalent on that kernel."""
    here = world(kernel, key[0])
    mutant = here.mutants[key]
    return any(
        mutant_proofs.equivalent(mutant.rule, mutant.change.rule, here.system, known_of(kernel, key[0], quickly))
        for quickly in (True, False)
    )


def proved_by_group(key: tuple[str, str], kernels: Sequence[str]) -> list[str]:
    """The kernels on which the mutant is equivalent; those of a group with the same rule share the answer."""
    found: dict[object, bool] = {}
    equivalent = []
    for kernel in kernels:
        mutant = world(kernel, key[0]).mutants[key]
        alike = mutant.rule.text(), group_of(kernel, key[0])
        if alike not in found:
            found[alike] = proved(key, kernel)
        if found[alike]:
            equivalent.append(kernel)
    return equivalent


def group_of(kernel: str, rule: str) -> mutant_proofs.Group:
    return mutant_proofs.group_of(by_name(kernel), beside(FEATURES_OF[rule]))


def known_of(kernel: str, rule: str, quickly: bool) -> tuple[Term, ...]:
    """What is known of every state of the kernel where that rule is judged; `quickly`: in little time."""
    return mutant_proofs.known_of(group_of(kernel, rule), beside(FEATURES_OF[rule]), quickly)


def variants_of(key: tuple[str, str], kernels: Sequence[str]) -> tuple[str, ...]:
    """Of those kernels the first with each variant of the rule."""
    first: dict[str, str] = {}
    for kernel in kernels:
        first.setdefault(world(kernel, key[0]).mutants[key].rule.text(), kernel)
    return tuple(first.values())


def noticed_by_cells(key: tuple[str, str], kernels: Sequence[str]) -> tuple[str, str]:
    """The first kernel on which the changed rule, and not the rule itself, does something wrong with a cell."""
    for kernel in variants_of(key, kernels):
        here = world(kernel, key[0])
        mutant, known = here.mutants[key], known_of(kernel, key[0], quickly=True)
        by = mutant_proofs.wrong_cell(mutant.rule, mutant.change.rule, here.system, known)
        if by:
            return kernel, by
    return "", ""


# All of them


def digest_of(key: tuple[str, str], kernels: Sequence[str]) -> str:
    """Of the rule and its mutants on those kernels: an answer is for these alone."""
    mutants = [world(kernel, key[0]).mutants[key] for kernel in kernels]
    texts = sorted({f"{m.rule.text()}\n{m.change.rule.text()}" for m in mutants})
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def places_of(only: Features = frozenset()) -> dict[tuple[str, str], list[str]]:
    """The mutations of rules of features (of `only` those, if given), and the kernels that have them."""
    places: dict[tuple[str, str], list[str]] = {}
    judged = [beside(features) for features in FEATURES_OF.values() if features and (not only or features & only)]
    for kernel in feature_kernels():
        for features in dict.fromkeys(judged):
            for key, mutant in world_of(kernel, features).mutants.items():
                if not only or mutant.features & only:
                    places.setdefault(key, []).append(kernel)
    return places


def judge_features(
    jobs: int, only: Features = frozenset(), known: Iterable[Fate] = (), keep: Callable[[list[Fate]], None] = list
) -> list[Fate]:
    """The fates of all mutations of rules of features, or of `only` those.

    `known`: of an earlier run; noticed and equivalent ones of the same rules are taken from there. `keep` is given all
    fates whenever some are new.
    """
    places = places_of(only)
    say(f"{len(places)} mutations of rules of features, on {', '.join(feature_kernels())}")
    earlier = {(f.rule, f.mutation): f for f in known if f.fate in ("noticed", "equivalent")}
    fates = {
        key: earlier[key] for key, kernels in places.items()
        if key in earlier and earlier[key].of == digest_of(key, kernels)
    }

    def add(new: Iterable[Fate]) -> None:
        fates.update({(f.rule, f.mutation): replace(f, of=digest_of((f.rule, f.mutation), places[f.rule, f.mutation]))
                      for f in new})
        keep([fates[key] for key in places if key in fates])

    with ProcessPoolExecutor(jobs) as pool:
        keys = [key for key in places if key not in fates]
        left = {}
        for key, (fate, kernels) in zip(keys, pool.map(looked_at, keys, map(places.get, keys)), strict=True):
            say(f"{': '.join(key)}: {(fate.by or fate.fate) if fate else '-'}")
            if fate:
                add([fate])
            else:
                left[key] = kernels
        add(rest(pool, left).values())
    return [fates[key] for key in places]


def looked_at(key: tuple[str, str], kernels: Sequence[str]) -> tuple[Fate | None, list[str]]:
    """The fate of a mutation that is noticed, or proved equivalent on all kernels; else those where it is not."""
    for look in (noticed, noticed_by_cells):
        kernel, by = look(key, kernels)
        if by:
            return Fate(*key, "noticed", (kernel,), by), []
    equivalent = proved_by_group(key, kernels)
    left = [kernel for kernel in kernels if kernel not in equivalent]
    return (None if left else Fate(*key, "equivalent", tuple(kernels), PROVED)), left


def rest(pool: ProcessPoolExecutor, places: Mapping[tuple[str, str], Sequence[str]]) -> dict[tuple[str, str], Fate]:
    """The fates of the mutations that nobody noticed."""
    groups: dict[Group, list[tuple[str, str]]] = {}
    for key, kernels in places.items():
        for kernel in variants_of(key, kernels):
            mutant = world(kernel, key[0]).mutants[key]
            contents = any(functions_in(t) & CONTENTS for t in mutant.change.dropped)
            features = needed(mutant, world(kernel, key[0]))
            groups.setdefault((kernel, features, contents), []).append(key)
    verdicts: dict[tuple[str, str], dict[str, str]] = {key: {} for key in places}
    for (group, keys), found in zip(groups.items(), pool.map(explored, groups, groups.values()), strict=True):
        say(f"{group[0]}@{','.join(sorted(group[1]))}: {dict(Counter(found.values()))}")
        for key in keys:
            verdicts[key][group[0]] = found[key]
    return {key: fate_of(key, by_kernel) for key, by_kernel in verdicts.items()}


def fate_of(key: tuple[str, str], by_kernel: Mapping[str, str]) -> Fate:
    differing = tuple(k for k, v in by_kernel.items() if v == "differs")
    if differing:
        return Fate(*key, "survives", differing)
    undecided = {k: v for k, v in by_kernel.items() if v != "equivalent"}
    if undecided:
        return Fate(*key, "undecided", tuple(undecided), "; ".join(dict.fromkeys(undecided.values())))
    return Fate(*key, "equivalent", tuple(by_kernel), IN_SCOPE)
