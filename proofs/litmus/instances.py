"""Which steps of a rule there are in a state, for what an operation is done on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import z3

from model.callers import WORDS
from model.kernels import Kernel
from model.logic import Param, Rule, Sort, StateFunction, System, Term, name_of, names_in
from model.operations import stages
from model.state import UNUSED, Slot, cached, fresh, pte_frame, pte_present, pte_slot, pte_swap, slot_frame
from proofs.derive.interpreter import Instance, Interpreter, State
from proofs.litmus.language import Litmus

_UNUSED: dict[str, Term] = {s.name(): fresh(z3.Const("unused", s)) for s in UNUSED}

Tried = Callable[[Rule, Sequence[int]], None]
"""Hears of each step that an execution tries: its rule, and which conjuncts of the guard forbid it, two at most; none
if it may be taken."""


class Stuck(Exception):
    """The model cannot say how an execution goes on; the message says why."""


def untaken_rules(kernel: Kernel, system: System) -> list[str]:
    """Names of the rules that a user's kernel adds and the system has, of which no operation takes any."""
    names = {rule.name.partition(".")[0] for rule in system.rules}
    taken = {name for operation in kernel.own_operations for name in operation.rules}
    return [template.name for template in kernel.own_rules if template.name in names - taken]


def left_out(kernel: Kernel, system: System) -> str:
    """Why a test may have more executions: the kernel has rules of its own, which no operation takes."""
    own = untaken_rules(kernel, system)
    which = "these rules" if len(own) > 1 else "this rule"
    return f"no operation takes {which} of {kernel.name}: {', '.join(own)} (docs/api.md, own_operations)" if own else ""


def lacking(litmus: Litmus, kernel: Kernel) -> frozenset[int]:
    """Numbers (0-based) of the statements whose operation is another kernel's own: they do nothing on this one."""
    own = {(o.word, o.flags) for o in kernel.own_operations}
    operations = [s.operation for s in litmus.statements]
    return frozenset(n for n, o in enumerate(operations) if o.word not in WORDS and (o.word, o.flags) not in own)


class Instances:
    """The rules of one system, by name, and their instances in the states of one scope."""

    def __init__(self, interpreter: Interpreter, tried: Tried | None = None) -> None:
        self.interpreter = interpreter
        self.tried = tried
        self.rules = self.known_rules()
        self.stages = stages(self.rules)

    def known_rules(self) -> dict[str, Rule]:
        """The rules that operations may take, by name."""
        return {rule.name: rule for rule in self.interpreter.system.rules}

    def enabled(self, names: Iterable[str], given: Mapping[str, int], state: State) -> list[Instance]:
        """The enabled instances of those rules: given parameters, the first unused elements, any other element.

        Of a rule in sub-steps, those of the first one. Raises Stuck for a rule that lacks nothing but unused elements:
        the kernel does not run out of them, only the scope has.
        """
        found = []
        for name in names:
            rule = self.rules.get(name) or self.rules.get(self.stages.get(name, [""])[0])
            if rule is None:
                continue
            choices = [self.choices(rule, p, given, state) for p in rule.params]
            self.check_room(rule, choices, given, state)
            for chosen in itertools.product(*choices):
                instance = Instance(rule, tuple((p.name, c) for p, c in zip(rule.params, chosen, strict=True)))
                if self.is_enabled(instance, state):
                    found.append(instance)
        return found

    def is_enabled(self, instance: Instance, state: State) -> bool:
        """Whether the step may be taken; who listens to `tried` hears of it."""
        if self.tried is None:
            return self.interpreter.enabled(instance, state)
        forbidding = self.interpreter.forbidding(instance, state, most=2)
        self.tried(instance.rule, forbidding)
        return not forbidding

    def check_room(self, rule: Rule, choices: Sequence[Sequence[Any]], given: Mapping[str, int], state: State) -> None:
        """Raises Stuck if too few elements are unused, and all holds that the rule asks of others."""
        lacking = [
            p for p, some in zip(rule.params, choices, strict=True)
            if p.name not in given and p.fresh and p.over is None and len(some) < _place(rule, p)
        ]
        if not lacking:
            return
        names = {p.name for p in lacking}
        theirs = {n for n, conjunct in enumerate(rule.guard) if names & names_in(conjunct)}
        for chosen in itertools.product(*(some or (0,) for some in choices)):
            instance = Instance(rule, tuple((p.name, c) for p, c in zip(rule.params, chosen, strict=True)))
            if theirs.issuperset(self.interpreter.forbidding(instance, state, len(rule.guard))):
                sort = lacking[0].sort.name().lower()
                raise Stuck(f"{rule.name} takes an unused {sort}, and the test's scope has no more of them")

    def choices(self, rule: Rule, param: Param, given: Mapping[str, int], state: State) -> Sequence[Any]:
        if param.name in given:
            return [given[param.name]]
        if param.over is not None:
            return self.function_choice(param, given, state)
        if param.fresh:
            # Of several of a sort, two may be one element.
            return list(itertools.islice(self.unused(param.sort, state), _place(rule, param)))
        return range(self.interpreter.scope.size(param.sort))

    def unused(self, sort: Sort, state: State) -> Iterator[int]:
        for i in range(self.interpreter.scope.size(sort)):
            if self.interpreter.evaluate(_UNUSED[name_of(sort)], state, {"unused": i}):
                yield i

    def function_choice(self, param: Param, given: Mapping[str, int], state: State) -> list[tuple[int, ...]]:
        """A different unused element wherever the function's value matters."""
        unused = self.unused(param.sort, state)
        of = name_of(param.of)
        needed = (
            self.interpreter.evaluate(param.needed, state, {**given, of: i})
            for i in range(self.interpreter.scope.size(param.over))
        )
        return [tuple(next(unused, 0) if matters else 0 for matters in needed)]

    def there(self, p: int, v: int, state: State) -> dict[str, int]:
        """The rule parameters of what process p has at page v: the page, the frame if it maps one, and the swap slot
        that its entry names or its frame has."""
        place = self.interpreter.layout.place

        def cell(function: StateFunction, *index: int) -> int:
            return state[place(function, *index)]

        found = {"p": p, "v": v}
        if cell(pte_swap, p, v):
            return found | {"s": cell(pte_slot, p, v)}
        if not cell(pte_present, p, v):
            return found
        found["f"] = cell(pte_frame, p, v)
        for s in range(self.interpreter.scope.size(Slot)):
            if cell(cached, s) and cell(slot_frame, s) == found["f"]:
                found["s"] = s
        return found


def _place(rule: Rule, param: Param) -> int:
    """Which of the rule's fresh parameters of its sort that one is, counted from 1."""
    alike = [p.name for p in rule.params if p.fresh and p.over is None and name_of(p.sort) == name_of(param.sort)]
    return alike.index(param.name) + 1
