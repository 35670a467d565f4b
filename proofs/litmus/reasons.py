"""On which decisions the outcome of a litmus test rests: one execution of all, and for which records it is the same.

Every rule is built with the predicates among the decisions left open, once for each way of the others. Where a test
consults a rule, all these ways are tried: decisions that change nothing there are no reason. Of a predicate, what it
said of the states in which it was asked is a reason; so every other one that says the same there gives the same
outcomes. Tests with sub-steps are not followed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import z3

from model.all_rules import ALL_RULES
from model.decisions import DECISIONS, PREDICATES
from model.features import SPLIT
from model.kernels import FURTHER, KERNELS, Kernel, break_cow, mapcount_unshare
from model.logic import Rule, RuleTemplate, Scope, StateFunction, System, Term, folded, not_writing
from model.restrictions import BASES, SWITCHES
from model.state import CONSTANTS, FUNCTIONS, fresh
from model.user_rules import arguments_of
from proofs.derive.interpreter import Binding, Instance, Interpreter, State
from proofs.errors import LitmusError
from proofs.litmus.execution import Outcome, Run
from proofs.litmus.instances import Instances
from proofs.litmus.language import Litmus

Region = dict[str, frozenset[int]]
"""Decision to the numbers of the values that it may have; one that is not there may have any."""
NO = "without "
"""What stands before the name of a predicate where a kernel may have none, as a decision of its own."""


# Values

def _values() -> dict[str, tuple[Any, ...]]:
    kernels = (*KERNELS, *FURTHER, break_cow(copy_writable=True))
    kernels += tuple(
        replace(base, **switch.decisions(base)) for base in (*BASES.values(), mapcount_unshare())
        for switch in SWITCHES.values()
    )
    found: dict[str, dict[Any, None]] = {name: {} for name in DECISIONS}
    for kernel, name in itertools.product(kernels, found):
        found[name][getattr(kernel, name)] = None
    return {name: tuple(values) for name, values in found.items()}


VALUES: dict[str, tuple[Any, ...]] = _values()
"""Decision to its values: those that some kernel, proposal or restriction of the model has."""
_OPTIONAL = tuple(name for name in PREDICATES if None in VALUES[name])
Record = Mapping[str, Any]
"""Decision to its value."""


def record_of(kernel: Kernel) -> dict[str, Any]:
    """The kernel's decisions."""
    return {name: getattr(kernel, name) for name in VALUES}


def number_of(decision: str, value: Any) -> int:
    """Which of VALUES that is. Raises KeyError if it is none of them."""
    for number, other in enumerate(VALUES[decision]):
        if other is value or other == value:
            return number
    raise KeyError(f"{decision} = {value!r}")


def plain(record: Record) -> dict[str, Any]:
    """The record's decisions that are no predicates, and whether it has those predicates that a kernel may lack."""
    ways = {name: value for name, value in record.items() if name not in PREDICATES}
    return ways | {NO + name: record[name] is None for name in _OPTIONAL}


def _choices(decision: str) -> tuple[Any, ...]:
    return (False, True) if decision.startswith(NO) else VALUES[decision]


# Rules with open predicates

class _Open:
    """A predicate that is left open: in a rule's terms it is a function of its name, and of the flags it was given."""

    def __init__(self, decision: str) -> None:
        self.decision = decision

    def __call__(self, *given: Any) -> Term:
        terms = [x for x in given if isinstance(x, z3.ExprRef)]
        name = "!".join((self.decision, *(str(x) for x in given if not isinstance(x, z3.ExprRef))))
        return z3.Function(name, *(x.sort() for x in terms), z3.BoolSort())(*terms)


_OPEN = {name: _Open(name) for name in PREDICATES}


class _Ways:
    """A kernel with open predicates that remembers for which of the other decisions it was asked."""

    def __init__(self, ways: Record) -> None:
        self._ways = ways
        self.asked: dict[str, None] = {}

    def __getattr__(self, name: str) -> Any:
        if name in PREDICATES:
            if name not in _OPTIONAL:
                return _OPEN[name]
            self.asked[NO + name] = None
            return None if self._ways[NO + name] else _OPEN[name]
        self.asked[name] = None
        return self._ways[name]


@dataclass(frozen=True)
class _Rules:
    """One template in all its ways. `asked`: the decisions it rests on; `ways`: their values to the rule, or None."""

    asked: tuple[str, ...]
    ways: dict[tuple[Any, ...], Rule | None]


@functools.cache
def _every_way(template: RuleTemplate) -> tuple[tuple[str, ...], dict[tuple[Any, ...], Rule | None]]:
    """The decisions for which the template asks, and the rule for each choice of their values.

    Locks are left out: without sub-steps nobody holds one.
    """
    built: dict[tuple[tuple[str, Any], ...], Rule | None] = {}
    asked: dict[str, None] = {}
    start = plain(record_of(KERNELS[0]))
    while True:
        before = tuple(asked)
        for chosen in itertools.product(*map(_choices, before)):
            way = tuple(zip(before, chosen, strict=True))
            kernel = _Ways(start | dict(way))
            built[way] = next(iter(template.build(kernel, fresh)), None)
            asked.update(kernel.asked)
        if len(asked) == len(before):
            return before, {tuple(v for _, v in way): rule for way, rule in built.items() if len(way) == len(before)}


@functools.cache
def _rules(template: RuleTemplate, features: frozenset[str]) -> _Rules:
    """The rule of every kernel with those features. Ways with the same terms have the same object."""
    lacking, system = _lacking(features), _system(features)
    asked, built = _every_way(template)
    last = {
        way: rule and not_writing(rule, lacking).rewritten(lambda term: folded(system.reduced(term)))
        for way, rule in built.items()
    }
    terms = {way: _terms(rule) for way, rule in last.items()}
    same = {terms[way]: rule for way, rule in last.items()}
    needed = tuple(
        name for place, name in enumerate(asked)
        if any(terms[way] != terms[(*way[:place], other, *way[place + 1:])] for way in last for other in _choices(name))
    )
    places = [asked.index(name) for name in needed]
    return _Rules(needed, {tuple(way[i] for i in places): same[terms[way]] for way in last})


@functools.cache
def _system(features: frozenset[str]) -> System:
    """The state functions of those features, and no rule; what Bool functions it has not are false for ever."""
    lacking = _lacking(features)
    functions = tuple(f for f in FUNCTIONS if f.name not in lacking or not f.is_bool)
    return System("any kernel", functions, (), CONSTANTS, tuple(f for f in lacking.values() if f.is_bool))


def _terms(rule: Rule | None) -> Any:
    """What tells a rule from another one: z3 has equal terms once."""
    if rule is None:
        return None
    return (
        *(g.get_id() for g in rule.guard), "", *(p.needed.get_id() for p in rule.params if p.over is not None), "",
        *((u.function.name, *(i.get_id() for i in u.index), u.value.get_id(), u.when.get_id(),
           *(c.get_id() for c in u.over)) for u in rule.updates),
    )


@functools.cache
def _lacking(features: frozenset[str]) -> dict[str, StateFunction]:
    return {f.name: f for f in FUNCTIONS if not f.asked_with(features)}


# Executing

class _Unknown(Exception):
    """A predicate was asked that the record has not got."""


class _Oracle(Interpreter):
    """The reference interpreter for rules with open predicates: those of `record` are asked, and `said` notes it."""

    def __init__(self, features: frozenset[str], scope: Scope) -> None:
        super().__init__(_system(features), scope)
        self.features = features
        self.record: Record = {}
        self.said: dict[tuple[Any, ...], bool] = {}
        self.state: State = ()
        self.known: dict[tuple[Any, ...], dict[int, bool]] = {}
        for name in PREDICATES:
            for given in itertools.product((False, True), repeat=sum(sort is bool for _, sort in arguments_of(name))):
                self.constants["!".join((name, *map(str, given)))] = _Asked(self, name, given)  # type: ignore[assignment]

    def evaluate(self, term: Term, state: State, binding: Binding | None = None) -> Any:
        self.state = state
        return super().evaluate(term, state, binding)

    def enabled(self, instance: Instance, state: State) -> bool:
        self.state = state
        return super().enabled(instance, state)

    def step(self, instance: Instance, state: State) -> State:
        self.state = state
        return super().step(instance, state)

    def value(self, key: tuple[Any, ...], number: int) -> bool:
        """What the predicate of that number says where `key` says."""
        decision, flags, args, state = key
        known = self.known.setdefault(key, {})
        if number not in known:
            names = [f"arg!{place}" for place in range(len(args))]
            term = _term(decision, number, flags)
            known[number] = bool(self.evaluate(term, state, dict(zip(names, args, strict=True))))
        return known[number]


@functools.cache
def _term(decision: str, number: int, flags: tuple[bool, ...]) -> Term:
    sorts = [sort for _, sort in arguments_of(decision) if sort is not bool]
    return VALUES[decision][number](*(z3.Const(f"arg!{place}", sort) for place, sort in enumerate(sorts)), *flags)


class _Asked:
    """What an open predicate is while rules are evaluated: it says what the record's own says there."""

    def __init__(self, oracle: _Oracle, decision: str, flags: tuple[bool, ...]) -> None:
        self.oracle, self.decision, self.flags = oracle, decision, flags

    def __getitem__(self, args: tuple[int, ...]) -> bool:
        value = self.oracle.record[self.decision]
        if value is None:
            raise _Unknown
        key = (self.decision, self.flags, args, self.oracle.state)
        answer = self.oracle.value(key, number_of(self.decision, value))
        self.oracle.said[key] = answer
        return answer


@functools.lru_cache(512)
def _oracle(features: frozenset[str], scope: Scope) -> _Oracle:
    return _Oracle(features, scope)


@dataclass(frozen=True)
class Reason:
    """The outcomes that a test has under every record of a region; `stuck`: why the model cannot follow them all."""

    outcomes: frozenset[Outcome]
    stuck: str
    region: Region

    def covers(self, record: Record) -> bool:
        """The record is of the region."""
        return all(number_of(d, record[d]) in numbers for d, numbers in self.region.items())


class _Kernel:
    """A record as a kernel; decisions that the litmus engine itself asks are reasons."""

    own_rules = own_operations = ()
    base = ""

    def __init__(self, record: Record, fixed: set[str]) -> None:
        self._record, self._fixed = record, fixed
        self.name = "the record"

    def __getattr__(self, name: str) -> Any:
        self._fixed.add(name)
        return self._record[name]


class _Watched(Instances):
    """The rules of a record, that note what a test's executions rest on."""

    def __init__(self, oracle: _Oracle, record: Record) -> None:
        self.fixed: set[str] = set()
        self.said: dict[tuple[Any, ...], bool] = {}
        self.plain = plain(record)
        self.templates = {t.name: t for t in ALL_RULES if t.features <= oracle.features}
        oracle.record = record
        self.oracle = oracle
        self._answers: dict[Any, list[Instance]] = {}
        super().__init__(oracle)

    def known_rules(self) -> dict[str, Rule]:
        """The rules that some kernel has; here only their names matter."""
        ways = ((name, next(filter(None, _every_way(t)[1].values()), None)) for name, t in self.templates.items())
        return {name: rule for name, rule in ways if rule is not None}

    def enabled(self, names: Iterable[str], given: Mapping[str, int], state: State) -> list[Instance]:
        found = []
        for name in names:
            if name in self.templates:
                found += self.consulted(name, given, state)
        return found

    def consulted(self, name: str, given: Mapping[str, int], state: State) -> list[Instance]:
        """The enabled instances of one rule; notes what of the record they rest on."""
        key = (name, tuple(sorted(given.items())), state)
        if key not in self._answers:
            self._answers[key] = self.weighed(_rules(self.templates[name], self.oracle.features), given, state)
        return self._answers[key]

    def weighed(self, rules: _Rules, given: Mapping[str, int], state: State) -> list[Instance]:
        own = tuple(self.plain[d] for d in rules.asked)
        seen: dict[int, tuple[Any, dict[tuple[Any, ...], bool], list[Instance]]] = {}

        def result(way: tuple[Any, ...]) -> Any:
            rule = rules.ways[way]
            if id(rule) not in seen:
                self.oracle.said = {}
                instances: list[Instance] = []
                told: Any = ()
                try:
                    if rule is not None:
                        instances = self.instances_of(rule, given, state)
                        told = tuple((i.binding, self.oracle.step(i, state)) for i in instances)
                except _Unknown:
                    told = object()
                seen[id(rule)] = told, self.oracle.said, instances
            return seen[id(rule)][0]

        mine = result(own)
        kept = dict(zip(rules.asked, own, strict=True))
        for decision in rules.asked:
            less = {d: value for d, value in kept.items() if d != decision}
            if all(result(way) == mine for way in _matching(rules.asked, less)):
                kept = less
        for way in _matching(rules.asked, kept):
            self.said.update(seen[id(rules.ways[way])][1])
        self.fixed.update(kept)
        return seen[id(rules.ways[own])][2]

    def instances_of(self, rule: Rule, given: Mapping[str, int], state: State) -> list[Instance]:
        found = []
        for chosen in itertools.product(*(self.choices(rule, p, given, state) for p in rule.params)):
            instance = Instance(rule, tuple((p.name, c) for p, c in zip(rule.params, chosen, strict=True)))
            if self.oracle.enabled(instance, state):
                found.append(instance)
        return found

    def region(self, record: Record) -> Region:
        """The records under which all was the same."""
        found: Region = {}
        for name in self.fixed:
            decision = name.removeprefix(NO)
            if name.startswith(NO):
                allowed = {n for n, v in enumerate(VALUES[decision]) if (v is None) == (record[decision] is None)}
            else:
                allowed = {number_of(decision, record[decision])}
            found[decision] = frozenset(allowed) & found.get(decision, frozenset(allowed))
        by_decision: dict[str, list[tuple[tuple[Any, ...], bool]]] = {}
        for key, answer in self.said.items():
            by_decision.setdefault(key[0], []).append((key, answer))
        for decision, said in by_decision.items():
            allowed = {
                n for n, value in enumerate(VALUES[decision]) if value is None
                or all(self.oracle.value(key, n) == answer for key, answer in said)
            }
            found[decision] = frozenset(allowed) & found.get(decision, frozenset(allowed))
        return {d: numbers for d, numbers in found.items() if len(numbers) < len(VALUES[d])}


class _Execution(Run):
    """A test's executions with those rules."""

    def __init__(self, litmus: Litmus, watched: _Watched, record: Record) -> None:
        self.watched = watched
        super().__init__(litmus, _Kernel(record, watched.fixed), watched.oracle)  # type: ignore[arg-type]

    def known_instances(self) -> Instances:
        return self.watched


def _matching(asked: tuple[str, ...], kept: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    return itertools.product(*((kept[d],) if d in kept else _choices(d) for d in asked))


CHANGING = frozenset({"hugetlb", "movable"})
"""Features that change the rules of others (hugetlb.spared, longterm.placed), which are followed one by one here."""


def followed(litmus: Litmus) -> bool:
    """The test has no sub-steps, and no feature that changes others' rules, so that `reason` can follow it."""
    return not litmus.missing and not litmus.features & (SPLIT.keys() | CHANGING)


def reason(litmus: Litmus, record: Record) -> Reason:
    """The outcomes of the test under the record, and the records that have the same for the same reasons.

    The test is one that is `followed`.
    """
    watched = _Watched(_oracle(frozenset(litmus.features), litmus.scope()), record)
    try:
        run = _Execution(litmus, watched, record)
        ends, stuck = run.explore(run.start)
        outcomes = frozenset(run.outcome(end) for end in ends)
    except LitmusError as error:
        outcomes, stuck = frozenset(), str(error)
    return Reason(outcomes, stuck, watched.region(record))
