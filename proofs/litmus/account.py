"""All that there is to tell of a test's answer on a kernel: is it vacuous, what was refused, which ends there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model import releases
from model.kernels import Kernel
from model.logic import System
from proofs.derive.interpreter import interpreter_of
from proofs.litmus.execution import Answer, End, Result, Run
from proofs.litmus.facts import Fact, slots_used, value_loaded, value_seen
from proofs.litmus.instances import lacking
from proofs.litmus.language import Litmus, form_on
from proofs.litmus.vacuity import named, vacuous
from proofs.traces.trace import Trace


@dataclass(frozen=True)
class Ending:
    """Ends of a test that look alike. `shows`: what loads and references return, and what the condition asks of beside
    them, in its words; `condition`: its truth there; `executions`: how many come there; `trace`: a shortest of them."""

    shows: str
    condition: bool
    executions: int
    trace: Trace


@dataclass(frozen=True)
class Account:
    """The answer. `vacuous`: why it says nothing, empty if it does; `notes`: what was refused, or is newer than the
    kernel, a line for each. `endings`: in the order of their shortest executions."""

    result: Result
    vacuous: str
    notes: tuple[str, ...]
    endings: tuple[Ending, ...] = ()


class _Counted(Run):
    """A test that remembers what comes after each point, so that its executions can be counted."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.after: dict[Any, list[Any]] = {}

    def successors(self, point: Any) -> Any:
        found = super().successors(point)
        self.after[point] = [after for _, _, after in found]
        return found

    def executions(self, start: Any) -> dict[Any, int]:
        """To each point, how many ways lead there from the start; no way leads back to where it was."""
        order: dict[Any, None] = {}
        stack = [(start, iter(self.after.get(start, ())))]
        entered = {start}
        while stack:
            point, following = stack[-1]
            after = next(following, None)
            if after is None:
                order[point] = None
                stack.pop()
            elif after not in entered:
                entered.add(after)
                stack.append((after, iter(self.after.get(after, ()))))
        counted = dict.fromkeys(order, 0) | {start: 1}
        for point in reversed(order):
            for after in self.after.get(point, ()):
                counted[after] += counted[point]
        return counted


def account(litmus: Litmus, kernel: Kernel, system: System, with_endings: bool = False) -> Account:
    """Explore all executions of the test on the kernel, as `execution.answer`, and tell all of it.

    `with_endings`: the ends too. Raises LitmusError as Run does.
    """
    run = _Counted(litmus, kernel, interpreter_of(system, litmus.scope()))
    points, stuck = run.explore(run.start)
    result = run.result_of(points, stuck)
    ends = [run.end_of(point) for point in points]
    unknown = result.answer == Answer.UNKNOWN or not ends
    why = "" if unknown else vacuous(litmus, run.interpreter, ends)
    endings = _endings(run, points, ends) if with_endings else ()
    notes = (
        *_newer(litmus, kernel), *_unknown_there(litmus, kernel), *_said(litmus, kernel),
        *_idle(litmus, kernel, ends), *_refusals(litmus, ends),
    )
    return Account(result, why, notes, endings)


def _newer(litmus: Litmus, kernel: Kernel) -> list[str]:
    """A note for each operation that is newer than the kernel."""
    version = releases.release_of(kernel)
    if version is None:
        return []
    return [
        f"{named(s)} came with {s.operation.since}; Linux {version} has no such operation" for s in litmus.statements
        if s.operation.since and version < releases.version_of(s.operation.since)
    ]


def _unknown_there(litmus: Litmus, kernel: Kernel) -> list[str]:
    """A note where the condition asks for PG_anon_exclusive of a kernel that has no such flag."""
    asked = not kernel.exclusive_bit and any(fact.what == "exclusive" for fact in litmus.facts)
    return ["`exclusive` is true of no page there: PG_anon_exclusive came with 5.19"] if asked else []


def _said(litmus: Litmus, kernel: Kernel) -> list[str]:
    """A note for each operation that is something else from kernel to kernel, or nothing on this one."""
    other = lacking(litmus, kernel)
    return [
        f"{named(s)} does nothing there: it is another kernel's own" if n in other
        else f"{named(s)} is `{form_on(s.operation, kernel)}`"
        for n, s in enumerate(litmus.statements) if n in other or s.operation.forms
    ]


def _idle(litmus: Litmus, kernel: Kernel, ends: Sequence[End]) -> list[str]:
    """A note for each operation of the kernel's own that found nothing to do, and was not refused."""
    own, notes = {o.word for o in kernel.own_operations}, []
    for number, statement in enumerate(litmus.statements):
        if statement.operation.word in own:
            idle = [number not in {n for n, _ in end.steps} | end.refused for end in ends]
            when = "in every execution" if all(idle) else "in some executions"
            notes += [f"{named(statement)} finds nothing to do {when}"] if any(idle) else []
    return notes


def _refusals(litmus: Litmus, ends: Sequence[End]) -> list[str]:
    """A note for each operation that returned an error, or waits, if the condition does not ask for it."""
    asked = {(fact.what, fact.of[0] - 1) for fact in litmus.facts if fact.what in ("refused", "blocked")}
    notes = []
    for number, statement in enumerate(litmus.statements):
        for what, said in (("refused", "is refused"), ("blocked", "waits for the userfaultfd monitor")):
            count = sum(number in (end.refused if what == "refused" else end.blocked) for end in ends)
            if count and (what, number) not in asked:
                when = "in every execution" if count == len(ends) else "in some executions"
                notes.append(f"{named(statement)} {said} {when}")
    return notes


def _endings(run: _Counted, points: Sequence[Any], ends: Sequence[End]) -> tuple[Ending, ...]:
    counted = run.executions(next(iter(run.after), None)) if run.after else {}
    found: dict[tuple[str, bool], Ending] = {}
    for point, end in zip(points, ends, strict=True):
        key = _shows(run, end), run.ends_in_condition(point)
        if key in found:
            found[key] = replace(found[key], executions=found[key].executions + counted[point])
            continue
        text = run.litmus.condition_text
        statement = text if key[1] else f"not ({text})"
        found[key] = Ending(*key, counted[point], replace(run.trace(point), statement=statement))
    return tuple(found.values())


def _shows(run: Run, end: End) -> str:
    """What a user sees of that end, and what else the condition asks of it."""
    litmus, interpreter, state = run.litmus, run.interpreter, end.situation.state
    names = litmus.names()
    shown = []
    for k, name in enumerate(litmus.references):
        value = value_seen(interpreter, state, k)
        shown += [f"{name} sees {litmus.values[value]}"] if value is not None else []
    for (p, process), (v, page) in itertools.product(enumerate(litmus.processes), enumerate(litmus.pages)):
        value = value_loaded(interpreter, state, p, v)
        shown += [f"{process}.{page.name} == {litmus.values[value]}"] if value is not None else []
    others = (fact for fact in litmus.facts if fact.what not in ("sees", "loads", "refused", "blocked"))
    shown += [fact.text(names) if _holds(run, fact, end) else f"not {fact.text(names)}" for fact in others]
    shown += _numbered("refused", end.refused) + _numbered("blocked", end.blocked)
    return ", ".join(shown) or "nothing"


def _holds(run: Run, fact: Fact, end: End) -> bool:
    state = end.situation.state
    if fact.what == "slots":
        return slots_used(run.interpreter, state) == fact.of[0]
    meaning = run.interpreter.system.reduced(fact.meaning())
    return bool(run.interpreter.evaluate(meaning, state, run.elements))


def _numbered(word: str, numbers: Iterable[int]) -> list[str]:
    return [f"{word} {number + 1}" for number in sorted(numbers)]
