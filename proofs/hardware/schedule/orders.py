"""Orders in which threads come to their points: as text, from traces of the model, and those beside one.

`1:read 2:test 1:done 2:done` lets thread 1 run until it is at `read`, then thread 2 until it is at `test`, and so on.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence

from model.logic import ModelError
from proofs.hardware.needs import racing
from proofs.hardware.schedule.points import DONE, point_after, points_of
from proofs.litmus.language import Litmus, Statement
from proofs.litmus.retell import Retold
from proofs.traces.trace import Trace

Order = tuple[tuple[int, str], ...]
"""Threads, numbered from 1 as their operations stand in the line, each with a point that it runs to."""


def statements_of(test: Litmus) -> list[Statement]:
    """The operations that a debugger steers, one a thread."""
    return [test.statements[number] for number in racing(test)]


def all_points(statement: Statement) -> list[str]:
    """Names of an operation's points, the last one DONE."""
    return [*(point.name for point in points_of(statement)), DONE]


def shown(order: Order) -> str:
    """An order as text."""
    return " ".join(f"{thread}:{point}" for thread, point in order)


def parsed(text: str, test: Litmus) -> Order:
    """The order that a text says. Raises ModelError for a thread or a point that the test has not."""
    statements, order = statements_of(test), list[tuple[int, str]]()
    for word in text.split():
        thread, _, point = word.partition(":")
        if not thread.isdigit() or not 1 <= int(thread) <= len(statements):
            raise ModelError(f"{word}: {test.name} has the threads 1 to {len(statements)}")
        known = all_points(statements[int(thread) - 1])
        if point not in known:
            raise ModelError(f"{word}: thread {thread} comes to {', '.join(known)}")
        order.append((int(thread), point))
    return completed(order, test)


def completed(order: Sequence[tuple[int, str]], test: Litmus) -> Order:
    """The order with every point of every thread: one that is not named comes right before the next that is, and what
    is left at the end, thread by thread."""
    left = [all_points(statement) for statement in statements_of(test)]
    found: list[tuple[int, str]] = []

    def up_to(thread: int, point: str) -> None:
        ahead = left[thread - 1]
        if point in ahead:
            number = ahead.index(point) + 1
            found.extend((thread, name) for name in ahead[:number])
            del ahead[:number]

    for thread, point in order:
        up_to(thread, point)
    for thread in range(1, len(left) + 1):
        up_to(thread, DONE)
    return tuple(found)


def of_trace(trace: Trace, test: Litmus) -> Order:
    """The order of a trace's steps that are at the same time."""
    statements = statements_of(test)
    steps = list(_steps(trace, test))
    last = {thread: number for number, (thread, _) in enumerate(steps)}
    found = [(thread, point_after(statements[thread - 1], rule, number == last[thread]))
             for number, (thread, rule) in enumerate(steps)]
    return completed(found, test)


def of_retold(told: Retold) -> str:
    """The order, as text, in which the operations at the same time of a trace that is told as a test break its claim;
    empty if there are none."""
    return shown(of_trace(told.witness, told.litmus)) if racing(told.litmus) else ""


def loads_of(trace: Trace, test: Litmus) -> frozenset[int]:
    """Threads that store through an entry of their processor's TLB."""
    return frozenset(thread for thread, rule in _steps(trace, test) if "tlb-store" in rule)


def _steps(trace: Trace, test: Litmus) -> Iterator[tuple[int, str]]:
    """The steps of the line with operations at the same time: of which thread, and by which rule. Lines before and
    after may say the same as one of its operations."""
    texts, numbers = [statement.text for statement in test.statements], racing(test)
    notes, first, end = trace.notes, 0, len(trace.notes)
    for text in texts[:numbers[0]]:
        while first < end and notes[first] == text:
            first += 1
    for text in reversed(texts[numbers[-1] + 1:]):
        while first < end and notes[end - 1] == text:
            end -= 1
    mine = [texts[number] for number in numbers]
    for note, step in zip(notes[first:end], trace.steps[first:end], strict=True):
        if note in mine:
            yield mine.index(note) + 1, step.rule.name


def around(order: Order) -> Iterator[Order]:
    """The order itself, then those that differ by one exchange of neighbours, by two, and so on: all there are."""
    seen, queue = {order}, deque([order])
    while queue:
        now = queue.popleft()
        yield now
        for at, (one, other) in enumerate(itertools.pairwise(now)):
            if one[0] != other[0]:
                swapped = (*now[:at], other, one, *now[at + 2:])
                if swapped not in seen:
                    seen.add(swapped)
                    queue.append(swapped)
