"""Many litmus tests at random, asked of a kernel in batches of one boot each; what was asked is kept, so that an
interrupted run goes on from there.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.features import WORLD
from model.logic import ModelError
from proofs.hardware import conform, reproducer, vm
from proofs.hardware.conform import DIFFERENT, NOT_OBSERVABLE, Conformance
from proofs.hardware.generate import Asked, Generator, able, draft_of
from proofs.hardware.met import Met, met_of
from proofs.hardware.observing import SECONDS, Observation, run_in
from proofs.hardware.shrink import Difference, kind_of, shrink
from proofs.litmus.language import Litmus
from proofs.litmus.parser import parse

FIRST, BATCH = 100, 500
"""Tests of the first boot, before which nothing runs, and of each other one."""


@dataclass
class Campaign:
    """What was asked of one kernel: per test a Conformance with its text (`asked`), and the differences made smaller.

    `met`: what executions of the tests that were observed have met. `seconds` of wall time in this run, for `new`
    tests.
    """

    release: str
    kernel: str
    seed: int
    met: Met
    asked: list[tuple[str, Conformance]] = field(default_factory=list)
    shrunk: dict[str, Difference] = field(default_factory=dict)
    seconds: float = 0.0
    new: int = 0

    def different(self) -> list[tuple[str, Conformance]]:
        return [(text, found) for text, found in self.asked if found.status in DIFFERENT]


class Record:
    """What is kept of a campaign: a file with a line of JSON for each test asked and each difference made smaller."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        """Raises ModelError if the file is of another campaign."""
        self.path = path
        self.lines: list[dict[str, Any]] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    break  # the run was ended while it wrote
            if self.lines and self.lines[0] != head:
                raise ModelError(f"{path} is of other tests ({self.lines[0]}); name another folder with --keep")
        text = "".join(json.dumps(line) + "\n" for line in self.lines or [head])
        path.write_text(text, encoding="utf-8")
        self.lines = self.lines[1:]

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))


def ask(
    image: Path, number: int, seed: int, folder: Path, *, kernel: str = "", features: Collection[str] = WORLD,
    seconds: float = SECONDS, batch: int = BATCH, progress: Callable[[str], None] = lambda what: None,
) -> Campaign:
    """Ask the kernel of an image so many tests of that seed; those that the folder has were asked already.

    `kernel`: of the model, else the one that describes the release; `seconds`: the limit of one boot. An interrupt
    loses a batch at most. Raises ModelError for what is no image, or where no machine comes to a test.
    """
    release = vm.find(image).release
    name = kernel or conform.kernel_for(release)
    campaign = Campaign(release, name, seed, met_of(name, able(features)))
    generator = Generator(seed, campaign.met, features)
    head = {"release": release, "kernel": name, "seed": seed, "features": sorted(features)}
    record = Record(folder / f"{release}-seed-{seed}.jsonl", head)
    _recall(record, campaign, generator)
    begun = time.monotonic()
    ready: list[Asked] = []
    if len(campaign.asked) < number:
        progress(f"{release} ({name} in the model): {len(campaign.asked):,} of {number:,} tests asked before")
    while (done := len(campaign.asked)) < number:
        while len(ready) < min(FIRST, number - done):
            ready.append(generator.test(done + len(ready)))
        now, ready = ready, []
        later = done + len(now)

        def prepare(later: int = later, ready: list[Asked] = ready) -> bool:
            if more := len(ready) < min(batch, number - later):
                ready.append(generator.test(later + len(ready)))
            return more

        seen = run_in(image, [test.litmus for test in now], seconds, meanwhile=prepare)
        record.add([_noted(campaign, test, seen) for test in now])
        campaign.new += len(now)
        campaign.seconds = time.monotonic() - begun
        left = (number - len(campaign.asked)) * campaign.seconds / campaign.new
        progress(
            f"{release}: {len(campaign.asked):,} of {number:,} tests, {len(campaign.different())} differ, "
            f"{len(campaign.met.taken)} of {len(campaign.met.rules)} rules met, {campaign.new / campaign.seconds:.1f} "
            f"tests/s, about {left / 60:.0f} min left"
        )
    _shrink(image, campaign, record, seconds, progress)
    return campaign


def _recall(record: Record, campaign: Campaign, generator: Generator) -> None:
    for line in record.lines:
        found = Conformance(**line["found"])
        if "again" in line:
            campaign.shrunk[found.litmus] = Difference(
                found.litmus, line["text"], found, line["again"], line["smallest"]
            )
            continue
        campaign.asked.append((line["text"], found))
        if line["news"]:
            generator.fruitful.append(draft_of(line["text"]))
            if found.status != NOT_OBSERVABLE:
                campaign.met.remember(line["news"])


def _noted(campaign: Campaign, test: Asked, seen: dict[str, Observation]) -> dict[str, Any]:
    """The line of one test, whose result is added to the campaign."""
    missing = Observation(campaign.release, None, "the program did not come to this test")
    found = conform.held_against(
        test.litmus, campaign.kernel, test.outcomes, test.stuck, seen.get(test.litmus.name, missing)
    )
    campaign.asked.append((test.text, found))
    if found.status == NOT_OBSERVABLE:
        campaign.met.forget(test.news)
    return {"text": test.text, "news": list(test.news), "found": asdict(found)}


def _shrink(
    image: Path, campaign: Campaign, record: Record, seconds: float, progress: Callable[[str], None]
) -> None:
    """Make the differences smaller that are as they were found. One that ends or hangs a machine stays as it is."""
    new = [
        Difference(found.litmus, text, found) for text, found in campaign.different()
        if found.status == conform.DISAGREE and found.litmus not in campaign.shrunk
    ]
    if not new:
        return

    def compare(tests: Sequence[Litmus]) -> dict[str, Conformance]:
        seen = run_in(image, tests, seconds)
        return {t.name: conform.compare(t, campaign.kernel, seen[t.name]) for t in tests if t.name in seen}

    found = shrink(new, compare, lambda answer: answer.status in DIFFERENT, progress)
    campaign.shrunk |= {each.name: each for each in found}
    record.add([
        {"text": d.text, "again": d.again, "smallest": d.smallest, "found": asdict(d.found)} for d in found
    ])


# Telling


def kinds(campaign: Campaign) -> dict[str, list[Difference]]:
    """The differences that come each time, by what their smallest tests have in common; the most frequent first."""
    found: dict[str, list[Difference]] = {}
    for each in campaign.shrunk.values():
        if not each.flaky:
            found.setdefault(kind_of(each.text), []).append(each)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def to_text(campaign: Campaign) -> str:
    """What was asked, what differs and how, what was not observed, and what has not been met."""
    counts = Counter(found.status for _, found in campaign.asked)
    met = campaign.met
    unmet = met.conjuncts.keys() - met.alone
    undecided = sorted(met.decisions.keys() - met.decided())
    reasons = Counter(found.reason for _, found in campaign.asked if found.status == NOT_OBSERVABLE)
    flaky = [each for each in campaign.shrunk.values() if each.flaky]
    more = [found for _, found in campaign.asked if found.reason.startswith("the model also has")]
    lines = [
        f"{campaign.release} ({campaign.kernel} in the model), seed {campaign.seed}: {len(campaign.asked):,} tests",
        f"  {', '.join(f'{n:,} {status}' for status, n in counts.most_common())}",
        f"  rules met: {len(met.taken)} of {len(met.rules)}; guard conjuncts that alone forbade their rule: "
        f"{len(met.alone)} of {len(met.conjuncts)}; decisions: {len(met.decided())} of {len(met.decisions)}",
    ]
    lines += [f"  not observable, {n}: {reason}" for reason, n in reasons.most_common()]
    lines += [f"  {conform.told(f)}" for _, f in campaign.asked if f.status in DIFFERENT - {conform.DISAGREE}]
    lines += [f"  the model allows more than was seen: {conform.told(found)}" for found in more]
    lines += [f"  rules never met: {', '.join(sorted(met.rules - met.taken))}"] if met.rules - met.taken else []
    lines += [f"  decisions never met: {', '.join(undecided)}"] if undecided else []
    lines += [f"  conjuncts never alone: {len(unmet)}"] if unmet else []
    for kind, found in kinds(campaign).items():
        least = min(found, key=lambda each: len(each.text))
        lines += ["", f"{len(found)} x {kind}", *(f"  {line}" for line in least.text.splitlines())]
        lines += [f"  observed: {least.found.observed}; {least.found.reason}"]
    lines += [f"flaky, {each.again} of 3 times again: {conform.told(each.found)}" for each in flaky]
    return "\n".join(lines) + "\n"


def files(campaign: Campaign) -> dict[str, str]:
    """Per kind of difference its smallest test, by file name: as a litmus test with both sides, and as C."""
    found = {}
    for number, (kind, each) in enumerate(kinds(campaign).items(), 1):
        least = min(each, key=lambda d: len(d.text))
        name = f"{campaign.release}-{number}"
        sides = f"# {campaign.release}: {least.found.observed}\n# {campaign.kernel}: {least.found.reason}\n# {kind}\n"
        found[f"{name}.litmus"] = sides + least.text
        found[f"{name}.c"] = reproducer.program([parse(least.text, name)])
    return found
