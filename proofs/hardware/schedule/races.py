"""Tests of operations at the same time on a real kernel: in the model's order, then in those beside it.

Each order is a run of the test on the kernel, whose end is held against all outcomes that the model has. What came of
the orders of a test is told together: a kernel that does what the model has not differs; one that never did what the
model allows has not been seen to, in so many orders.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.logic import ModelError
from proofs import store
from proofs.errors import NotObservable
from proofs.hardware import reproducer
from proofs.hardware.conform import AGREE, DISAGREE, NOT_OBSERVABLE, expected_of
from proofs.hardware.needs import loses_lock, racing
from proofs.hardware.observing import observations
from proofs.hardware.schedule import orders, points
from proofs.hardware.schedule.controls import LOSES_LOCK, Control
from proofs.hardware.schedule.gdbstub import Gone
from proofs.hardware.schedule.machine import SteeredMachine, booted
from proofs.hardware.schedule.orders import Order
from proofs.hardware.schedule.points import TRYLOCK
from proofs.hardware.schedule.steering import Steering, Went
from proofs.litmus import execution, matrix
from proofs.litmus.execution import Outcome
from proofs.litmus.language import Litmus
from proofs.naming.specs import find_kernel, system_of, with_features

NOT_SEEN = "not-seen"
ORDERS = 20
"""Orders of a test that are tried on a kernel."""
_SECONDS = 90.0  # for a test to come to its operations at the same time, and from there to its end


@dataclass(frozen=True)
class RaceRequest:
    """What is asked of a kernel: `most` orders of a test, each `repeat` times, from `order` on (empty: from that of the
    model), without the protection that `control` takes away."""

    most: int = ORDERS
    order: str = ""
    repeat: int = 1
    control: Control | None = None


@dataclass(frozen=True)
class Course:
    """One run: in which order, how far threads came, how it ended (None if that was not seen, for `reason`)."""

    order: Order
    went: tuple[Went, ...]
    outcome: Outcome | None
    reason: str
    seconds: float

    @property
    def excluded(self) -> list[Went]:
        """Where a thread could not go on: another one had to, first."""
        return [went for went in self.went if not went.point]


@dataclass
class Race:
    """A test on a kernel: `kernel` of the model, its `answer` and all `expected` outcomes, why it may have others
    (`stuck`), the `first` order (empty if it cannot be steered), from whose trace that is (`source`), and what was run.
    With a `control` the kernel is another one than the model's: what the test asks about has to be seen."""

    test: Litmus
    release: str
    kernel: str
    answer: str
    expected: frozenset[Outcome]
    stuck: str
    source: str
    courses: list[Course] = field(default_factory=list)
    reason: str = ""
    control: Control | None = None
    first: Order = ()

    @property
    def wanted(self) -> bool:
        """The truth of the condition that the test is about: that it can be so, or that it is not."""
        return self.test.mode != "always"

    @property
    def possible(self) -> bool:
        """Whether the model can end so."""
        return any(outcome.condition == self.wanted for outcome in self.expected)

    @property
    def shown(self) -> list[Course]:
        """The runs that ended so."""
        return [course for course in self.courses if course.outcome and course.outcome.condition == self.wanted]

    @property
    def status(self) -> str:
        """AGREE, DISAGREE, NOT_SEEN or NOT_OBSERVABLE."""
        seen = [course.outcome for course in self.courses if course.outcome]
        if not seen or self.stuck:
            return NOT_OBSERVABLE
        if not self.control and any(outcome not in self.expected for outcome in seen):
            return DISAGREE
        return NOT_SEEN if (self.possible or self.control) and not self.shown else AGREE


def check(test: Litmus) -> None:
    """Raises NotObservable if no debugger can decide what comes first in that test."""
    if len([group for group in test.groups if len(group) > 1]) > 1 or not racing(test):
        raise NotObservable("a schedule is of one line with operations at the same time, which the test has not")
    reproducer.check_scheduled(test)


def first_order(race: Race) -> tuple[Order, frozenset[int]]:
    """The order of a shortest execution that ends as the test asks, on the kernel of the model, or on the nearest that
    can end so (`race.source`); and which threads' processors have the PTE in their TLBs. Where none is known that can,
    thread by thread."""
    for name in [race.kernel] if race.possible else _elsewhere(race.test, race.kernel):
        system = system_of(with_features(name, race.test.features))
        trace = execution.answer(race.test, find_kernel(name), system).trace
        if trace is not None:
            race.source = name
            return orders.of_trace(trace, race.test), orders.loads_of(trace, race.test)
    return orders.completed([], race.test), frozenset()


@functools.cache
def _suite() -> matrix.Suite:
    return matrix.read_suite()


def _elsewhere(test: Litmus, kernel: str) -> list[str]:
    """Kernels of which the suite expects that they can end as a test of its own asks, the nearest first."""
    expected = next((row.expected for row in _suite().rows if row.name == test.name), {})
    names = _suite().kernels
    at = names.index(kernel) if kernel in names else len(names)
    broken = (name for name, mark in expected.items() if mark == "B")
    return sorted(broken, key=lambda name: abs(names.index(name) - at))


def prepared(test: Litmus, release: str, kernel: str) -> Race:
    """What the model says of a test, before a kernel is asked."""
    expected, stuck = expected_of(test, kernel)
    answer = execution.answer_of(test, (outcome.condition for outcome in expected), stuck)
    return Race(test, release, kernel, str(answer), expected, stuck, "")


class Runner(contextlib.AbstractContextManager["Runner"]):
    """Runs tests on one kernel, in one machine as long as that goes well."""

    def __init__(self, vmlinuz: Path, tests: Sequence[Litmus]) -> None:
        self.vmlinuz, self.tests = vmlinuz, list(tests)
        self.text = reproducer.program(self.tests, end="scheduled") if tests else ""
        self.racers = max((len(racing(test)) for test in tests), default=0)
        self._open = contextlib.ExitStack()
        self._machine: SteeredMachine | None = None

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the machine."""
        self._machine = None
        self._open.close()

    def started(self) -> SteeredMachine:
        """The machine, booted if there is none. Raises ModelError, NotObservable and Gone as `booted`."""
        if self._machine is None:
            self._machine = self._open.enter_context(booted(self.vmlinuz, self.text, self.racers, store.user_cache()))
            self._machine.lines()
        return self._machine

    def run(
        self, test: Litmus, order: Order, loads: frozenset[int] = frozenset(), control: Control | None = None
    ) -> Course:
        """One run of a test in that order, without the protection that a control takes away. A machine that ends or
        hangs in it is a reason, and the next run has another one."""
        machine = self.started()
        start, went = time.monotonic(), list[Went]()
        try:
            steering = Steering(machine)
            if steering.begin(self.tests.index(test), len(racing(test)), loads, _SECONDS):
                went = list(_steered(steering, test, order, control))
            said = observations(steering.finish(_SECONDS)).get(test.name)
            taken = _taken_out(steering, test)
        except Gone as error:
            self.stop()
            return Course(order, tuple(went), None, str(error), time.monotonic() - start)
        outcome, reason = (said.outcome, said.reason) if said else (None, "the program said nothing of the test")
        if outcome:
            outcome = outcome._replace(refused=outcome.refused - taken)
        return Course(order, tuple(went), outcome, reason, time.monotonic() - start)


def _taken_out(steering: Steering, test: Litmus) -> frozenset[int]:
    """Statements, counted from 1, that paged a page out, though the program, which looks afterwards, may find that
    another thread has brought it back."""
    numbers = enumerate(racing(test), 1)
    return frozenset(
        number + 1 for thread, number in numbers
        if test.statements[number].operation.word == "pageout"
        and thread in steering.racers and "unmap" in steering.racers[thread].passed
    )


def _steered(steering: Steering, test: Litmus, order: Order, control: Control | None) -> Iterator[Went]:
    """Let the threads go in that order. One that has come further than it was to go stands until it is its turn."""
    statements, lost = orders.statements_of(test), loses_lock(test) is not None
    for number, statement in enumerate(statements, 1):
        racer = steering.racers[number]
        racer.effects = control.effects.get(statement.operation.word, ()) if control else ()
        racer.ends_in = points.NO_RETURN.get(statement.operation.word, "")
        if lost:
            racer.effects = (*racer.effects, LOSES_LOCK)
            steering.lock(racer)
    stuck = set[int]()  # threads that have waited since another one came further
    for number, point in order:
        racer, statement = steering.racers[number], statements[number - 1]
        names = orders.all_points(statement)
        if racer.over or number in stuck or (racer.reached and names.index(racer.reached) >= names.index(point)):
            continue
        went = steering.run_to(racer, points.points_of(statement)[names.index(point):])
        stuck = stuck | {number} if not went.point else set()
        if lost and racer.tried_in:
            lost = False
            yield Went(number, TRYLOCK.name, TRYLOCK.name, racer.tried_in)
        yield went
    for racer in steering.racers.values():
        steering.let_go(racer)


def run_orders(
    runner: Runner, race: Race, loads: frozenset[int], asked: RaceRequest, heard: Callable[[Course], None]
) -> None:
    """Run a test in its first order and in those beside it, and note the runs in `race`."""
    for each in itertools.islice(orders.around(race.first), asked.most):
        for _ in range(asked.repeat):
            course = runner.run(race.test, each, loads, asked.control)
            race.courses.append(course)
            heard(course)


def raced(
    tests: Sequence[Litmus], vmlinuz: Path, release: str, kernel: str, asked: RaceRequest,
    heard: Callable[[Race, Course], None] = lambda race, course: None,
) -> Iterator[Race]:
    """Each of the tests on the kernel of that image, held against that kernel of the model. Raises ModelError for an
    order that a test has not."""
    hopeless: dict[str, str] = {}
    tests = [test.on(find_kernel(kernel)) for test in tests]
    for test in tests:
        try:
            check(test)
        except NotObservable as error:
            hopeless[test.name] = str(error)
    missing = ""
    with Runner(vmlinuz, [test for test in tests if test.name not in hopeless]) as runner:
        for test in tests:
            race = prepared(test, release, kernel)
            race.control, race.reason = asked.control, hopeless.get(test.name, missing)
            if not race.reason:
                race.first, loads = first_order(race)
                if asked.order:
                    race.first, race.source = orders.parsed(asked.order, test), ""
                missing = _begun(runner)
                try:
                    if not missing:
                        run_orders(runner, race, loads, asked, functools.partial(heard, race))
                except (NotObservable, Gone) as error:
                    missing, race.reason = "", str(error)
                race.reason = race.reason or missing
            yield race


def _begun(runner: Runner) -> str:
    """Why the kernel runs no test at all; empty if it does."""
    try:
        runner.started()
    except (ModelError, Gone) as error:
        return str(error)
    return ""
