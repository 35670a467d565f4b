"""What was seen of tests of operations at the same time, as text, as Markdown and as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from proofs.hardware.conform import DISAGREE, NOT_OBSERVABLE
from proofs.hardware.conform import shown as shown_outcome
from proofs.hardware.schedule import orders, points
from proofs.hardware.schedule.races import NOT_SEEN, Course, Race


def went(course: Course) -> str:
    """How far threads came, one after the other: `1:read 2:test=waits 1:done`."""
    return " ".join(f"{w.racer}:{w.point or f'{w.wanted}=waits'}" for w in course.went)


def excluded(race: Race) -> dict[tuple[int, str], int]:
    """Thread and in what it waited, to the number of runs in which it did."""
    found: dict[tuple[int, str], int] = {}
    for course in race.courses:
        for key in dict.fromkeys((w.racer, w.where) for w in course.excluded):
            found[key] = found.get(key, 0) + 1
    return found


def reason_of(race: Race) -> str:
    """Why its status is what it is, in a line; empty if it agrees."""
    seen = [course for course in race.courses if course.outcome]
    if race.status == NOT_OBSERVABLE:
        return race.stuck or race.reason or next((c.reason for c in race.courses if c.reason), "no run came to its end")
    if race.status == DISAGREE:
        other = next(course for course in seen if course.outcome not in race.expected)
        assert other.outcome
        allowed = "; or ".join(sorted(map(shown_outcome, race.expected)))
        return f"{shown_outcome(other.outcome)} in the order {orders.shown(other.order)}; the model has: {allowed}"
    if race.status == NOT_SEEN:
        what = "without that protection it can" if race.control else "the model can"
        return f"{what} end as the test asks, and in {len(seen)} runs the kernel did not"
    return ""


def _operations(race: Race) -> Iterator[str]:
    for number, statement in enumerate(orders.statements_of(race.test), 1):
        names = " ".join(point.name for point in points.points_of(statement))
        yield f"  thread {number}: {statement.text}{'; ' * bool(names)}{names}"


def to_text(race: Race) -> str:
    """A test on a kernel: what the model says, what was seen in how many orders, where threads waited, each run."""
    head = f"{race.test.name} on {race.release} ({race.kernel} in the model: {race.answer}): {race.status}"
    if race.control:
        head = f"{race.test.name} on {race.release} without {race.control.name}: {race.status}"
    if reason := reason_of(race):
        head += f"; {reason}"
    if not race.courses:
        return head
    ends = [course for course in race.courses if course.outcome]
    truth = "true" if race.wanted else "false"
    first = f", the first order that of {race.source}" if race.source else ""
    lines = [
        head, *([f"  {race.control.about}"] if race.control else []), *_operations(race),
        f"  {len(ends)} of {len(race.courses)} runs seen to their end{first}: condition {truth} in {len(race.shown)}",
        *(f"  excluded in {n}: thread {thread} waits in {where}" for (thread, where), n in excluded(race).items()),
        *(f"  {_end(course):28} {course.seconds:5.1f} s  {went(course)}" for course in race.courses),
    ]
    return "\n".join(lines)


def _end(course: Course) -> str:
    return shown_outcome(course.outcome) if course.outcome else f"not seen: {course.reason}"


def to_markdown(races: Sequence[Race]) -> str:
    """A row a test, a column a kernel: the model's answer, in how many of how many orders it was so, where threads
    waited."""
    releases = list(dict.fromkeys(race.release for race in races))
    lines = [f"| test | {' | '.join(releases)} |", "| --- |" + " --- |" * len(releases)]
    for name in dict.fromkeys(race.test.name for race in races):
        cells = (_cell(next((r for r in races if (r.test.name, r.release) == (name, release)), None))
                 for release in releases)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(race: Race | None) -> str:
    if race is None:
        return ""
    if race.status == NOT_OBSERVABLE:
        return f"{race.answer} -"
    seen = sum(course.outcome is not None for course in race.courses)
    mark = {DISAGREE: "DIFFERS", NOT_SEEN: "not seen"}.get(race.status, "+")
    return f"{race.answer} {mark}, {len(race.shown)} of {seen}"


def to_json(races: Iterable[Race]) -> list[dict[str, Any]]:
    """The same as data."""
    return [
        {
            "litmus": race.test.name, "release": race.release, "kernel": race.kernel, "model": race.answer,
            "status": race.status, "reason": reason_of(race), "first_order_of": race.source,
            "courses": [
                {"order": orders.shown(course.order), "seconds": round(course.seconds, 2), "reason": course.reason,
                 "observed": shown_outcome(course.outcome) if course.outcome else "",
                 "went": [dataclasses.asdict(went) for went in course.went]}
                for course in race.courses
            ],
        }
        for race in races
    ]  # fmt: skip
