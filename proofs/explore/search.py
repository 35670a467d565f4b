"""Exhaustive breadth-first exploration of a scope by machine code: shortest counterexamples, or all states seen."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from model.logic import ModelError, Scope, System
from proofs.clock import done_by
from proofs.derive.ground import Grounder
from proofs.derive.interpreter import Instance, Interpreter
from proofs.derive.symmetry import symmetry_of
from proofs.engine import Claim, Exploration, Finding
from proofs.errors import OutOfMemory, OutOfTime
from proofs.explore import machine
from proofs.explore.code import Code
from proofs.explore.memory import CHUNK, Key, Memory, packed_number, packed_words
from proofs.explore.paths import predecessors, shortest_paths
from proofs.explore.progress import Checkpoint, Progress, Standing, expected_states, in_bytes, round_number

ALL_VIOLATED = "every claim is violated"
"""Why an exploration ended early that was told to look no further."""
TELL = 0.5
"""Seconds between two reports of progress."""
LEAST = 3.0
"""Seconds that making the machine code may take whatever the time limit: one that goes on later must get to a state."""


class Model:
    """A system in a scope with claims about it, ready to be explored.

    `reduce`: count states that differ by a renaming of elements as one. `assembly`: what its machine code is made
    from, on which all that is found depends. `first`: the representative of the initial state, as words.
    """

    def __init__(self, system: System, scope: Scope, claims: Sequence[Claim], reduce: bool) -> None:
        grounder = Grounder(system, scope)
        formulas = [grounder.formula(c.formula) for c in claims]
        premises = [grounder.formula(c.premise) for c in claims]
        symmetry = symmetry_of(grounder, [t for c in claims for t in (c.formula, c.premise)]) if reduce else None
        self.claims = claims
        self.grounder = grounder
        self.steps = grounder.steps()
        self.assembly = machine.assembly(grounder, self.steps, formulas, premises, symmetry)
        self.words = machine.state_words(grounder)
        self._represent = symmetry.canonical if symmetry else lambda state: state
        self._interpreter = Interpreter(system, scope)
        self._initial = self._interpreter.initial()
        self.first = packed_words([grounder.pack(self._represent(self._initial))], self.words)

    def room(self, memory: int, threads: int = 1) -> Memory:
        """Where states are kept, in at most `memory` bytes."""
        return Memory(self.words, len(self.steps), len(self.claims), memory, threads)

    def path(self, states: Sequence[Key]) -> tuple[Instance, ...]:
        """The steps of a path of representatives, as the reference interpreter takes them. Raises EngineError."""
        known = [self.grounder.unpack(packed_number(state)) for state in states[1:]]
        return self._interpreter.follow([self._initial, *known], self._represent)

    def fired(self, by_instance: Sequence[int]) -> dict[str, int]:
        """How often each rule was taken, of how often each of its instances was."""
        fired = {rule.name: 0 for rule in self.grounder.system.rules}
        for step, times in zip(self.steps, by_instance, strict=False):
            fired[step.instance.rule.name] += int(times)
        return fired

    def findings(
        self, paths: Mapping[Key, Sequence[Key]], first: Mapping[int, Key], seen: Sequence[int]
    ) -> tuple[Finding, ...]:
        """What is found of each claim. `first`: the nearest state that breaks it, by the claim's number."""
        steps = {end: self.path(states) for end, states in paths.items()}
        return tuple(
            Finding(claim, steps[first[i]] if i in first else None, not seen[i]) for i, claim in enumerate(self.claims)
        )


def explore(
    system: System, scope: Scope, claims: Sequence[Claim], *, timeout: float | None = None,
    memory: int = 8 << 30, stop_at_violations: bool = False, reduce: bool = True,
    threads: int = 1, progress: Callable[[Progress], None] | None = None, checkpoints: Path | None = None,
) -> Exploration:
    """Explore every state of `system` in `scope`, looking at every claim in each.

    `timeout` in seconds, `memory` in bytes. `stop_at_violations`: end once every claim is broken. `reduce`: count
    states that differ by a renaming of elements as one; verdicts and shortest lengths do not depend on it. `threads`
    that expand large levels together; nothing that is found depends on how many. `progress`: told now and then.
    `checkpoints`: a folder where an exploration that takes long, or runs out of time or memory, is kept, and from where
    the same one goes on. The system should be restricted to the claims' cone. Raises ModelError if what was kept does
    not fit the memory, and OSError if the folder cannot be written.
    """
    started = time.monotonic()
    deadline = None if timeout is None else started + max(timeout, LEAST)
    try:
        with done_by(deadline):
            model = Model(system, scope, claims, reduce)
            code = Code(model.assembly)
    except OutOfTime:
        unseen = tuple(Finding(claim, None, False) for claim in claims)
        fired = {rule.name: 0 for rule in system.rules}
        late = f"out of time after {timeout:g} s"
        return Exploration(unseen, False, late, 0, 0, -1, (), fired, time.monotonic() - started)
    store = model.room(memory, threads)
    checkpoint = Checkpoint(checkpoints, model.assembly.digest, store.words) if checkpoints else None
    run = _Run(model, code, store, started, timeout, checkpoint, progress)
    run.begin(checkpoints)
    run.search(len(claims) if stop_at_violations else None)
    if checkpoint and run.stopped in ("", ALL_VIOLATED):
        checkpoint.discard()
    return run.result()


class _Run:
    """An exploration under way.

    `levels`: the states of those begun; what lies behind them are states of the next one. `low`: states expanded.
    `broken`: the level in which each broken claim was, by its number. `earlier`: seconds of former runs.
    """

    def __init__(
        self, model: Model, code: Code, store: Memory, started: float, timeout: float | None,
        checkpoint: Checkpoint | None, progress: Callable[[Progress], None] | None,
    ) -> None:
        self.model, self.code, self.store = model, code, store
        self.started, self.timeout = started, timeout
        self.checkpoint, self.progress = checkpoint, progress
        self.levels: list[int] = []
        self.broken: dict[int, int] = {}
        self.low = 0
        self.earlier = 0.0
        self.stopped = ""
        self._saved = self._told = started

    def begin(self, folder: Path | None) -> None:
        """Take up what was kept in the folder, or the initial state. Raises ModelError if that does not fit."""
        if self.checkpoint is None or (kept := self.checkpoint.load()) is None:
            self.store.enter(self.model.first, self.code)
            return
        states, standing = kept
        try:
            self.store.enter(states, self.code)
        except OutOfMemory as error:
            raise ModelError(f"what was kept in {folder} does not fit: {error}") from None
        self.store.restore(standing)
        self.levels, self.broken, self.low = standing.levels, standing.broken, standing.expanded
        self.earlier = standing.seconds

    def search(self, enough: int | None) -> None:
        """Expand levels until there is no new state, so many claims are broken, or something runs out."""
        while True:
            high = sum(self.levels)
            self._expand(high)
            if self.stopped:
                self._keep_unfinished()
            if self.store.count == high:
                return
            for claim in self.store.inspect(self.code, high, self.broken):
                self.broken[claim] = len(self.levels)
            if self.stopped:
                return
            self.levels.append(self.store.count - high)
            if enough is not None and len(self.broken) == enough:
                self.stopped = ALL_VIOLATED
                return

    def _expand(self, high: int) -> None:
        """Expand the states before `high`, unless time or memory runs out."""
        while self.low < high and not self.stopped:
            self.low = self.store.expand(self.code, self.low, min(high, self.low + CHUNK))
            now = time.monotonic()
            if self.progress and now - self._told > TELL:
                self._told = now
                self.progress(self._reached(now))
            if self.checkpoint and now - self._saved > self.checkpoint.every:
                self.checkpoint.save(self.store.queue, self._standing())
                self._saved = time.monotonic()
            if self.timeout is not None and now - self.started > self.timeout:
                self.stopped = f"out of time after {self.timeout:g} s"
            elif self.store.full:
                try:
                    self.store.grow(self.code)
                except OutOfMemory as error:
                    self.stopped = f"out of memory: {error}"

    def _keep_unfinished(self) -> None:
        if expected := expected_states(self.levels):
            need = in_bytes(self.store.bytes_for(expected))
            self.stopped += f"; about {round_number(expected):,} states would need {need}"
        if self.checkpoint:
            self.checkpoint.save(self.store.queue, self._standing())

    def _standing(self) -> Standing:
        seconds = self.earlier + time.monotonic() - self.started
        return self.store.standing(self.levels, self.low, self.broken, seconds)

    def _reached(self, now: float) -> Progress:
        expected = expected_states(self.levels)
        need = self.store.bytes_for(expected) if expected else None
        return Progress(
            tuple(self.levels), self.store.count, self.low, self.earlier + now - self.started, self.store.bytes,
            expected, need, self.store.limit_bytes,
        )

    def result(self) -> Exploration:
        """What was found, with the nearest path to each violation."""
        first = {claim: self.store.first_key(claim) for claim in self.broken}
        starts = list(itertools.accumulate(self.levels, initial=0))

        def before(depth: int, targets: Sequence[Key]) -> dict[Key, Key]:
            return predecessors(self.store, self.code, starts[depth - 1], starts[depth], targets)

        paths = shortest_paths({first[claim]: depth for claim, depth in self.broken.items()}, before)
        fired = self.model.fired(self.store.fired.tolist())
        return Exploration(
            self.model.findings(paths, first, self.store.workers[0].seen.tolist()), not self.stopped, self.stopped,
            self.store.count, sum(fired.values()), len(self.levels) - 1, tuple(self.levels), fired,
            self.earlier + time.monotonic() - self.started,
        )
