"""Rules: as the model writes them, with sub-steps, and as a kernel has them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import z3

from model.logic.functions import StateFunction, Update, functions_in, put
from model.logic.nodes import is_false, is_true, names_in
from model.logic.terms import ModelError, Result, Sort, Term, by_term, folded, kind_text, short, text_of


def by_rule(function: Callable[[Rule, frozenset[StateFunction]], Result]) -> Callable[
    [Rule, Mapping[str, StateFunction]], Result
]:
    """Decorator: a function of a rule and of those of some state functions, by name, that it speaks of, computed once
    for each.

    Kernels share most of their rules, as objects.
    """
    known: dict[tuple[int, frozenset[str]], tuple[Rule, Result]] = {}

    @functools.wraps(function)
    def look(rule: Rule, functions: Mapping[str, StateFunction]) -> Result:
        spoken = frozenset(filter(functions.__contains__, rule.functions_spoken))
        key = id(rule), spoken
        if key not in known:
            # Python reuses the id of a rule that nobody holds, as z3 does that of a term.
            known[key] = (rule, function(rule, frozenset(functions[name] for name in spoken)))
        return known[key][1]

    return look


_sort_name = functools.cache(str)
"""Name of a sort, which z3's printer takes long to say; "None" of None."""
_shown = by_term(str)


@dataclass(frozen=True)
class Param:
    """A rule's parameter. `fresh`: any unused element will do, and they are interchangeable.

    With `over`, the parameter is a function from that sort (fork's fresh frame for each page); `needed` then says, for
    the bound constant `of`, where its value matters.
    """

    name: str
    sort: Sort
    fresh: bool = False
    over: Sort | None = None
    of: Term = None
    needed: Term = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.sort, z3.SortRef):
            raise ModelError(f"Param takes a name and a sort, as Param('p', Proc), not "
                             f"{kind_text(self.name)} and {kind_text(self.sort)}")

    @property
    def term(self) -> Any:
        if self.over is None:
            return z3.Const(self.name, self.sort)
        return z3.Function(self.name, self.over, self.sort)


@dataclass(frozen=True)
class Step:
    """What a rule's function returns: guard conjuncts and updates (lists may be nested by one level)."""

    guard: Sequence[Term]
    updates: Sequence[Any] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.guard, list | tuple) or not isinstance(self.updates, list | tuple):
            raise ModelError("Step takes a list of conditions, [live(p, v)], and updates, put(pte_write(p, v), False)")

    def flat_updates(self) -> tuple[Update, ...]:
        return tuple(itertools.chain.from_iterable(u if isinstance(u, list) else [u] for u in self.updates))

    def names(self) -> frozenset[str]:
        """Names of the functions and constants that it speaks of."""
        terms = [*self.guard]
        for u in self.flat_updates():
            terms += [*u.index, u.value, u.when]
        return frozenset().union(*(names_in(t) for t in terms))


@dataclass(frozen=True)
class Stage:
    """One sub-step of a rule. `step`: of the view, the terms that the rule goes on with (see Staged).

    `recheck`: a condition on the view without which the rule is given up here, as the sub-step called `back`; it is
    true where no other rule has come between. `undo`: updates of the view that giving up makes. `chooses`: conditions
    on what it chooses afresh, which giving up does not need. `apart`: for a feature that is on, updates that only the
    sub-step makes.
    """

    name: str
    step: Callable[[Any], Step]
    recheck: Callable[[Any], Term] | None = None
    back: str = "retry"
    undo: Callable[[Any], Sequence[Any]] = lambda view: ()
    chooses: Sequence[Term] = ()
    apart: Mapping[str, Callable[[Any], Sequence[Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Staged:
    """A rule in sub-steps, which is one step unless a feature splits it. What a rule's function may also return.

    `now`: the terms that the rule goes on with, as they are when it begins. Where it is split, `save` (updates) keeps
    them in state functions, and `saved` are those. `counter`: for each stage but the last a Bool cell that says it has
    been done and the next one has not. `tail_of`: the rule whose later stages serve this one as well.
    """

    stages: tuple[Stage, ...]
    counter: tuple[Term, ...]
    now: Any = None
    saved: Any = None
    save: Sequence[Any] = ()
    tail_of: str = ""

    def whole(self) -> Step:
        """All in one step."""
        steps = [s.step(self.now) for s in self.stages]
        chosen = [g for s in self.stages for g in s.chooses]
        return Step([*(g for s in steps for g in s.guard), *chosen], [u for s in steps for u in s.updates])

    def parts(self, features: Collection[str]) -> Iterator[tuple[str, Step]]:
        """(stage, what it does): the sub-steps, and where one is given up."""
        for i, stage in enumerate(self.stages[:1] if self.tail_of else self.stages):
            view = self.saved if i else self.now
            step = stage.step(view)
            begun = [self.counter[i - 1]] if i else [z3.Not(cell) for cell in self.counter]
            passed = [u for cell in self.counter[i - 1 : i] for u in put(cell, False)] if i else list(self.save)
            reached = [u for cell in self.counter[i : i + 1] for u in put(cell, True)]
            holds = [] if stage.recheck is None else [stage.recheck(view)]
            apart = [u for feature, make in stage.apart.items() if feature in features for u in make(view)]
            whole = [*begun, *step.guard, *holds, *stage.chooses]
            yield stage.name, Step(whole, [*step.updates, *apart, *passed, *reached])
            if holds:
                yield stage.back, Step([*begun, *step.guard, z3.Not(holds[0])], [*stage.undo(view), *passed])


KINDS = ("step", "refusal", "block")


@dataclass(frozen=True)
class Rule:
    """One atomic kernel step of one kernel.

    `kind` is `step`, `refusal` (the call returns an error) or `block` (the thread waits); the last two change nothing.
    `environment` names what the surroundings must do for it (`trylock-fails`), None if nothing.
    """

    name: str
    params: tuple[Param, ...]
    guard: tuple[Term, ...]
    updates: tuple[Update, ...]
    about: str
    kernel_function: str
    source: str
    kind: str = "step"
    environment: str | None = None

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        """Of its terms, which z3 is asked for one by one."""
        return hash((self.name, self.params, self.guard, self.updates, self.kind, self.environment))

    def text(self) -> str:
        """The rule's terms as text: equal rules have equal texts, whatever the process that built them."""
        return self._text

    @functools.cached_property
    def _text(self) -> str:
        lines = [f"rule {self.name} {self.kind}"]
        lines += [
            f"  param {p.name} {_sort_name(p.sort)} {p.fresh} {_sort_name(p.over)} "
            f"{p.needed if p.needed is None else _shown(p.needed)}" for p in self.params
        ]
        lines += [f"  guard {text_of(g)}" for g in self.guard]
        for u in self.updates:
            index = " ".join(text_of(i) for i in u.index)
            lines.append(f"  {u.function.name}({index}) := {text_of(u.value)} over {_sort_name(u.over)} when "
                         f"{text_of(u.when)}")
        return "\n".join(lines)

    def terms(self) -> Iterator[Term]:
        """Every term that the rule's step depends on, and the cells it writes."""
        yield from self.guard
        for u in self.updates:
            yield from (u.function(*u.index), u.value, u.when)
        yield from (p.needed for p in self.params if p.over is not None)

    def functions_read(self) -> frozenset[str]:
        """Names of the state functions in the guard."""
        return frozenset().union(*(functions_in(term) for term in self.guard))

    @functools.cached_property
    def functions_spoken(self) -> frozenset[str]:
        """Names of the state functions in `terms`."""
        terms = [*self.guard, *(t for u in self.updates for t in (*u.index, u.value, u.when))]
        terms += [p.needed for p in self.params if p.over is not None]
        return frozenset(u.function.name for u in self.updates).union(*map(functions_in, terms))

    def rewritten(self, rewrite: Callable[[Term], Term]) -> Rule | None:
        """The rule with every term rewritten, without what became trivial; None if it can then never be taken."""
        guard = [rewrite(g) for g in self.guard]
        if any(is_false(g) for g in guard):
            return None
        params = (p if p.over is None else replace(p, needed=rewrite(p.needed)) for p in self.params)
        return replace(
            self, params=tuple(params), guard=tuple(g for g in guard if not is_true(g)),
            updates=tuple(u for u in (u.rewritten(rewrite) for u in self.updates) if not is_false(u.when)),
        )


@dataclass(frozen=True)
class RuleTemplate:
    """A rule as written in the model: a function of the kernel and the parameters, giving None where it has none."""

    name: str
    params: tuple[Param, ...]
    body: Callable[..., Step | Staged | None]
    kernel_function: str
    source: str
    kind: str
    environment: str | None
    features: frozenset[str] = frozenset()
    split: frozenset[str] = frozenset()
    lock: str = ""

    def __post_init__(self) -> None:
        for what in ("name", "kernel_function", "source"):
            if not isinstance(text := getattr(self, what), str) or not text.isprintable():
                raise ModelError(f"rule {short(self.name)}: {what} is a text, not {kind_text(text)}")
        if not callable(self.body):
            raise ModelError(f"rule {self.name}: it is a function of the kernel and the parameters")
        if self.kind not in KINDS:
            raise ModelError(f"rule {self.name}: kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if not all(isinstance(p, Param) for p in self.params):
            raise ModelError(f"rule {self.name}: parameters are made by Param, as Param('p', Proc)")

    def build(
        self, kernel: object, fresh: Callable[[Term], Term], features: Collection[str] = (),
        locked: Callable[..., list[Term]] = lambda kernel, lock, named: [],
    ) -> list[Rule]:
        """The rule of that kernel, simplified; its stages if one of the `features` splits it, none if it has none.

        `fresh(x)`: the Bool term "nothing refers to x". `locked(kernel, lock, parameters by name)`: what the lock asks.
        """
        said = self.body(kernel, *(p.term for p in self.params))
        if said is None:
            return []
        parts = [("", said.whole() if isinstance(said, Staged) else said)]
        if isinstance(said, Staged) and self.split & set(features):
            parts = list(said.parts(features))
        spoken = [step.names() for _, step in parts]
        rules = []
        for number, (stage, step) in enumerate(parts):
            guard = list(step.guard)
            # A parameter that is fresh is chosen by the first sub-step that speaks of it, or else by the first one.
            known = frozenset().union(*spoken[:number])
            later = frozenset().union(*spoken[number + 1:]) - spoken[number]
            chosen = {p.name for p in self.params if p.fresh} - known - later
            guard += [fresh(p.term) for p in self.params if p.name in chosen and p.over is None]
            if number == 0:
                guard += locked(kernel, self.lock, {p.name: p.term for p in self.params})
            params = tuple(replace(p, needed=self.needed(kernel, p)) if p.over is not None else p for p in self.params)
            part = Rule(
                f"{self.name}.{stage}" if stage else self.name, params, tuple(guard), step.flat_updates(),
                (self.body.__doc__ or "").strip(), self.kernel_function, self.source, self.kind, self.environment,
            )
            if number or later & {p.name for p in self.params if p.fresh}:
                # A later stage has most parameters in the state.
                named = frozenset().union(*(names_in(t) for t in (*part.guard, *part.terms())))
                part = replace(part, params=tuple(
                    replace(p, fresh=p.name in chosen) for p in params if p.name in named
                ))
            if (simple := part.rewritten(folded)) is not None:
                rules.append(simple)
        return rules

    def needed(self, kernel: object, param: Param) -> Term:
        named = {p.name: p.term for p in self.params}
        return param.needed(kernel, named, param.of)


def rule(
    params: Sequence[Param],
    kernel_function: str,
    source: str,
    kind: str = "step",
    environment: str | None = None,
    name: str | None = None,
    features: Iterable[str] = (),
    split: Iterable[str] = (),
    lock: str = "",
) -> Callable[[Callable[..., Step | Staged | None]], RuleTemplate]:
    """Decorator: the rule written below, with its parameters and where it comes from.

    `features`: parts of the domain without which a system does not have it. `split`: those that split it into its
    stages. `lock`: the lock under which it begins, in the model's words.
    """

    def wrap(body: Callable[..., Step | Staged | None]) -> RuleTemplate:
        return RuleTemplate(
            name or body.__name__.replace("_", "-"), tuple(params), body, kernel_function, source, kind, environment,
            frozenset(features), frozenset(split), lock,
        )

    return wrap


@by_rule
def not_writing(rule: Rule, functions: frozenset[StateFunction]) -> Rule:
    """The rule without its updates of those state functions."""
    names = {f.name for f in functions}
    updates = tuple(u for u in rule.updates if u.function.name not in names)
    return rule if len(updates) == len(rule.updates) else replace(rule, updates=updates)
