"""Would anybody notice? Drops each guard conjunct and each update of a kernel's rules, one at a time.

A rule is written once for all kernels, so a mutation is *noticed* if on one of them a litmus test's answer or a
specification of rule_specs.py is not the original's, or an engine refuses it; or if the rule then depends on a cell
without a meaning or lets one matter that it has not written; or if an invariant's verdict or shortest violation at the
default scope is another. It is *equivalent* if on each of them z3 proves that it changes no step, for any number of
elements (mutant_proofs.py), or nothing in that scope tells it from the original; else it *survives*. Here are the rules
of the default table; those of features are in feature_mutants.py. `mutate.py` runs both.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import mutant_proofs
import z3
from rule_specs import SPECS, Spec, failures, test_of

from invariants import INVARIANTS
from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError, Rule, Scope, System, Term, Update, names_in
from proofs.data import SUITE
from proofs.derive.interpreter import Instance, Interpreter, State
from proofs.engine import Claim, Exploration
from proofs.errors import EngineError
from proofs.explore.search import explore
from proofs.litmus import cow_selftest
from proofs.litmus.execution import Run, answer_of
from proofs.litmus.language import Litmus
from proofs.litmus.parser import parse, read

HERE = Path(__file__).parent
EVERY_RULE = (
    "v5.8", "mapcount-unshare", "v5.9", "v5.14", "v5.18", "wrprotect-fail", "wrprotect-skip", "v6.0", "v6.15", "v7.2",
)
"""Kernels that have every rule between them, those with the fewest states first; v5.9 reaches states that no other does
(an idle page that stays in the swap cache)."""
STARTED = frozenset({"vm-soft-dirty", "exec", "stable-writes"})
"""The features with which a litmus test may start, though it be about the default table."""
QUICK = Scope.of(Proc=2, Page=1, Frame=2, Pin=1, Slot=1, Value=1)
DEFAULT = Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=1)
WITH_VALUES = Scope.of(Proc=2, Page=1, Frame=2, Pin=1, Slot=1, Value=2)
MEMORY = 3 << 30
CONTENTS = {"frame_value", "slot_value"}
PROVED = "proved for any size"
IN_SCOPE = "at a small scope"


@dataclass(frozen=True)
class Mutant:
    """The system without one conjunct or one update of one rule.

    `tested`: the same with the features of STARTED, of which litmus tests and specifications are asked.
    """

    rule: Rule
    changed: Rule
    what: str
    system: System
    tested: System


@dataclass(frozen=True)
class Fate:
    """What became of a mutation (`noticed`, `equivalent`, `survives`, `undecided`), on which kernels, and by what.

    `of`: digest of what was judged; empty where nobody asks.
    """

    rule: str
    mutation: str
    fate: str
    kernels: tuple[str, ...]
    by: str = ""
    of: str = ""


# Mutants


def conjuncts(term: Term) -> Iterator[Term]:
    """The conjuncts of a term, those of nested conjunctions too."""
    if z3.is_and(term):
        for part in term.children():
            yield from conjuncts(part)
    else:
        yield term


def written(term: Any) -> str:
    """The whole term on one line: the text tells mutations apart."""
    return " ".join(str(term).split())


def cell(update: Update) -> str:
    over = f" for each {', '.join(str(c) for c in update.over)}" if update.over else ""
    return f"{update.function.name}({', '.join(written(i) for i in update.index)}) := {written(update.value)}{over}"


class Change(NamedTuple):
    """What was dropped, the rule without it, and a closed formula: where it holds, the steps are the same.

    The formula is None if what was dropped speaks of a function parameter, over which it would have to quantify.
    `dropped`: a conjunct, or the terms of an update.
    """

    what: str
    rule: Rule
    same: Term | None
    dropped: tuple[Term, ...]


def changes(rule: Rule) -> Iterator[Change]:
    """Every change of a rule, one thing dropped in each."""
    guard = [c for g in rule.guard for c in conjuncts(g)]
    functions = {p.name for p in rule.params if p.over is not None}
    bound = [p.term for p in rule.params if p.over is None]

    def closed(kept: Iterable[Term], superfluous: Term, over: Sequence[Term] = ()) -> Term | None:
        if names_in(superfluous) & functions:
            return None
        enough = [c for c in kept if not names_in(c) & functions]
        constants = [*bound, *over]
        implied = z3.Implies(z3.And(*enough), superfluous)
        return z3.ForAll(constants, implied) if constants else implied

    for i, dropped in enumerate(guard):
        kept = (*guard[:i], *guard[i + 1 :])
        yield Change(f"guard {written(dropped)}", replace(rule, guard=kept), closed(kept, dropped), (dropped,))
    for i, update in enumerate(rule.updates):
        changed = replace(rule, updates=(*rule.updates[:i], *rule.updates[i + 1 :]))
        written_cell = update.function(*update.index)
        already = z3.Implies(update.when, written_cell == update.value)
        terms = (written_cell, update.value, update.when)
        yield Change(f"update {cell(update)}", changed, closed(guard, already, update.over), terms)


def with_rule(system: System, rule: Rule, changed: Rule) -> System:
    return replace(system, rules=tuple(changed if r is rule else r for r in system.rules))


def lacking(rule: Rule, system: System) -> str:
    """The text of a rule of a system with more features, as that system would have it."""
    false = {f.name for f in system.false}
    made = rule.rewritten(system.reduced)
    return "" if made is None else replace(
        made, updates=tuple(u for u in made.updates if u.function.name not in false)
    ).text()


def mutants(system: System, started: System) -> Iterator[Mutant]:
    """Every mutant once: equal ones, by the digest of the changed rule, are left out. `started`: with STARTED."""
    known = set()
    tested: dict[str, System] = {}
    for rule in started.rules:
        for change in changes(rule):
            tested.setdefault(lacking(change.rule, system), with_rule(started, rule, change.rule))
    for rule in system.rules:
        for what, changed, _, _ in changes(rule):
            digest = replace(system, rules=(changed,)).digest()
            if digest not in known:
                known.add(digest)
                yield Mutant(rule, changed, what, with_rule(system, rule, changed), tested[changed.text()])


# What can be noticed


@functools.cache
def litmus_tests() -> tuple[Asked, ...]:
    """Those that need no feature but STARTED, since the default table's rules are mutated; reads do without the zero
    page."""
    files = (read(path) for path in sorted(SUITE.glob("*.litmus")))
    selftest = (parse(text, name) for name, text in cow_selftest.tests())
    return tuple(
        Asked(t) for t in (*files, *selftest)
        if not t.missing and t.features <= {"zero", *STARTED} and not any("zero" in page.attributes for page in t.pages)
    )


@dataclass(frozen=True, eq=False)
class Asked:
    """A litmus test, told from others by its identity; `spec`: the specification that it was made of."""

    litmus: Litmus
    spec: Spec | None = None


class Watching(Interpreter):
    """An interpreter that remembers of which steps it was asked whether they are enabled."""

    def __init__(self, system: System, scope: Scope) -> None:
        super().__init__(system, scope)
        self.asked: dict[str, dict[tuple[tuple[tuple[str, Any], ...], State], bool]] = {}

    def enabled(self, instance: Instance, state: State) -> bool:
        found = super().enabled(instance, state)
        self.asked.setdefault(instance.rule.name, {})[instance.binding, state] = found
        return found


class Seen:
    """The answer of a test, and each step that was looked at on the way."""

    def __init__(self, litmus: Litmus, kernel: Kernel, system: System) -> None:
        self.interpreter = Watching(system, litmus.scope())
        self.answer = answer_on(litmus, kernel, self.interpreter)
        self.asked = self.interpreter.asked
        self.rules = {r.name: r for r in system.rules}

    def differs(self, system: System, name: str) -> bool:
        """Whether the test can tell that system's rule from its own: some step that it looked at is another."""
        if system.functions != self.interpreter.system.functions:
            return True
        changed = next((r for r in system.rules if r.name == name), None)
        if changed is None or name not in self.rules:
            return True
        for (binding, state), enabled in self.asked.get(name, {}).items():
            step = Instance(changed, binding)
            if Interpreter.enabled(self.interpreter, step, state) != enabled:
                return True
            if enabled and self.interpreter.step(step, state) != self.interpreter.step(
                Instance(self.rules[name], binding), state
            ):
                return True
        return False


@functools.cache
def specs() -> tuple[Asked, ...]:
    return tuple(Asked(test_of(spec), spec) for spec in SPECS)


def noticed_by(test: Asked, name: str, kernel: Kernel, mutated: System, seen: Seen) -> str:
    """What is another answer to the test, or not as its specification says, with a changed rule; or nothing.

    The test is asked again only where a step that it looked at is another.
    """
    spec = test.spec
    spoken = {rule for rule, _ in (*spec.then, *spec.never)} if spec else set()
    if name not in spoken and not seen.differs(mutated, name):
        return ""
    if spec:
        return next((f"specification {spec.says}: {wrong}" for wrong in failures(spec, kernel, mutated)), "")
    given = answer_on(test.litmus, kernel, Interpreter(mutated, test.litmus.scope()))
    return f"litmus {test.litmus.name}: {given}, not {seen.answer}" if given != seen.answer else ""


def answer_on(litmus: Litmus, kernel: Kernel, interpreter: Interpreter) -> str:
    """The test's answer, without a trace."""
    run = Run(litmus, kernel, interpreter)
    ends, reason = run.explore(run.start)
    return answer_of(litmus, [run.ends_in_condition(end) for end in ends], reason)


Verdict = tuple[int | None, bool]
"""Length of the shortest violation, and whether the claim was vacuous."""


class Original:
    """A kernel as it is: what is known of its states, the answers of the litmus tests and the verdicts of the
    invariants, with what they rest on."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.system = kernel.system()
        self.started = kernel.system(STARTED)
        self.mutants = tuple(mutants(self.system, self.started))
        self.claims = tuple(Claim(i.name, i.formula, i.premise) for i in INVARIANTS if i.applies_to(kernel))

    @functools.cached_property
    def known(self) -> tuple[Term, ...]:
        """Of every state of the kernel."""
        return tuple(mutant_proofs.invariant(self.system.rules, map(self.system.reduced, mutant_proofs.LEMMAS)))

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        return {c.name: restricted(self.system, c).digest() for c in self.claims}

    @functools.cache  # noqa: B019 - originals live as long as the process
    def explored(self, scope: Scope) -> dict[str, Verdict]:
        return dict(verdicts(self.system, self.claims, scope))

    @functools.cache  # noqa: B019
    def proved(self, number: int) -> bool:
        """That mutant changes no step."""
        mutant = self.mutants[number]
        return mutant_proofs.equivalent(mutant.rule, mutant.changed, self.system, self.known)

    @functools.cache  # noqa: B019
    def seen(self, test: Asked) -> Seen:
        return Seen(test.litmus, self.kernel, self.started)

    @functools.cache  # noqa: B019
    def count(self, functions: frozenset[str], scope: Scope) -> tuple[object, ...]:
        return count(self.system, functions, scope)


def by_name(kernel: str) -> Kernel:
    return next(k for k in (*KERNELS, *FURTHER) if k.name == kernel)


@functools.cache
def original(kernel: str) -> Original:
    return Original(by_name(kernel))


def restricted(system: System, claim: Claim) -> System:
    return system.restricted(system.cone([claim.formula, claim.premise]))


class Undecided(Exception):
    """An exploration ran out of memory."""


def finished(exploration: Exploration) -> Exploration:
    if not exploration.complete:
        raise Undecided(exploration.stopped)
    return exploration


def verdicts(system: System, claims: Iterable[Claim], scope: Scope) -> Iterator[tuple[str, Verdict]]:
    """Claims with one cone are explored together."""
    groups: dict[frozenset[str], list[Claim]] = {}
    for claim in claims:
        groups.setdefault(system.cone([claim.formula, claim.premise]), []).append(claim)
    for names, members in groups.items():
        explored = finished(explore(system.restricted(names), scope, members, memory=MEMORY))
        for found in explored.findings:
            yield found.claim.name, (None if found.path is None else len(found.path), found.vacuous)


def count(system: System, functions: frozenset[str], scope: Scope) -> tuple[object, ...]:
    """States by level and steps of the system that those functions need."""
    cone = system.cone(f(*(z3.Const(f"index{i}", s) for i, s in enumerate(f.domain)))
                       for f in system.functions if f.name in functions)
    explored = finished(explore(system.restricted(cone), scope, [], memory=MEMORY))
    return explored.levels, explored.transitions


# Judging


def noticed_by_litmus(mutant: Mutant, known: Original) -> str:
    """The first litmus test with another answer, or nothing."""
    return noticed_by_any(litmus_tests(), mutant, known)


def noticed_by_specification(mutant: Mutant, known: Original) -> str:
    """The first specification of a rule that no longer holds, or nothing."""
    return noticed_by_any((t for t in specs() if t.spec and known.kernel.name in t.spec.kernels), mutant, known)


def noticed_by_any(tests: Iterable[Asked], mutant: Mutant, known: Original) -> str:
    found = (noticed_by(t, mutant.rule.name, known.kernel, mutant.tested, known.seen(t)) for t in tests)
    return next((by for by in found if by), "")


def noticed_by_cells(mutant: Mutant, known: Original) -> str:
    """What the changed rule does wrong with a cell, or nothing."""
    return mutant_proofs.wrong_cell(mutant.rule, mutant.changed, known.system, known.known)


def noticed_by_invariant(mutant: Mutant, known: Original) -> str:
    """The first invariant with another verdict, or nothing."""
    touched = [c for c in known.claims if restricted(mutant.system, c).digest() != known.digests[c.name]]
    for scope in (QUICK, DEFAULT):
        for name, verdict in verdicts(mutant.system, touched, scope):
            if verdict != known.explored(scope)[name]:
                return f"invariant {name}: {shown(verdict)}, not {shown(known.explored(scope)[name])}"
    return ""


def shown(verdict: Verdict) -> str:
    length, vacuous = verdict
    holds = "vacuous" if vacuous else "holds"
    return holds if length is None else f"violated in {length}"


def is_equivalent(mutant: Mutant, known: Original) -> bool:
    """What depends on the rule has as many states, levels and steps as in the original."""
    functions = frozenset(u.function.name for u in mutant.rule.updates)
    return all(count(mutant.system, functions, s) == known.count(functions, s) for s in (DEFAULT, WITH_VALUES))


Place = tuple[str, int]
"""A kernel, and the number of the mutant among its own."""


def judge(places: Sequence[Place]) -> Fate:
    """The fate of one mutation, given where it is; the quick tests come first."""
    found = [(kernel, original(kernel), number) for kernel, number in places]
    first = found[0][1].mutants[found[0][2]]
    fate = functools.partial(Fate, first.rule.name, first.what)
    candidates = [(kernel, known, known.mutants[n]) for kernel, known, n in found if not known.proved(n)]
    if not candidates:
        return fate("equivalent", tuple(kernel for kernel, _ in places), PROVED)
    try:
        for look in (noticed_by_litmus, noticed_by_specification, noticed_by_cells, noticed_by_invariant):
            for kernel, known, mutant in candidates:
                try:
                    by = look(mutant, known)
                except (ModelError, EngineError) as error:
                    by = f"error: {error}"
                if by:
                    return fate("noticed", (kernel,), by)
        surviving = tuple(kernel for kernel, known, mutant in candidates if not is_equivalent(mutant, known))
    except Undecided as reason:
        return fate("undecided", tuple(kernel for kernel, *_ in candidates), str(reason))
    if surviving:
        return fate("survives", surviving)
    return fate("equivalent", tuple(kernel for kernel, _ in places), IN_SCOPE)


def say(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def judge_all(kernels: Sequence[str], jobs: int, every: int = 1) -> list[Fate]:
    """The fates of all mutations of those kernels, or of each `every`th; progress goes to stderr."""
    # The originals are made before the processes fork.
    places: dict[tuple[str, str], list[Place]] = {}
    for kernel in kernels:
        known = original(kernel)
        say(f"{kernel}: {len(known.mutants)} mutants, {len(known.known)} lemmas")
        for number, mutant in enumerate(known.mutants):
            places.setdefault((mutant.rule.name, mutant.what), []).append((kernel, number))
    fates = []
    with ProcessPoolExecutor(jobs) as pool:
        chosen = list(places.values())[::every]
        for fate in pool.map(judge, chosen):
            fates.append(fate)
            say(f"{len(fates)}/{len(chosen)} {fate.rule}: {fate.mutation}: {fate.fate} {fate.by}")
    return fates
