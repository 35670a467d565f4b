"""Exhaustive breadth-first exploration of a scope by machine code: shortest counterexamples, or all states seen."""

from __future__ import annotations

import contextlib
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
WORTH_OPTIMISING = 60_000
"""States from which compiling better code pays."""


class Model:
    """A system in a scope with claims about it, ready to be explored.

    `reduce`: count states that differ by a renaming of elements as one. `text`: the machine code, on which all that is
    found depends. `first`: the representative of the initial state, as words.
    """

    def __init__(self, system: System, scope: Scope, claims: Sequence[Claim], reduce: bool) -> None:
        grounder = Grounder(system, scope)
        formulas = [grounder.formula(c.formula) for c in claims]
        premises = [grounder.formula(c.premise) for c in claims]
        symmetry = symmetry_of(grounder, [t for c in claims for t in (c.formula, c.premise)]) if reduce else None
        self.claims = claims
        self.grounder = grounder
        self.steps = grounder.steps()
        self.text = machine.assembly(grounder, self.steps, formulas, premises, symmetry)
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
            code = Code(model.text, optimised=False)
    except OutOfTime:
        unseen = tuple(Finding(claim, None, False) for claim in claims)
        fired = {rule.name: 0 for rule in system.rules}
        late = f"out of time after {timeout:g} s"
        return Exploration(unseen, False, late, 0, 0, -1, (), fired, time.monotonic() - started)
    store = model.room(memory, threads)
    checkpoint = Checkpoint(checkpoints, model.text, store.words) if checkpoints else None

    levels: list[int] = []
    broken: dict[int, int] = {}
    low = 0
    earlier = 0.0
    if checkpoint and (kept := checkpoint.load()):
        states, standing = kept
        try:
            store.enter(states, code)
        except OutOfMemory as error:
            raise ModelError(f"what was kept in {checkpoints} does not fit: {error}") from None
        store.restore(standing)
        levels, broken, low, earlier = standing.levels, standing.broken, standing.expanded, standing.seconds
    else:
        store.enter(model.first, code)

    def standing_now() -> Standing:
        return store.standing(levels, low, broken, earlier + time.monotonic() - started)

    saved = told = started
    expected = expected_states(levels)
    stopped = ""
    while True:
        # `levels` are those begun; what lies behind them are states of the next one.
        high = sum(levels)
        while low < high and not stopped:
            low = store.expand(code, low, min(high, low + CHUNK))
            now = time.monotonic()
            if progress and now - told > TELL:
                told = now
                need = store.bytes_for(expected) if expected else None
                progress(Progress(
                    tuple(levels), store.count, low, earlier + now - started, store.bytes, expected, need, memory
                ))
            if checkpoint and now - saved > checkpoint.every:
                checkpoint.save(store.queue, standing_now())
                saved = time.monotonic()
            if timeout is not None and now - started > timeout:
                stopped = f"out of time after {timeout:g} s"
            elif store.full:
                try:
                    store.grow(code)
                except OutOfMemory as error:
                    stopped = f"out of memory: {error}"
        if stopped:
            if expected:
                stopped += f"; about {round_number(expected):,} states would need {in_bytes(store.bytes_for(expected))}"
            if checkpoint:
                checkpoint.save(store.queue, standing_now())
        if store.count == high:
            break
        for claim in store.inspect(code, high, broken):
            broken[claim] = len(levels)
        if stopped:
            break
        levels.append(store.count - high)
        expected = expected_states(levels)
        if stop_at_violations and len(broken) == len(claims):
            stopped = ALL_VIOLATED
            break
        if not code.optimised and store.count > WORTH_OPTIMISING:
            with contextlib.suppress(OutOfTime), done_by(deadline):
                code = Code(model.text, optimised=True)
    if checkpoint and stopped in ("", ALL_VIOLATED):
        checkpoint.discard()

    first = {claim: store.first_key(claim) for claim in broken}
    starts = list(itertools.accumulate(levels, initial=0))

    def before(depth: int, targets: Sequence[Key]) -> dict[Key, Key]:
        return predecessors(store, code, starts[depth - 1], starts[depth], targets)

    paths = shortest_paths({first[claim]: depth for claim, depth in broken.items()}, before)
    fired = model.fired(store.fired.tolist())
    return Exploration(
        model.findings(paths, first, store.workers[0].seen.tolist()), not stopped, stopped, store.count,
        sum(fired.values()), len(levels) - 1, tuple(levels), fired, earlier + time.monotonic() - started,
    )
