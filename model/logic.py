"""The language in which kernels are written: many-sorted first-order logic over state functions.

Nothing here knows of memory management. A *state function* is an uninterpreted z3 function that describes part of a
state; a *rule* is one atomic step, a guard and updates of state functions; a *system* is an initial state and rules.
All of them are z3 terms, so every engine derives its own form from the same text.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import z3

# z3's classes carry no usable types; the alias says what is meant.
Term = Any
Sort = Any
Result = TypeVar("Result")

_open_binders = 0


def by_term(function: Callable[[Term], Result]) -> Callable[[Term], Result]:
    """Decorator: a function of one z3 term is computed once for each term."""
    known: dict[int, tuple[Term, Result]] = {}

    @functools.wraps(function)
    def look(term: Term) -> Result:
        key = term.get_id()
        if key not in known:
            # z3 reuses the id of a term that nobody holds, so the term is kept beside what is known of it.
            known[key] = (term, function(term))
        return known[key][1]

    return look


def by_rule(function: Callable[[Rule, frozenset[StateFunction]], Result]) -> Callable[
    [Rule, Collection[StateFunction]], Result
]:
    """Decorator: a function of a rule and of those of some state functions that it speaks of, computed once for each.

    Kernels share most of their rules, as objects.
    """
    known: dict[tuple[int, frozenset[StateFunction]], tuple[Rule, Result]] = {}

    @functools.wraps(function)
    def look(rule: Rule, functions: Collection[StateFunction]) -> Result:
        spoken = frozenset(f for f in functions if f.name in rule.functions_spoken)
        key = id(rule), spoken
        if key not in known:
            # Python reuses the id of a rule that nobody holds, as z3 does that of a term.
            known[key] = (rule, function(rule, spoken))
        return known[key][1]

    return look


class ModelError(Exception):
    """A model that makes no sense: the message is one line for the user."""


OPERATORS = {
    z3.Z3_OP_TRUE: "true", z3.Z3_OP_FALSE: "false", z3.Z3_OP_NOT: "not", z3.Z3_OP_AND: "and", z3.Z3_OP_OR: "or",
    z3.Z3_OP_IMPLIES: "implies", z3.Z3_OP_EQ: "eq", z3.Z3_OP_DISTINCT: "distinct", z3.Z3_OP_ITE: "ite",
    z3.Z3_OP_XOR: "xor", z3.Z3_OP_IFF: "eq",
}
"""z3's kind of each operator that a term may have, to its name."""


def _bind(sorts: Sequence[Sort], body: Callable[..., Any]) -> tuple[list[Term], Any]:
    """Call `body` with one bound constant per sort, named by nesting depth so that equal formulas are equal terms."""
    global _open_binders
    for sort in sorts:
        if not isinstance(sort, z3.SortRef):
            raise ModelError(f"quantifiers take sorts and then a function of as many terms, as in forall(Proc, Page, "
                             f"lambda p, v: ...), not {sort!r}")
    if not callable(body):
        raise ModelError("the last argument of a quantifier is a function of the bound terms")
    first = _open_binders
    _open_binders += len(sorts)
    try:
        bound = [z3.Const(f"{sort.name().lower()}'{first + i}", sort) for i, sort in enumerate(sorts)]
        return bound, body(*bound)
    finally:
        _open_binders = first


def binders_open() -> int:
    """How many bound terms there are just now: what is made inside is named by it."""
    return _open_binders


def forall(*sorts_and_body: Any) -> Term:
    """`forall(Proc, Page, lambda p, v: ...)`: the closed universal formula over those sorts."""
    bound, body = _bind(sorts_and_body[:-1], sorts_and_body[-1])
    return z3.ForAll(bound, body)


def exists(*sorts_and_body: Any) -> Term:
    """`exists(Pin, lambda k: ...)`: the closed existential formula over those sorts.

    Conjuncts that do not speak of the bound elements are left outside: a quantifier among them then depends on nothing
    bound here, which is what keeps proof obligations decidable.
    """
    bound, body = _bind(sorts_and_body[:-1], sorts_and_body[-1])
    conjuncts = body.children() if z3.is_and(body) else [body]
    names = {b.decl().name() for b in bound}
    inside = [c for c in conjuncts if names_in(c) & names]
    outside = [c for c in conjuncts if not names_in(c) & names]
    if not inside or not outside:
        return z3.Exists(bound, body)
    return z3.And(*outside, z3.Exists(bound, z3.And(*inside) if len(inside) > 1 else inside[0]))


@dataclass(frozen=True, eq=False)
class StateFunction:
    """One component of a state: a total function from `domain` to `range`.

    `meaningful(*args)` is a Bool term that says when a cell's value is looked at; elsewhere engines may keep any value
    and the finite ones keep a canonical one (False, or the sort's first element). `initial(*args)` is its value in the
    initial state; without one the cell is False or the sort's first element. `feature`: the part of the domain without
    which nobody asks for it, so that no rule need write it; `a|b` if there are two, of which either will do.
    """

    name: str
    domain: tuple[Sort, ...]
    range: Sort
    about: str
    meaningful: Callable[..., Term] | None = None
    initial: Callable[..., Term] | None = None
    feature: str = ""
    decl: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decl", z3.Function(self.name, *self.domain, self.range))

    def __call__(self, *args: Term) -> Term:
        try:
            return self.decl(*args)
        except z3.Z3Exception as error:
            wanted = ", ".join(s.name() for s in self.domain)
            given = ", ".join(a.sort().name() if isinstance(a, z3.ExprRef) else repr(a) for a in args)
            raise ModelError(f"{self.name} takes ({wanted}), not ({given})") from error

    @functools.cached_property
    def is_bool(self) -> bool:
        return bool(self.range == z3.BoolSort())

    def __repr__(self) -> str:
        return self.name


REGISTRY: dict[str, StateFunction] = {}
"""What engines take for a state function, by name: those of a model, not whatever a user's file makes."""


def register(functions: Iterable[StateFunction]) -> None:
    """Let engines know the state functions of a model; the first of a name stays."""
    for function in functions:
        REGISTRY.setdefault(function.name, function)


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
class Update:
    """`function(*index) := value`, for every value of the constants `over` for which `when` holds.

    All terms are evaluated in the state before the step. Two assignments of `over` that hit one cell must agree; the
    reference interpreter checks it.
    """

    function: StateFunction
    index: tuple[Term, ...]
    value: Term
    over: tuple[Term, ...] = ()
    when: Term = field(default_factory=lambda: z3.BoolVal(True))

    def __post_init__(self) -> None:
        if not isinstance(self.function, StateFunction):
            given = kind_text(self.function)
            raise ModelError(f"Update takes a state function, as in Update(alive, (p,), ...), not {given}")
        for what, terms in (("index", self.index), ("over", self.over)):
            if not isinstance(terms, tuple) or not all(isinstance(term, z3.ExprRef) for term in terms):
                raise ModelError(f"the update of {self.function}: {what} is a tuple of terms, not {kind_text(terms)}")
        if len(self.index) != len(self.function.domain):
            wanted = ", ".join(s.name() for s in self.function.domain)
            raise ModelError(f"the update of {self.function}: it takes ({wanted}), not {len(self.index)} terms")


@by_term
def folded(term: Term) -> Term:
    """The term without the constants true and false that a kernel's decisions left in it.

    z3's own simplifier orders arguments by their age, so that equal systems would get unequal texts.
    """
    if z3.is_quantifier(term):
        return _folded_quantifier(term)
    if not z3.is_app(term) or not term.children():
        return term
    args = [folded(c) for c in term.children()]
    if z3.is_not(term):
        return _negated(args[0])
    if z3.is_and(term) or z3.is_or(term):
        unit, stop = (z3.is_true, z3.is_false) if z3.is_and(term) else (z3.is_false, z3.is_true)
        rest = [a for a in args if not unit(a)]
        if any(stop(a) for a in rest):
            return z3.BoolVal(z3.is_or(term))
        if len(rest) < 2:
            return rest[0] if rest else z3.BoolVal(z3.is_and(term))
        return z3.And(*rest) if z3.is_and(term) else z3.Or(*rest)
    if z3.is_implies(term):
        if z3.is_false(args[0]) or z3.is_true(args[1]):
            return z3.BoolVal(True)
        if z3.is_true(args[0]):
            return args[1]
        return _negated(args[0]) if z3.is_false(args[1]) else z3.Implies(*args)
    if term.decl().kind() == z3.Z3_OP_ITE:
        condition, then, otherwise = args
        if z3.is_true(condition) or z3.is_false(condition):
            return then if z3.is_true(condition) else otherwise
        return then if then.eq(otherwise) else z3.If(condition, then, otherwise)
    return term if all(a.eq(c) for a, c in zip(args, term.children(), strict=True)) else term.decl()(*args)


def _folded_quantifier(term: Term) -> Term:
    # Opened first, so that only closed terms are looked at. An outer variable of the same name must stay another one.
    taken = names_in(term)
    bound = []
    for i in range(term.num_vars()):
        name = str(term.var_name(i))
        while name in taken:
            name += "'"
        bound.append(z3.Const(name, term.var_sort(i)))
    opened = z3.substitute_vars(term.body(), *reversed(bound))
    body = folded(opened)
    # z3 may have simplified what it opened, so that what is folded already still differs from the term.
    if body.eq(opened) and names_in(opened) - {b.decl().name() for b in bound} == taken:
        return term
    # A variable that is not spoken of any more would still count as a dependency.
    used = [b for b in bound if b.decl().name() in names_in(body)]
    if not used:
        return body
    return z3.ForAll(used, body) if term.is_forall() else z3.Exists(used, body)


def _negated(term: Term) -> Term:
    if z3.is_true(term) or z3.is_false(term):
        return z3.BoolVal(z3.is_false(term))
    return z3.Not(term)


def short(value: Any) -> str:
    """Its text, on one line and not too long."""
    try:
        text = " ".join(str(value).split())
    except Exception:
        # A user's object may fail at being shown.
        text = "..."
    return text if len(text) <= 60 else text[:57] + "..."


def sort_text(sort: Sort) -> str:
    """`a Frame term`."""
    return f"a {sort.name()} term"


def kind_text(value: Any) -> str:
    """What a value is, for somebody who expected something else."""
    if isinstance(value, z3.ExprRef):
        return f"{sort_text(value.sort())}, {short(value)}"
    return "nothing" if value is None else f"{short(value)!r} ({type(value).__name__})"


def put(cell: Term, value: Any) -> list[Update]:
    """`put(pte_write(p, v), False)`: the update of one cell.

    Raises ModelError if the first is no cell of a state function, or the second is not of its range.
    """
    function = REGISTRY.get(cell.decl().name()) if z3.is_app(cell) else None
    if function is None:
        raise ModelError(f"put takes a cell of a state function, as pte_write(p, v), not {short(cell)}")
    if function.is_bool and isinstance(value, bool):
        value = z3.BoolVal(value)
    if not z3.is_expr(value) or value.sort() != function.range:
        raise ModelError(f"{function} takes {sort_text(function.range)}, not {kind_text(value)}")
    return [Update(function, tuple(cell.children()), value)]


def each(*sorts_and_body: Any, when: Callable[..., Term] | None = None) -> list[Update]:
    """`each(Page, lambda v: put(...) + put(...), when=lambda v: ...)`: those updates for every element at once."""
    sorts, body = sorts_and_body[:-1], sorts_and_body[-1]
    bound, (updates, condition) = _bind(sorts, lambda *b: (body(*b), when(*b) if when else z3.BoolVal(True)))
    return [replace(u, over=(*bound, *u.over), when=z3.And(condition, u.when)) for u in updates]


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
    true where no other rule has come between. `chooses`: conditions on what it chooses afresh, which giving up does not
    need. `apart`: for a feature that is on, updates that only the sub-step makes.
    """

    name: str
    step: Callable[[Any], Step]
    recheck: Callable[[Any], Term] | None = None
    back: str = "retry"
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
                yield stage.back, Step([*begun, *step.guard, z3.Not(holds[0])], passed)


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

    def text(self) -> str:
        """The rule's terms as text: equal rules have equal texts, whatever the process that built them."""
        lines = [f"rule {self.name} {self.kind}"]
        lines += [f"  param {p.name} {p.sort} {p.fresh} {p.over} {p.needed}" for p in self.params]
        lines += [f"  guard {text_of(g)}" for g in self.guard]
        for u in self.updates:
            index = " ".join(text_of(i) for i in u.index)
            lines.append(f"  {u.function.name}({index}) := {text_of(u.value)} over {u.over} when {text_of(u.when)}")
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
        return frozenset().union(*(functions_in(term) for term in self.terms()))

    def rewritten(self, rewrite: Callable[[Term], Term]) -> Rule | None:
        """The rule with every term rewritten, without what became trivial; None if it can then never be taken."""
        guard = [rewrite(g) for g in self.guard]
        if any(z3.is_false(g) for g in guard):
            return None
        updates = (
            replace(u, index=tuple(rewrite(i) for i in u.index), value=rewrite(u.value), when=rewrite(u.when))
            for u in self.updates
        )
        params = (p if p.over is None else replace(p, needed=rewrite(p.needed)) for p in self.params)
        return replace(
            self, params=tuple(params), guard=tuple(g for g in guard if not z3.is_true(g)),
            updates=tuple(u for u in updates if not z3.is_false(u.when)),
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
        made = []
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
                made.append(simple)
        return made

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


@by_term
def text_of(term: Term) -> str:
    """The term as SMT-LIB text."""
    return str(term.sexpr())


@by_term
def functions_in(term: Term) -> frozenset[str]:
    """Names of the state functions that occur in a term."""
    return frozenset(name for name in names_in(term) if name in REGISTRY)


@by_term
def names_in(term: Term) -> frozenset[str]:
    """Names of the functions and constants, state functions among them, that occur in a term."""
    found: set[str] = set()
    seen: set[int] = set()
    stack = [term]
    while stack:
        t = stack.pop()
        if t.get_id() in seen:
            continue
        seen.add(t.get_id())
        if z3.is_quantifier(t):
            stack.append(t.body())
        elif z3.is_app(t):
            if t.decl().kind() == z3.Z3_OP_UNINTERPRETED:
                found.add(t.decl().name())
            stack.extend(t.children())
    return frozenset(found)


@dataclass(frozen=True)
class System:
    """A kernel's transition system: its state functions, rules, and the axioms of its constants.

    `constants` are fixed elements (the first process, the value zero): name to sort. In a finite scope each stands for
    the first element of its sort. `false`: state functions that are false for ever, and therefore not among the others;
    `reduced` takes them out of a formula.
    """

    name: str
    functions: tuple[StateFunction, ...]
    rules: tuple[Rule, ...]
    constants: tuple[Term, ...]
    false: tuple[StateFunction, ...] = ()

    def rule(self, name: str) -> Rule:
        for r in self.rules:
            if r.name == name:
                return r
        raise ModelError(f"kernel {self.name} has no rule {name!r}")

    def cone(self, formulas: Iterable[Term]) -> frozenset[str]:
        """The state functions on which the truth of the formulas can depend, now or after any steps."""
        wanted: set[str] = set()
        for formula in formulas:
            wanted |= functions_in(self.reduced(formula))
        by_name = {f.name: f for f in self.functions}
        reads: list[tuple[str, frozenset[str]]] = []
        for r in self.rules:
            guard = r.functions_read()
            for u in r.updates:
                inputs = guard.union(*(functions_in(t) for t in (u.value, u.when, *u.index)))
                reads.append((u.function.name, inputs))
        changed = True
        while changed:
            before = len(wanted)
            for target, inputs in reads:
                if target in wanted:
                    wanted |= inputs
            for name in list(wanted):
                term = meaning(by_name[name])[1]
                if term is not None:
                    wanted |= functions_in(term)
            changed = len(wanted) > before
        return frozenset(wanted)

    def restricted(self, names: Iterable[str]) -> System:
        """The system over those state functions only; they must be a cone, so that nothing kept reads what is dropped.

        Rules that change nothing kept are dropped: they would be steps from a state to itself.
        """
        kept = frozenset(names)
        if kept >= {f.name for f in self.functions}:
            return self
        rules = []
        for r in self.rules:
            updates = tuple(u for u in r.updates if u.function.name in kept)
            if updates:
                rules.append(replace(r, updates=updates))
        return replace(self, functions=tuple(f for f in self.functions if f.name in kept), rules=tuple(rules))

    def settled(self) -> System:
        """The same transitions, said with fewer state functions.

        A Bool function that is false initially, and that no rule can make true as long as all of these are false, stays
        false; it is replaced by false, rules whose guard is false then are dropped, and so is every function of which
        nothing speaks any more. (The set is the largest one: what some rule can make true is taken out until none is.)
        """
        false = {f.name: f for f in self.functions if f.is_bool and initial_value(f)[1] is None}
        while True:
            rules = [made for r in self.rules if (made := _rule_assuming(r, false.values())) is not None]
            rising = {u.function.name for r in rules for u in r.updates if not z3.is_false(u.value)} & false.keys()
            if not rising:
                break
            false = {name: f for name, f in false.items() if name not in rising}
        rules = [not_writing(r, false.values()) for r in rules]
        assume = _assuming(tuple(false.values()))
        functions = [_function_assuming(f, assume) for f in self.functions if f.name not in false]
        cells = [term for f in functions for term in (meaning(f)[1], initial_value(f)[1]) if term is not None]
        spoken = frozenset().union(*map(functions_in, cells), *(r.functions_spoken for r in rules))
        kept = tuple(f for f in functions if f.name in spoken or f.is_bool)
        return replace(self, functions=kept, rules=tuple(rules), false=(*self.false, *false.values()))

    def reduced(self, formula: Term) -> Term:
        """The formula without the state functions that are false for ever."""
        return _assuming(self.false)(formula)

    def without(self, names: Iterable[str]) -> System:
        """The system that lacks those rules, as if nobody did that."""
        return replace(self, rules=tuple(r for r in self.rules if r.name not in set(names)))

    def kept_where(self, function: StateFunction) -> tuple[list[Term], Term | None]:
        """(index constants, Bool term over them): where finite engines keep that cell's value; None means always.

        Where it has a meaning; and where the cell that says so, if it is one, has a meaning itself: it is cleared too.
        """
        bound, term = meaning(function)
        if term is None or not z3.is_app(term):
            return bound, term
        said_by = next((f for f in self.functions if f.name == term.decl().name()), None)
        index, inner = self.kept_where(said_by) if said_by is not None else ([], None)
        if inner is None:
            return bound, term
        return bound, z3.And(term, z3.substitute(inner, *zip(index, term.children(), strict=True)))

    def text(self) -> str:
        """The terms as text: equal systems have equal texts, whatever the process that built them."""
        lines = []
        for f in self.functions:
            lines.append(f.decl.sexpr())
            for role, made in (("meaningful", meaning(f)), ("initial", initial_value(f))):
                lines.append(f"  {role} {text_of(made[1]) if made[1] is not None else 'default'}")
        return "\n".join([*lines, *(r.text() for r in self.rules)])

    def digest(self) -> str:
        """Short hash of the terms: what cached results and certificates are for."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]


@functools.cache
def _assuming(false: tuple[StateFunction, ...]) -> Callable[[Term], Term]:
    """Rewrites a term for states in which those Bool functions are false everywhere."""
    names = frozenset(f.name for f in false)
    values = [(f.decl, z3.BoolVal(False)) for f in false]

    @by_term
    def rewrite(term: Term) -> Term:
        return folded(z3.substitute_funs(term, *values)) if names & functions_in(term) else term

    return rewrite


@by_rule
def _rule_assuming(rule: Rule, false: frozenset[StateFunction]) -> Rule | None:
    """The rule so rewritten; None if it can then never be taken."""
    return rule.rewritten(_assuming(tuple(sorted(false, key=lambda f: f.name))))


@by_rule
def not_writing(rule: Rule, functions: frozenset[StateFunction]) -> Rule:
    """The rule without its updates of those state functions."""
    names = {f.name for f in functions}
    updates = tuple(u for u in rule.updates if u.function.name not in names)
    return rule if len(updates) == len(rule.updates) else replace(rule, updates=updates)


def _function_assuming(function: StateFunction, assume: Callable[[Term], Term]) -> StateFunction:
    """The function with its meaning so rewritten; itself if that changes nothing."""
    bound, term = meaning(function)
    if term is None or (rewritten := assume(term)).eq(term):
        return function
    if z3.is_true(rewritten):
        return replace(function, meaningful=None)
    return replace(function, meaningful=lambda *cell: z3.substitute(rewritten, *zip(bound, cell, strict=True)))


def _cell_term(function: StateFunction, make: Callable[..., Term] | None) -> tuple[list[Term], Term | None]:
    if make is None:
        return [], None
    bound, term = _bind(function.domain, make)
    return bound, z3.BoolVal(term) if isinstance(term, bool) else term


@functools.cache
def meaning(function: StateFunction) -> tuple[list[Term], Term | None]:
    """(index constants, Bool term over them): when that cell's value matters; None means always."""
    return _cell_term(function, function.meaningful)


@functools.cache
def initial_value(function: StateFunction) -> tuple[list[Term], Term | None]:
    """(index constants, term over them): the cell's value in the initial state; None means the default."""
    return _cell_term(function, function.initial)


@dataclass(frozen=True)
class Scope:
    """How many elements each sort has in a finite search.

    Raises ModelError if a size is not a positive integer.
    """

    sizes: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        for name, size in self.sizes:
            if size < 1:
                raise ModelError(f"a scope needs at least 1 {name.lower()}, not {size}")

    @staticmethod
    def of(**sizes: int) -> Scope:
        return Scope(tuple(sizes.items()))

    def size(self, sort: Sort) -> int:
        wanted = sort.name()
        for name, size in self.sizes:
            if name == wanted:
                return size
        raise ModelError(f"the scope gives no size for sort {wanted}")

    def as_dict(self) -> dict[str, int]:
        return dict(self.sizes)
