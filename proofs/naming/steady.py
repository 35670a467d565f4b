"""What a user's file makes must be the same each time that it is asked: terms are built several times and compared.

Every rule, engine and process asks anew. A decision that throws a coin would be another one in each of its rules, and
what was found of one process's system would be said of another's.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

from z3 import Const, ExprRef

from invariants import Invariant
from model.blame import blamed, place_of
from model.kernels import Kernel
from model.logic import ModelError, Staged, Step, System, binders_open, short

TIMES = 6
"""How often a function is asked for the same."""
OFTEN = 48
"""How often it is, the first time: a coin says the same to all of them once in 2^47."""

_known: dict[tuple[Any, ...], list[Any]] = {}
"""What was found steady, by the identities of all that it is made of; these are kept, so that they remain theirs."""


class _Asked:
    """A user's function, each of whose answers is asked for several times and compared with all earlier ones."""

    def __init__(self, function: Callable[..., Any], what: str, place: str) -> None:
        self.__wrapped__ = function
        self.__name__ = getattr(function, "__name__", what)
        self.what = what
        self.place = place
        self.answers: dict[tuple[Any, ...], tuple[tuple[Any, ...], Any]] = {}
        self.others: list[Any] = []

    def __call__(self, *given: Any) -> Any:
        # The arguments are kept beside the answer: z3 gives the number of a term that nobody holds to another one.
        key = (binders_open(), *(x.get_id() if isinstance(x, ExprRef) else (x,) for x in given))
        for _ in range(TIMES if self.answers else OFTEN):
            answer = self.__wrapped__(*given)
            _, first = self.answers.setdefault(key, (given, answer))
            if not (answer is first or (isinstance(answer, ExprRef) and answer.eq(first))):
                self.others += [first, answer]
        return first

    def check(self) -> None:
        """Raises ModelError if two answers to the same were not."""
        if self.others:
            one, other = map(short, self.others[:2])
            raise ModelError(f"{self.place}: {self.what} gives {one} at one time and {other} at another; {_ALIKE}")


_ALIKE = "it must make the same terms whenever it is asked"


def check_decisions(kernel: Kernel) -> None:
    """Raises ModelError, with the line, if a decision or rule of a user's does not give the same each time.

    They give terms, as `Kernel.check` has seen.
    """
    decisions = kernel.own_decisions()
    if not decisions and not kernel.own_rules:
        return
    steady = _known.setdefault(("kernel", *map(id, (*decisions.values(), *kernel.own_rules))), [])
    if steady:
        return
    with _asking(kernel, decisions) as asking:
        asking.check()
    for template in kernel.own_rules:
        place, what = kernel.place_of(template.body), f"rule {template.name}"
        texts = set()
        for _ in range(OFTEN):
            with blamed(what, place):
                texts.add(_step_text(template.body(kernel, *(p.term for p in template.params))))
        if len(texts) > 1:
            raise ModelError(f"{place}: {what} is not the same each time; {_ALIKE}")
    steady += [*decisions.values(), *kernel.own_rules]


def check_system(kernel: Kernel, features: Collection[str], system: System) -> None:
    """Raises ModelError, with the line, if a kernel of a user's, built anew, is another system than it was."""
    decisions, rules = kernel.own_decisions(), kernel.own_rules
    if not decisions and not rules:
        return
    # Of the sets of restrictions on one kernel only the first is built twice: its functions are those of the others.
    parts = (*decisions.values(), *kernel.own_rules)
    steady = _known.setdefault(("system", tuple(features), *map(id, parts)), [])
    if steady:
        return
    anew = tuple(replace(t, body=_anew(t.body)) if t in rules else t for t in kernel.own_rules)
    with _asking(kernel, decisions) as asking:
        again = replace(asking, own_rules=anew).system(features)
    places = {f"rule {t.name}": kernel.place_of(t.body) for t in rules}
    deciding = ", ".join(f"{kernel.place_of(decide)}: {name}" for name, decide in decisions.items())
    for one, other in itertools.zip_longest(system.rules, again.rules):
        if one is None or other is None or one.text() != other.text():
            what = f"rule {(one or other).name}"
            own = places.get(what.partition(".")[0])
            raise ModelError(
                f"{own}: {what} is not the same when it is built again; {_ALIKE}" if own else
                f"{deciding or next(iter(places.values()))}: {what}, which asks for that, is not the same when it is "
                f"built again; {_ALIKE}"
            )
    steady += parts


def check_invariant(stated: Invariant, file: str) -> None:
    """Raises ModelError, with the line, if what an invariant says is not the same each time.

    `file`: what to name where no line is known.
    """
    steady = _known.setdefault(("invariant", id(stated.when), id(stated.then)), [])
    if steady:
        return
    given = [Const(f"{sort.name().lower()}{i}", sort) for i, sort in enumerate(stated.sorts, 1)]
    for what, function in (("when", stated.when), ("then", stated.then)):
        asked = _Asked(function, f"invariant {stated.name}: {what}", place_of(function) or file)
        with blamed(asked.what, asked.place):
            asked(*given)
        asked.check()
    steady += [stated.when, stated.then]


@contextlib.contextmanager
def _asking(kernel: Kernel, decisions: dict[str, Callable[..., Any]]) -> Iterator[Kernel]:
    """The kernel, whose own decisions are asked several times. Raises ModelError at the end if one is not steady."""
    asked: dict[int, _Asked] = {}
    for name, decide in decisions.items():
        asked.setdefault(id(decide), _Asked(decide, name, kernel.place_of(decide)))
    changed: dict[str, Any] = {name: asked[id(decide)] for name, decide in decisions.items()}
    yield replace(kernel, **changed)
    for each in asked.values():
        each.check()


def _anew(body: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as another object: the rules of one object are built once only."""

    @functools.wraps(body)
    def again(*given: Any) -> Any:
        return body(*given)

    return again


def _step_text(said: Step | Staged | None) -> str:
    step = said.whole() if isinstance(said, Staged) else said
    return "" if step is None else " ".join((
        *(g.sexpr() for g in step.guard),
        *(f"{u.function(*u.index).sexpr()} {u.value.sexpr()} {u.when.sexpr()}" for u in step.flat_updates()),
    ))
