"""Many litmus tests at random, asked of a kernel in batches of one boot each; what was asked is kept, so that an
interrupted run goes on from there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from model.features import WORLD
from model.logic import ModelError
from proofs.hardware import conform
from proofs.hardware.campaign import Campaign, Record
from proofs.hardware.conform import Conformance
from proofs.hardware.generate import Asked, Generator, able
from proofs.hardware.met import goals_of
from proofs.hardware.observing import Observation, finished, kernel_for
from proofs.hardware.shrink import KernelDifference, shrink
from proofs.litmus import execution
from proofs.litmus.execution import Outcome
from proofs.litmus.language import Litmus
from proofs.naming.specs import find_kernel

FIRST, BATCH = 100, 500
"""Tests of the first boot, before which nothing runs, and of each other one."""
Progress = Callable[[int, str], None]
"""Hears how many tests have been asked, and what is done now."""


class BatchRunner(Protocol):
    """What a kernel does in tests, by name; as `observing.run_in` of an image."""

    def __call__(
        self, tests: Sequence[Litmus], *, heard: Callable[[str], None], meanwhile: Callable[[], bool]
    ) -> Mapping[str, Observation]: ...


class Asking:
    """Tests at random for one kernel, made while a machine runs those before. `campaign` is what has been done, by this
    run and by those before it that the folder knows of."""

    def __init__(
        self, release: str, run: BatchRunner, seed: int, folder: Path, *, image: str = "", kernel: str = "",
        features: Collection[str] = WORLD, progress: Progress = lambda done, what: None,
    ) -> None:
        """`image`: hash of what is run. `kernel`: of the model, else the one that describes the release.

        Raises ModelError if there is none, or the folder's tests are others; OSError if nothing can be kept there.
        """
        name = kernel or kernel_for(release)
        goals = goals_of(name, able(find_kernel(name), features))
        self.campaign = Campaign(release, image, name, seed, tuple(sorted(features)), goals)
        self.generator = Generator(seed, goals, features)
        self.record = Record(folder / f"{release}-seed-{seed}.jsonl", self.campaign.head())
        self.campaign.recall(self.record, self.generator)
        self.run = run
        self.progress = progress
        self.number = 0
        self.ready: list[Asked] = []
        self.begun, self.before = time.monotonic(), len(self.campaign.asked)

    def go(self, number: int, *, first: int = FIRST, batch: int = BATCH) -> Campaign:
        """Ask so many tests in all, and make the differences smaller. What is done when it is interrupted is kept.

        Raises ModelError if no machine comes to a test.
        """
        self.number = number
        while (done := len(self.campaign.asked)) < number:
            self.progress(done, f"{self.campaign.release}: making tests")
            while self.prepare(first):
                pass
            self.batch(batch)
        self.shrink()
        return self.campaign

    def prepare(self, many: int) -> bool:
        """Make one more test, if there are not so many, nor enough; whether there is more to make."""
        if more := len(self.ready) < many and len(self.generator.known) < self.number:
            self.ready.append(self.generator.test())
        return more

    def batch(self, size: int) -> None:
        """Run the tests that are ready, and make up to `size` more meanwhile. Those it did not come to stay ready."""
        now, self.ready = self.ready, []
        lines: list[str] = []
        done = itertools.count(len(self.campaign.asked))

        def heard(line: str) -> None:
            lines.append(line)
            if line.startswith('{"test"'):
                self.tell(next(done))

        try:
            seen = self.run([test.litmus for test in now], heard=heard, meanwhile=lambda: self.prepare(size))
        except KeyboardInterrupt:
            self.keep(now, finished(lines))
            raise
        left = self.keep(now, seen)
        if len(left) == len(now):
            raise ModelError(f"{self.campaign.release}: not one of the tests was run")
        self.ready = [*left, *self.ready]

    def keep(self, tests: Sequence[Asked], seen: Mapping[str, Observation]) -> Sequence[Asked]:
        """Note all tests up to the last one that was seen; those after it."""
        lost = Observation(self.campaign.release, None, "nothing was heard of it")
        many = max((n for n, test in enumerate(tests, 1) if test.litmus.name in seen), default=0)
        self.record.add([self.campaign.note(test, seen.get(test.litmus.name, lost)) for test in tests[:many]])
        return tests[many:]

    def tell(self, done: int) -> None:
        campaign = self.campaign
        each = (time.monotonic() - self.begun) / max(1, done - self.before)
        left = (self.number - done) * each
        self.progress(done, (
            f"{campaign.release}: {len(campaign.different())} differ, {len(campaign.met & campaign.goals.rules)} of "
            f"{len(campaign.goals.rules)} rules met, about {f'{left / 60:.0f} min' if left > 90 else f'{left:.0f} s'} "
            "left"
        ))

    def shrink(self) -> None:
        """Make the differences smaller that are as they were found. One that ends or hangs a machine stays as it is."""
        campaign = self.campaign
        found = [
            campaign.shrunk.get(found.litmus, KernelDifference(found.litmus, text, found))
            for text, found in campaign.different() if found.status == conform.DISAGREE
        ]
        for some in shrink(
            found, self.compare, lambda what: self.progress(len(campaign.asked), f"{campaign.release}: {what}")
        ):
            campaign.shrunk |= {each.name: each for each in some}
            self.record.add([
                {"text": d.text, "again": d.again, "smallest": d.smallest, "found": asdict(d.found)} for d in some
            ])

    def compare(self, tests: Sequence[Litmus]) -> dict[str, Conformance]:
        """What the kernel does in those tests, held against the model."""
        goals = self.campaign.goals
        left = iter(tests)
        expected: dict[str, tuple[frozenset[Outcome], str]] = {}

        def predict() -> bool:
            if test := next(left, None):
                expected[test.name] = execution.outcomes(test, goals.kernel, goals.system)
            return test is not None

        seen = self.run(tests, heard=lambda line: None, meanwhile=predict)
        while predict():
            pass
        return {
            test.name: conform.held_against(test, self.campaign.kernel, *expected[test.name], seen[test.name])
            for test in tests if test.name in seen
        }
