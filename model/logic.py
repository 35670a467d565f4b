"""The language in which kernels are written: many-sorted first-order logic over state functions.

Nothing here knows of memory management. A *state function* is an uninterpreted z3 function that describes part of a
state; a *rule* is one atomic step, a guard and updates of state functions; a *system* is an initial state and rules.
All of them are z3 terms, so every engine derives its own form from the same text.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
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


class ModelError(Exception):
    """A model that makes no sense: the message is one line for the user."""


def _bind(sorts: Sequence[Sort], body: Callable[..., Any]) -> tuple[list[Term], Any]:
    """Call `body` with one bound constant per sort, named by nesting depth so that equal formulas are equal terms."""
    global _open_binders
    first = _open_binders
    _open_binders += len(sorts)
    try:
        bound = [z3.Const(f"{sort.name().lower()}'{first + i}", sort) for i, sort in enumerate(sorts)]
        return bound, body(*bound)
    finally:
        _open_binders = first


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
    initial state; without one the cell is False or the sort's first element.
    """

    name: str
    domain: tuple[Sort, ...]
    range: Sort
    about: str
    meaningful: Callable[..., Term] | None = None
    initial: Callable[..., Term] | None = None
    decl: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decl", z3.Function(self.name, *self.domain, self.range))
        REGISTRY[self.name] = self

    def __call__(self, *args: Term) -> Term:
        return self.decl(*args)

    @property
    def is_bool(self) -> bool:
        return bool(self.range == z3.BoolSort())

    def __repr__(self) -> str:
        return self.name


REGISTRY: dict[str, StateFunction] = {}


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


@by_term
def folded(term: Term) -> Term:
    """The term without the constants true and false that a kernel's decisions left in it.

    z3's own simplifier orders arguments by their age, so that equal systems would get unequal texts.
    """
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
        return folded(z3.Or(_negated(args[0]), args[1])) if z3.is_true(args[0]) or z3.is_false(args[0]) else term
    if term.decl().kind() == z3.Z3_OP_ITE:
        condition, then, otherwise = args
        if z3.is_true(condition) or z3.is_false(condition):
            return then if z3.is_true(condition) else otherwise
        return z3.If(condition, then, otherwise)
    return term


def _negated(term: Term) -> Term:
    if z3.is_true(term) or z3.is_false(term):
        return z3.BoolVal(z3.is_false(term))
    return z3.Not(term)


def put(cell: Term, value: Any) -> list[Update]:
    """`put(pte_write(p, v), False)`: the update of one cell."""
    function = REGISTRY[cell.decl().name()]
    if function.is_bool and isinstance(value, bool):
        value = z3.BoolVal(value)
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

    def flat_updates(self) -> tuple[Update, ...]:
        return tuple(itertools.chain.from_iterable(u if isinstance(u, list) else [u] for u in self.updates))


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

    def functions_read(self) -> frozenset[str]:
        """Names of the state functions in the guard."""
        return frozenset().union(*(functions_in(term) for term in self.guard))


@dataclass(frozen=True)
class RuleTemplate:
    """A rule as written in the model: a function of the kernel and the parameters, giving None where it has none."""

    name: str
    params: tuple[Param, ...]
    body: Callable[..., Step | None]
    kernel_function: str
    source: str
    kind: str
    environment: str | None

    def build(self, kernel: Any, fresh: Callable[[Term], Term]) -> Rule | None:
        """The rule of that kernel, simplified. `fresh(x)`: the Bool term "nothing refers to x"."""
        step = self.body(kernel, *(p.term for p in self.params))
        if step is None:
            return None
        guard = [folded(g) for g in step.guard]
        guard += [fresh(p.term) for p in self.params if p.fresh and p.over is None]
        updates = tuple(
            replace(u, value=folded(u.value), when=folded(u.when)) for u in step.flat_updates()
        )
        guard = [g for g in guard if not z3.is_true(g)]
        if any(z3.is_false(g) for g in guard):
            return None
        about = (self.body.__doc__ or "").strip()
        params = tuple(
            replace(p, needed=self.needed(kernel, p)) if p.over is not None else p for p in self.params
        )
        return Rule(
            self.name, params, tuple(guard), updates, about, self.kernel_function, self.source, self.kind,
            self.environment,
        )

    def needed(self, kernel: Any, param: Param) -> Term:
        named = {p.name: p.term for p in self.params}
        return folded(param.needed(kernel, named, param.of))


def rule(
    params: Sequence[Param],
    kernel_function: str,
    source: str,
    kind: str = "step",
    environment: str | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Step | None]], RuleTemplate]:
    """Decorator: the rule written below, with its parameters and where it comes from."""

    def wrap(body: Callable[..., Step | None]) -> RuleTemplate:
        return RuleTemplate(
            name or body.__name__.replace("_", "-"), tuple(params), body, kernel_function, source, kind, environment
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
    the first element of its sort.
    """

    name: str
    functions: tuple[StateFunction, ...]
    rules: tuple[Rule, ...]
    constants: tuple[Term, ...]

    def rule(self, name: str) -> Rule:
        for r in self.rules:
            if r.name == name:
                return r
        raise ModelError(f"kernel {self.name} has no rule {name!r}")

    def cone(self, formulas: Iterable[Term]) -> frozenset[str]:
        """The state functions on which the truth of the formulas can depend, now or after any steps."""
        wanted: set[str] = set()
        for formula in formulas:
            wanted |= functions_in(formula)
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

    def without(self, names: Iterable[str]) -> System:
        """The system that lacks those rules, as if nobody did that."""
        return replace(self, rules=tuple(r for r in self.rules if r.name not in set(names)))

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
        for name, size in self.sizes:
            if name == sort.name():
                return size
        raise ModelError(f"the scope gives no size for sort {sort.name()}")

    def as_dict(self) -> dict[str, int]:
        return dict(self.sizes)
