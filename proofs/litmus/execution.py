"""Litmus tests: can this sequence of operations, on that kernel, end like this?

`parse` reads the language, `answer` explores every execution on the reference interpreter. What an operation is made of
is in model/operations.py; here is nothing of any one kernel.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import z3

from model.fault import backing_read, map_backing, map_huge_zero
from model.huge import huge_fault
from model.kernels import Kernel
from model.logic import RuleTemplate, StateFunction, System, Term
from model.operations import FAILS, GIVES_UP, TAILS, WHEN_TRYLOCK_FAILS, blocks, faults, last_stage
from model.state import pte_write, vma_write
from proofs.derive.interpreter import Instance, Interpreter, State, interpreter_of
from proofs.errors import LitmusError
from proofs.litmus.facts import asked_of, elements, slots_used
from proofs.litmus.instances import Instances, Stuck, Tried, lacking, left_out
from proofs.litmus.language import Litmus, Statement
from proofs.litmus.parser import MOST_FAULTS
from proofs.litmus.start import declared_cells
from proofs.traces.trace import Trace, execute


class Answer(StrEnum):
    """What a test's question got: `exists` Allowed or Forbidden, `never` and `always` Holds or Broken."""

    ALLOWED = "Allowed"
    FORBIDDEN = "Forbidden"
    HOLDS = "Holds"
    BROKEN = "Broken"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Result:
    """The answer. `trace`: a shortest execution that shows Allowed or Broken. `reason`: why it is UNKNOWN, or which
    executions the model could not follow. `executions`: how many different ones came to an end."""

    answer: Answer
    trace: Trace | None
    reason: str
    executions: int


class Situation(NamedTuple):
    """What operations find: a state, and whether the next attempt to lock a page will fail."""

    state: State
    lock_fails: bool = False


class End(NamedTuple):
    """Where an execution ended. `refused`, `blocked`: numbers (0-based) of the operations that were, or that wait.

    `steps`: what each operation did, as (its number, rule step).
    """

    situation: Situation
    refused: frozenset[int]
    blocked: frozenset[int]
    steps: tuple[tuple[int, Instance], ...]


class _Progress(NamedTuple):
    """How far an operation is.

    part          number of the part that is next; how many there are when it is finished
    prepared      how many preparations are behind it
    tried         its quick rule has had its try
    rule, role    the rule in whose sub-steps it is, and what for: `prepares`, `goal`, `fault`; `then`: after the goal
    behind        how many of the rules after the goal are behind it
    bound         parameters that it goes on with
    faults        rules it took on the way
    waits         for the userfaultfd monitor
    """

    part: int = 0
    prepared: int = 0
    tried: bool = False
    rule: str = ""
    role: str = ""
    behind: int = 0
    bound: tuple[tuple[str, int], ...] = ()
    faults: int = 0
    waits: bool = False


class _Point(NamedTuple):
    """How far an execution is: at which group of statements, and how far each of its operations is."""

    state: State
    at: int
    progress: tuple[_Progress, ...]
    lock_fails: bool = False
    refused: frozenset[int] = frozenset()


class _Move(NamedTuple):
    """What an operation may do next: a rule's step, or None where nothing changes, and how far it is then."""

    step: Instance | None
    progress: _Progress
    refused: bool = False
    lock_fails: bool | None = None


def answer(litmus: Litmus, kernel: Kernel, system: System) -> Result:
    """Explore all executions of the test on the kernel; `system` is `kernel.system(litmus.features)`, or has more.
    Raises LitmusError as Run does."""
    return Run(litmus, kernel, interpreter_of(system, litmus.scope())).result()


def answer_of(litmus: Litmus, conditions: Iterable[bool], stuck: str) -> Answer:
    """The answer to a test whose executions end with these truths of its condition. `stuck`: why one has no end."""
    wanted = litmus.mode != "always"
    exists = litmus.mode == "exists"
    if wanted in conditions:
        return Answer.ALLOWED if exists else Answer.BROKEN
    if stuck:
        return Answer.UNKNOWN
    return Answer.FORBIDDEN if exists else Answer.HOLDS


class Outcome(NamedTuple):
    """How an execution may end, as far as its processes can tell: refused and blocked operations, counted from 1."""

    refused: frozenset[int]
    blocked: frozenset[int]
    condition: bool


def outcomes(litmus: Litmus, kernel: Kernel, system: System) -> tuple[frozenset[Outcome], str]:
    """Every outcome that some execution has, and why the model cannot follow one of them (empty if it can).

    As `answer`.
    """
    run = Run(litmus, kernel, interpreter_of(system, litmus.scope()))
    ends, reason = run.explore(run.start)
    return frozenset(run.outcome(end) for end in ends), reason or left_out(kernel, system)


def _next_part(progress: _Progress) -> _Progress:
    return _Progress(progress.part + 1)


def _refused(statement: Statement, progress: _Progress, step: Instance | None) -> _Move:
    """The call ends with an error. What the kernel does to each page by itself goes on with the next part, and so does
    what passes over holes."""
    goes_on = statement.operation.on_frame or statement.operation.passes_over
    return _Move(step, _Progress(progress.part + 1 if goes_on else len(statement.parts)), refused=True)


class Run:
    """One test on one kernel: breadth-first over rule steps, so the first end found is a shortest one.

    The interpreter's scope may be larger than the test's. Raises LitmusError if the test needs what the model or the
    system lacks.
    """

    def __init__(self, litmus: Litmus, kernel: Kernel, interpreter: Interpreter, tried: Tried | None = None) -> None:
        if litmus.missing:
            raise LitmusError(litmus.missing)
        self.litmus = litmus = litmus.on(kernel)
        self.kernel = kernel
        self.interpreter = interpreter
        self.tried = tried
        self.groups = litmus.groups
        self.lacking, self.own = lacking(litmus, kernel), {o.word for o in kernel.own_operations}
        self.instances = self.known_instances()
        self.stages = self.instances.stages
        self.elements = elements(interpreter.scope)
        self.last = {last_stage(names) for names in self.stages.values()}
        self.start = Situation(self.start_state())
        self.came: dict[_Point, tuple[_Point, Instance | None, int]] = {}

    def known_instances(self) -> Instances:
        return Instances(self.interpreter, self.tried)

    def start_state(self) -> State:
        """The initial state, with the attributes of the declared pages and what they map from the start."""
        pages = self.litmus.pages
        cells = declared_cells(self.litmus, self.kernel, self.interpreter.layout)
        state = self.with_cells(self.interpreter.initial(), cells)
        # Without the rule, reads of untouched pages return zero without a page.
        declared = any("zero" in page.attributes for page in pages)
        used = "zero" in self.litmus.features and backing_read.name in self.instances.rules
        if self.litmus.anonymous and (declared or used):
            state = self.executed(backing_read, self.litmus.anonymous[0], state)
        for number, page in enumerate(pages):
            zero = "zero" in page.attributes
            if "huge" in page.attributes and page.name == f"{page.whole}.0":
                state = self.executed(map_huge_zero if zero else huge_fault, number, state)
            elif zero and "huge" not in page.attributes:
                state = self.executed(map_backing, number, state)
        return self.with_cells(state, {
            (function, (0, number)): False
            for number, page in enumerate(pages) if "rdonly" in page.attributes
            for function in (vma_write, pte_write)
        })

    def with_cells(self, state: State, cells: Mapping[tuple[StateFunction, tuple[int, ...]], int]) -> State:
        """The state with other values in those cells: (state function, index) to value."""
        changed, layout = list(state), self.interpreter.layout
        for (function, index), value in cells.items():
            if not layout.has(function):
                raise LitmusError(f"{self.litmus.filename}: {self.kernel.name} was built without {function}")
            changed[layout.place(function, *index)] = int(value)
        return self.interpreter.canonical(tuple(changed))

    def executed(self, rule: RuleTemplate, page: int, state: State) -> State:
        """The state after the first process took the rule at that page."""
        steps = self.instances.enabled((rule.name,), {"p": 0, "v": page}, state)
        if not steps:
            raise LitmusError(f"{self.litmus.filename}: {self.kernel.name} was built without {rule.name}")
        return self.interpreter.step(steps[0], state)

    def result(self) -> Result:
        return self.result_of(*self.explore(self.start))

    def result_of(self, ends: list[_Point], reason: str) -> Result:
        """The answer, from what `explore` found."""
        reason = reason or left_out(self.kernel, self.interpreter.system)
        wanted = self.litmus.mode != "always"
        shown = next((end for end in ends if self.ends_in_condition(end) == wanted), None)
        answer = answer_of(self.litmus, [not wanted] if shown is None else [wanted], reason)
        return Result(answer, None if shown is None else self.trace(shown, answer), reason, len(ends))

    def ends(self, start: Situation | None = None) -> tuple[list[End], str]:
        """The ends of all executions from there, or from the test's start, nearest first; why the first one stuck."""
        points, reason = self.explore(start or self.start)
        return [self.end_of(point) for point in points], reason

    def end_of(self, point: _Point) -> End:
        situation = Situation(point.state, point.lock_fails)
        return End(situation, point.refused, frozenset(self.waiting(point)), tuple(self.steps_to(point)))

    def explore(self, situation: Situation) -> tuple[list[_Point], str]:
        """The ends of all executions as points, nearest first, and why the first one not followed stopped."""
        ends = []
        reason = ""
        start = _Point(situation.state, 0, self.beginning(0), situation.lock_fails)
        self.came = {}
        seen = {start}
        queue = deque([start])
        while queue:
            point = queue.popleft()
            try:
                successors = self.successors(point)
            except Stuck as stuck:
                reason = reason or str(stuck)
                continue
            if not successors:
                ends.append(point)
            for step, number, after in successors:
                if after in seen:
                    continue
                seen.add(after)
                self.came[after] = (point, step, number)
                # What takes no step comes before what takes one.
                (queue.append if step else queue.appendleft)(after)
        return ends, reason

    # One step

    def beginning(self, at: int) -> tuple[_Progress, ...]:
        """The operations of a group, none of which has begun; empty beyond the last one."""
        return (_Progress(),) * len(self.groups[at]) if at < len(self.groups) else ()

    def unfinished(self, point: _Point) -> list[int]:
        """Numbers of the statements of the present group that are not done, nor refused."""
        if not point.progress:
            return []
        return [
            number for number, progress in zip(self.groups[point.at], point.progress, strict=True)
            if progress.part < len(self.litmus.statements[number].parts)
        ]

    def successors(self, point: _Point) -> list[tuple[Instance | None, int, _Point]]:
        """What may come next: a rule's step, or None where nothing changes, and the number of its statement.

        Empty at the end: everything is done, or what is not waits for the userfaultfd monitor. Raises Stuck.
        """
        unfinished = self.unfinished(point)
        found = [
            (move.step, number, self.moved(point, number, move)) for number in unfinished
            for move in self.moves(number, point)
        ]
        for number in unfinished if not found else ():
            if number not in self.waiting(point):
                statement = self.litmus.statements[number]
                raise Stuck(f"line {statement.line}: no rule of {self.kernel.name} applies to `{statement.text}`")
        return found

    def waiting(self, point: _Point) -> list[int]:
        """Numbers of the statements that wait for the userfaultfd monitor."""
        return [n for n in self.unfinished(point) if point.progress[n - self.groups[point.at][0]].waits]

    def moved(self, point: _Point, number: int, move: _Move) -> _Point:
        """The point after an operation's move; the next group's beginning if it was the last of its group."""
        place = number - self.groups[point.at][0]
        after = point._replace(
            progress=(*point.progress[:place], move.progress, *point.progress[place + 1:]),
            refused=point.refused | ({number} if move.refused else set()),
            lock_fails=point.lock_fails if move.lock_fails is None else move.lock_fails,
            state=self.interpreter.step(move.step, point.state) if move.step else point.state,
        )
        if self.unfinished(after):
            return after
        return after._replace(at=point.at + 1, progress=self.beginning(point.at + 1))

    def moves(self, number: int, point: _Point) -> Iterator[_Move]:
        """What the operation may do next; nothing while it waits for others. Raises Stuck."""
        statement, progress = self.litmus.statements[number], point.progress[number - self.groups[point.at][0]]
        operation, part, state = statement.operation, statement.parts[progress.part], point.state
        given = {**part, **dict(progress.bound)}
        if number in self.lacking:
            yield _Move(None, _Progress(len(statement.parts)))
        elif operation.word == "trylock-fails":
            yield _Move(None, _next_part(progress), lock_fails=True)
        elif progress.rule:
            later = self.instances.enabled(self.stages[progress.rule][1:], given, state)
            yield from (self.taken(step, progress.role, statement, progress) for step in later)
        elif progress.role == "then":
            after = self.instances.enabled(operation.then[progress.behind:progress.behind + 1], given, state)
            on = progress._replace(behind=progress.behind + 1)
            over = on if on.behind < len(operation.then) else _next_part(progress)
            yield from (_Move(step, over) for step in after or (None,))
        elif not (progress.waits and self.instances.enabled(blocks(operation.access, self.kernel), given, state)):
            progress = progress._replace(waits=False)
            perhaps = self.instances.enabled(operation.perhaps, given, state)
            yield from (self.taken(step, "goal", statement, progress) for step in perhaps)
            yield from self.attempt(statement, progress, point)

    def attempt(self, statement: Statement, progress: _Progress, point: _Point) -> Iterator[_Move]:
        """The rules for the first thing of an operation's course for which there is one. Raises Stuck."""
        operation, part, state = statement.operation, statement.parts[progress.part], point.state
        begins = len(statement.parts) > 1 and progress == _Progress()
        for role, names in (("whole", operation.at_once), ("refuse", operation.at_once_refusal)) if begins else ():
            if at_once := self.instances.enabled(names, part, state):
                yield from (self.taken(step, role, statement, progress) for step in at_once)
                return
        first = operation.refusal if operation.refused_first else ()
        for role, names in () if progress.prepared else (("goal", operation.nothing), ("refusal", first)):
            if steps := self.instances.enabled(names, part, state):
                yield from (self.taken(step, role, statement, progress) for step in steps)
                return
        preparations = [(rule, name) for rule in operation.prepares for name in "vw" if name in part]
        for rule, name in preparations[progress.prepared:]:
            given = {**part, **self.instances.there(part["p"], part[name], state)}
            steps = self.instances.enabled((rule,), given, state) if "f" in given or not operation.on_frame else []
            if steps:
                yield from (self.taken(step, "prepares", statement, progress) for step in steps)
                return
            progress = progress._replace(prepared=progress.prepared + 1)
        there = self.instances.there(part["p"], part["v"], state) if operation.on_frame or operation.on_slot else {}
        given = {**part, **there, **dict(progress.bound)}
        if (operation.on_frame and "f" not in given) or (operation.on_slot and "s" not in given):
            yield _refused(statement, progress, None)
            return
        quick = () if progress.tried else (operation.quick,)
        progress = progress._replace(tried=True)
        for role, names, where in (
            ("goal", quick, given), ("goal", operation.goal, given), ("refusal", operation.refusal, given),
            ("block", blocks(operation.access, self.kernel), given),
            *(("fault", (name,), given) for name in operation.raises),
            *(("fault", tuple(n for n in names if len(statement.parts) == 1 or n not in operation.of_parts), where)
              for names in faults(operation.access, self.kernel)
              for where in (
                  [{**given, "v": v} for v in self.litmus.block_of(given["v"])] if operation.on_block else [given])),
            # Others may have undone a preparation.
            *(
                ("fault", (rule,), {**given, **self.instances.there(part["p"], part[name], state)})
                for rule, name in preparations
            ),
        ):
            steps = self.instances.enabled(names, where, state)
            if steps and role == "fault" and progress.faults == MOST_FAULTS:
                raise Stuck(f"line {statement.line}: on {self.kernel.name} `{statement.text}` faults for ever")
            for step in steps:
                instead = self.when_trylock_fails(step, where, point)
                move = self.taken(instead or step, role, statement, progress)
                yield move._replace(lock_fails=False) if instead else move
            if steps:
                return
        gone = operation.on_frame and there.get("f") != given["f"]
        if operation.word in self.own and not operation.refusal:
            yield _Move(None, _next_part(progress))
        elif gone or ((operation.on_frame or operation.on_slot) and not operation.refusal):
            yield _refused(statement, progress, None)

    def taken(self, step: Instance, role: str, statement: Statement, progress: _Progress) -> _Move:
        """The step of an operation that took it for that role, and how far it is then."""
        given = {name: value for name, value in step.binding if isinstance(value, int)}
        bound = tuple((dict(progress.bound) | given).items())
        rule, _, stage = step.rule.name.partition(".")
        over = progress._replace(rule="", role="", bound=())
        if stage in FAILS:
            return _refused(statement, progress, step)
        if stage in GIVES_UP:
            # What was to be prepared is not; the goal's rules say what that means.
            if role == "prepares":
                return _Move(step, over._replace(prepared=progress.prepared + 1))
            return _Move(step, over._replace(faults=progress.faults + 1))
        if stage and rule in TAILS:
            if f"{TAILS[rule]}.{stage}" in self.instances.rules:
                return _Move(step, progress._replace(rule=TAILS[rule], role=role, bound=bound))
            return _Move(step, over._replace(bound=bound))
        if stage and step.rule.name not in self.last:
            return _Move(step, progress._replace(rule=rule, role=role, bound=bound))
        match role:
            case "prepares":
                return _Move(step, over._replace(prepared=progress.prepared + 1))
            case "fault":
                return _Move(step, over._replace(faults=progress.faults + 1))
            case "refusal":
                return _refused(statement, progress, step)
            case "block":
                return _Move(step, over._replace(waits=True))
            case "whole" | "refuse":
                return _Move(step, _Progress(len(statement.parts)), refused=role == "refuse")
        slot = tuple((name, value) for name, value in bound if name == "s")
        if statement.operation.then and (slot or statement.operation.transient):
            return _Move(step, over._replace(role="then", bound=slot))
        return _Move(step, _next_part(progress))

    def when_trylock_fails(self, step: Instance, given: Mapping[str, int], point: _Point) -> Instance | None:
        """What the step becomes if it tries the page lock, and this is the attempt that fails."""
        if not point.lock_fails or step.rule.name not in WHEN_TRYLOCK_FAILS:
            return None
        return next(iter(self.instances.enabled((WHEN_TRYLOCK_FAILS[step.rule.name],), given, point.state)), None)

    # Ends

    @functools.cached_property
    def condition(self) -> Term:
        """The test's, over the elements of its facts."""
        meanings = ((fact.constant, fact.meaning()) for fact in self.litmus.facts)
        return self.interpreter.system.reduced(z3.substitute(self.litmus.condition, *meanings))

    def outcome(self, end: _Point) -> Outcome:
        return Outcome(*self.given_up(end), self.ends_in_condition(end))

    def given_up(self, end: _Point) -> tuple[frozenset[int], frozenset[int]]:
        """Numbers of the refused operations and of the blocked ones, counted from 1."""
        return frozenset(n + 1 for n in end.refused), frozenset(n + 1 for n in self.waiting(end))

    def ends_in_condition(self, point: _Point) -> bool:
        return self.holds(point, self.condition)

    def holds(self, point: _Point, meant: Term) -> bool:
        """Whether that, said of elements and of the test's facts about statements, is true there."""
        waiting, used = self.waiting(point), slots_used(self.interpreter, point.state)
        known = {"refused": {n + 1 for n in point.refused}, "blocked": {n + 1 for n in waiting}, "slots": {used}}
        outcomes = {
            str(fact.constant): fact.of[0] in known[fact.what] for fact in self.litmus.facts if fact.what in known
        }
        return bool(self.interpreter.evaluate(meant, point.state, self.elements | outcomes))

    def steps_to(self, end: _Point) -> list[tuple[int, Instance]]:
        """The steps of the execution that led to the point, each with the number of its statement."""
        steps: list[tuple[int, Instance]] = []
        point = end
        while point in self.came:
            point, step, number = self.came[point]
            if step is not None:
                steps.insert(0, (number, step))
        return steps

    def trace(self, end: _Point, verdict: str = "") -> Trace:
        """The execution that led to the point, executed again; `verdict`: the answer that it shows."""
        steps, text = self.steps_to(end), self.litmus.condition_text
        shown = f"not ({text})" if self.litmus.mode == "always" else text
        trace = execute(
            self.kernel.name, self.litmus.name, shown, self.interpreter.system, self.interpreter.scope,
            [step for _, step in steps], names=self.litmus.names(), start=self.start.state,
            notes=[self.litmus.statements[number].text for number, _ in steps],
        )
        return replace(trace, witness=asked_of(self.litmus.facts), verdict=str(verdict)) if verdict else trace
