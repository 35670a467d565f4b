"""Exploration spread over several machines by Ray, an optional dependency: what `explore` finds, in parts.

A hash of a state says which part keeps it. Level by level each part expands its states in pieces and sends what follows
to the parts that keep it. After each level the driver keeps the states that were new; when a part is lost, another one
is made of them, and the level begins anew: what the others have of the next level already does no harm.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from model.logic import ModelError, Scope, System
from proofs.engine import Claim, Exploration
from proofs.errors import OutOfMemory
from proofs.explore import code
from proofs.explore.memory import CHUNK, NONE, Key
from proofs.explore.paths import predecessors, shortest_paths
from proofs.explore.progress import Checkpoint, Progress, Standing, expected_states
from proofs.explore.search import ALL_VIOLATED, Model

Item = TypeVar("Item")
Result = TypeVar("Result")
States = np.ndarray[Any, Any]
"""One row of words for each."""
RESTARTS = 5
"""Times that lost parts are made anew before we give up."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_BACKEND_LOG_LEVEL": "fatal",
}


@dataclass(frozen=True)
class ClusterTask:
    """What to explore. `make`: gives the system and the claims, on whatever machine it is called; it can be pickled."""

    make: Callable[[], tuple[System, Sequence[Claim]]]
    scope: Scope
    reduce: bool = True

    def model(self) -> Model:
        """The model that is asked about."""
        system, claims = self.make()
        return Model(system, self.scope, claims, self.reduce)


def owner(states: States, parts: int) -> np.ndarray[Any, Any]:
    """The number of the part that keeps each state; it has nothing in common with the hash of the table."""
    mixed = np.zeros(len(states), np.uint64)
    for word in states.T:
        mixed = (mixed ^ word) * np.uint64(0xD6E8FEB86659FD93)
        mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xA0761D6478BD642F)
    owners: np.ndarray[Any, Any] = (mixed >> np.uint64(40)) % np.uint64(parts)
    return owners


class Part:
    """The states of one part, and what it does when the driver asks. `levels`: its shares of those that are whole."""

    def __init__(self, question: ClusterTask, number: int, parts: int, memory: int) -> None:
        self.model = question.model()
        self.number = number
        self.parts = parts
        self.memory = memory
        self.code = code.Code(self.model.assembly)
        self.store = self.model.room(memory)
        self.levels: list[int] = []
        self.low = 0
        self.fired = [np.zeros(max(1, len(self.model.steps)), np.int64)]
        """How often each rule instance had been taken when the last of so many levels was begun."""

    def begin(self, kept: tuple[States, Standing] | None) -> int:
        """Take up what was kept of this part, or its share of the initial state; gives `pending`."""
        if kept is None:
            first = self.model.first
            return self.add(first[owner(first, self.parts) == self.number])
        states, standing = kept
        self.store.enter(states, self.code)
        self.store.restore(standing)
        self.levels = list(standing.levels)
        self.fired = [np.array(standing.fired, np.int64)] * (len(self.levels) + 1)
        return self.rewind(len(self.levels))

    def rewind(self, levels: int) -> int:
        """Begin to expand the last of so many levels anew; gives `pending`."""
        del self.levels[levels:], self.fired[levels + 1 :]
        self.low = sum(self.levels[:-1])
        self.store.workers[0].fired[:] = 0
        return self.pending()

    def pending(self) -> int:
        """States that the next level has so far."""
        return self.store.count - sum(self.levels)

    def expand(self) -> tuple[Any, ...]:
        """Expand the next piece of the last level: whether that was all, and for each part the states that follow."""
        high = sum(self.levels)
        piece = np.ascontiguousarray(self.store.queue[:, self.low : min(high, self.low + CHUNK)].T)
        self.low += len(piece)
        following = piece[:0]
        if len(piece):
            near = self.model.room(self.memory)
            near.enter(piece, self.code)
            low = 0
            while low < len(piece):
                low = near.expand(self.code, low, len(piece))
                if near.full:
                    near.grow(self.code)
            self.store.workers[0].fired += near.workers[0].fired
            following = np.ascontiguousarray(near.queue[:, len(piece) : near.count].T)
        owners = owner(following, self.parts)
        return self.low >= high, *(following[owners == part] for part in range(self.parts))

    def add(self, *several: States) -> int:
        """Keep those that are new; gives `pending`."""
        for states in several:
            self.store.add(states, self.code)
        return self.pending()

    def look(self, broken: Sequence[int]) -> tuple[dict[int, Key], list[int], list[int]]:
        """The claims in the next level: the least state that breaks each that was not `broken` before; for each claim
        whether its premise was ever met; how often each rule instance was taken.
        """
        if self.pending():
            self.store.inspect(self.code, sum(self.levels), broken)
        claims = range(len(self.model.claims))
        found = {c: self.store.first_key(c) for c in claims if c not in broken and self.store.first[c][-1] != NONE}
        fired = self.fired[-1] + self.store.workers[0].fired.astype(np.int64)
        return found, self.store.workers[0].seen.tolist(), fired.tolist()

    def close(self, broken: Sequence[int]) -> tuple[dict[int, Key], list[int], list[int], States]:
        """The next level is whole: what `look` says, and its states."""
        found, seen, fired = self.look(broken)
        high = sum(self.levels)
        self.levels.append(self.pending())
        self.fired.append(np.array(fired, np.int64))
        self.store.workers[0].fired[:] = 0
        self.low = high
        return found, seen, fired, np.ascontiguousarray(self.store.queue[:, high : self.store.count].T)

    def before(self, depth: int, targets: Sequence[Key]) -> dict[Key, Key]:
        """For each of the states of that level the least of this part from which a step leads to it, if any does."""
        starts = list(itertools.accumulate(self.levels, initial=0))
        return predecessors(self.store, self.code, starts[depth - 1], starts[depth], targets)

    def used(self) -> int:
        """Bytes in use."""
        return self.store.bytes


def connected(address: str) -> Any:
    """The module `ray`, connected: `local` or `local:N` starts it here with N workers, 2 if not said; anything else is
    the address of a cluster that runs. Raises ModelError.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # noqa: PLC0415
    except ImportError:
        raise ModelError("--cluster needs Ray: pip install 'cow-proofs[cluster]'") from None
    kind, _, number = address.partition(":")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if kind == "local":
        if number and (not number.isdigit() or not 0 < int(number) <= 1024):
            raise ModelError(f"--cluster local:N takes a number of workers, not {number!r}")
        options |= {"num_cpus": int(number or 2), "include_dashboard": False}
    else:
        options |= {"address": address}
    try:
        if not ray.is_initialized():
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ModelError(f"no Ray cluster at {address!r}: {str(error).strip().splitlines()[0]}") from None
    return ray


def each_done(
    ray: Any, function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Result]]:
    """As `pool.each_done`, on the cluster; Ray does again what was lost with a machine."""

    def called(item: Item) -> Result:
        return function(item)

    remote = ray.remote(max_retries=3)(called)
    asked = {remote.remote(item): item for item in items}
    left = list(asked)
    try:
        while left:
            [done], left = ray.wait(left)
            yield asked[done], ray.get(done)
    finally:
        for waiting in left:
            ray.cancel(waiting)


def explore(
    ray: Any, question: ClusterTask, *, timeout: float | None = None, memory: int = 8 << 30,
    stop_at_violations: bool = False, progress: Callable[[Progress], None] | None = None,
    checkpoints: Path | None = None, parts: int | None = None,
    level_done: Callable[[Sequence[int], Sequence[Any]], None] = lambda levels, actors: None,
) -> Exploration:
    """What `explore.explore` finds, on a cluster: the same verdicts, counts and paths.

    `ray`: see `connected`. `memory` in bytes for each of `parts`, of which there are as many as processors unless
    said. `timeout` in seconds, looked at between pieces. `checkpoints`: a folder from where the same exploration in as
    many parts goes on. `level_done` is told the levels so far, and Ray's actors. Raises ModelError if what was kept
    does not fit the memory, and OSError if the folder cannot be written.
    """
    number = parts or max(1, int(ray.cluster_resources().get("CPU", 1)))
    with contextlib.ExitStack() as ending:
        folder = checkpoints or Path(ending.enter_context(tempfile.TemporaryDirectory()))
        run = _Run(ray, question, folder, number, memory, time.monotonic(), timeout, progress)
        ending.callback(run.end)
        return run.finish(stop_at_violations, level_done)


class _Lost(Exception):
    """A part is gone."""


@dataclass
class _Share:
    """What the driver knows of a part up to the last whole level; its states are in the checkpoint's file."""

    checkpoint: Checkpoint
    states: int = 0
    levels: list[int] = field(default_factory=list)


class _Run:
    """An exploration under way, seen by the driver."""

    def __init__(
        self, ray: Any, question: ClusterTask, folder: Path, number: int, memory: int, started: float,
        timeout: float | None, progress: Callable[[Progress], None] | None,
    ) -> None:
        self.ray = ray
        self.model = question.model()
        self.started = started
        self.timeout = timeout
        self.progress = progress
        digest = self.model.assembly.digest
        self.shares = [
            _Share(Checkpoint(folder, f"{digest} part {n} of {number}", self.model.words)) for n in range(number)
        ]
        part = ray.remote(max_restarts=0, num_cpus=1)(Part)
        self.make: Callable[[int], Any] = lambda n: part.remote(question, n, number, memory)
        self.actors = [self.make(n) for n in range(number)]
        self.restarts = 0
        self.levels: list[int] = []
        self.broken: dict[int, int] = {}
        self.first: dict[int, Key] = {}
        self.seen = [0] * len(self.model.claims)
        self.fired = [0] * len(self.model.steps)
        self.earlier = 0.0

    def end(self) -> None:
        """End the parts' processes."""
        for actor in self.actors:
            self.ray.kill(actor)

    def finish(
        self, stop_at_violations: bool, level_done: Callable[[Sequence[int], Sequence[Any]], None]
    ) -> Exploration:
        """Explore, from what was kept if there is any, and find the paths."""
        pending = self._begin()
        expanded = not self.levels
        stopped = ""
        while True:
            try:
                if not expanded:
                    pending, stopped = self._expand()
                    expanded = not stopped
                if stopped or not pending:
                    self._note(self._ask("look", list(self.broken)))
                    break
                self._close(pending)
                pending, expanded = 0, False
                level_done(self.levels, self.actors)
                if stop_at_violations and len(self.broken) == len(self.model.claims):
                    stopped = ALL_VIOLATED
                    break
                if stopped := self._out_of_time():
                    break
            except _Lost:
                pending, expanded = self._replace_lost(), not self.levels
        if stopped in ("", ALL_VIOLATED):
            for share in self.shares:
                share.checkpoint.discard()
        return self._result(pending, stopped)

    def _begin(self) -> int:
        kept = [share.checkpoint.load() for share in self.shares]
        standings = [each[1] for each in kept if each is not None]
        if len(standings) == len(self.shares) and len({len(s.levels) for s in standings}) == 1:
            for share, standing in zip(self.shares, standings, strict=True):
                share.states, share.levels = standing.states, standing.levels
            self.levels = [sum(level) for level in zip(*(s.levels for s in standings), strict=True)]
            self.broken = standings[0].broken
            self.first = {claim: tuple(standings[0].first[claim]) for claim in self.broken}
            self.earlier = standings[0].seconds
        else:
            kept = [None] * len(self.shares)
            for share in self.shares:
                share.checkpoint.discard()
        try:
            return sum(self._get([a.begin.remote(k) for a, k in zip(self.actors, kept, strict=True)]))
        except OutOfMemory as error:
            raise ModelError(f"what was kept does not fit: {error}") from None
        except _Lost:
            return self._replace_lost()

    def _expand(self) -> tuple[int, str]:
        """Expand the last level: states of the next one, and why it ended early, if it did."""
        number = len(self.actors)
        expected = expected_states(self.levels)
        while True:
            sent = [actor.expand.options(num_returns=number + 1).remote() for actor in self.actors]
            added = [actor.add.remote(*(parts[n + 1] for parts in sent)) for n, actor in enumerate(self.actors)]
            try:
                pending = sum(self._get(added))
                done = all(self._get([parts[0] for parts in sent]))
            except OutOfMemory as error:
                return sum(self._ask("pending")), f"out of memory: {error}"
            if done:
                return pending, ""
            seconds = time.monotonic() - self.started
            if self.progress:
                states, expanded = sum(self.levels), sum(self.levels[:-1])
                self.progress(Progress(
                    tuple(self.levels), states + pending, expanded, self.earlier + seconds, sum(self._ask("used")),
                    expected,
                ))
            if stopped := self._out_of_time():
                return pending, stopped

    def _out_of_time(self) -> str:
        """Why to stop, if the time is over."""
        over = self.timeout is not None and time.monotonic() - self.started > self.timeout
        return f"out of time after {self.timeout:g} s" if over else ""

    def _note(self, answers: Sequence[Sequence[Any]]) -> None:
        """Take what the parts say of the claims in the level after those known."""
        for found, *_ in answers:
            for claim, key in found.items():
                if self.broken.setdefault(claim, len(self.levels)) == len(self.levels):
                    self.first[claim] = min(key, self.first.get(claim, key), key=lambda words: words[::-1])
        self.seen = [sum(each) for each in zip(*(seen for _, seen, *_ in answers), strict=True)]
        self.fired = [sum(each) for each in zip(*(fired for _, _, fired, *_ in answers), strict=True)]

    def _close(self, pending: int) -> None:
        """The next level, of so many states, is whole: keep it."""
        answers = self._ask("close", list(self.broken))
        self._note(answers)
        self.levels.append(pending)
        none = [int(NONE)] * self.model.words
        first = [list(self.first.get(c, none)) for c in range(len(self.model.claims))]
        seconds = self.earlier + time.monotonic() - self.started
        for share, (_, seen, fired, new) in zip(self.shares, answers, strict=True):
            share.states += len(new)
            share.levels.append(len(new))
            standing = Standing(share.states, share.levels, 0, self.broken, first, fired, seen, seconds)
            share.checkpoint.append([new], standing)

    def _ask(self, what: str, *arguments: Any) -> list[Any]:
        """All parts' answers. Raises _Lost, and OutOfMemory as a part does."""
        answers: list[Any] = self._get([getattr(actor, what).remote(*arguments) for actor in self.actors])
        return answers

    def _get(self, asked: Any) -> Any:
        try:
            return self.ray.get(asked)
        except (self.ray.exceptions.RayActorError, self.ray.exceptions.ObjectLostError) as error:
            raise _Lost(str(error)) from None

    def _replace_lost(self) -> int:
        """New parts for those that are gone, from what was kept; all begin the last whole level anew. Gives the states
        of the level after it. Raises ModelError when it happens again and again.
        """
        why = ""
        while True:
            self.restarts += 1
            if self.restarts > RESTARTS:
                raise ModelError(f"parts of the cluster were lost {self.restarts} times{why}")
            pending = 0
            try:
                for number, actor in enumerate(self.actors):
                    try:
                        pending += self._get(actor.rewind.remote(len(self.levels)))
                    except _Lost:
                        self.actors[number] = self.make(number)
                        kept = self.shares[number].checkpoint.load()
                        pending += self._get(self.actors[number].begin.remote(kept))
                return pending
            except _Lost as lost:
                why = f": {str(lost).strip().splitlines()[-1].strip()}"

    def _before(self, depth: int, targets: Sequence[Key]) -> dict[Key, Key]:
        while True:
            try:
                found: dict[Key, Key] = {}
                for answer in self._ask("before", depth, targets):
                    for state, key in answer.items():
                        found[state] = min(key, found.get(state, key), key=lambda words: words[::-1])
                return found
            except _Lost:
                self._replace_lost()

    def _result(self, pending: int, stopped: str) -> Exploration:
        paths = shortest_paths({self.first[claim]: depth for claim, depth in self.broken.items()}, self._before)
        fired = self.model.fired(self.fired)
        return Exploration(
            self.model.findings(paths, self.first, self.seen), not stopped, stopped, sum(self.levels) + pending,
            sum(fired.values()), len(self.levels) - 1, tuple(self.levels), fired,
            self.earlier + time.monotonic() - self.started,
        )
