"""What was asked of one kernel at random: kept in a file line by line, and told as text, as JSON and as files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.logic import ModelError
from proofs import json_text
from proofs.hardware import conform, reproducer
from proofs.hardware.conform import DIFFERENT, NOT_OBSERVABLE, Conformance
from proofs.hardware.generate import Asked, Generator
from proofs.hardware.met import Goals
from proofs.hardware.observing import Observation
from proofs.hardware.shrink import REPEATS, KernelDifference, kind_of
from proofs.litmus.parser import parse

SHOWN = 5
"""So many tests are shown of those in which the model allows more than was seen."""


@dataclass
class Campaign:
    """What was asked of one kernel: per test a Conformance with its text (`asked`), and the differences made smaller.

    `image`: hash of what was booted, as another kernel may say the same release; `kernel`: the model's name of it;
    `met`: what executions of the tests that were observed meet (met.py).
    """

    release: str
    image: str
    kernel: str
    seed: int
    features: tuple[str, ...]
    goals: Goals
    asked: list[tuple[str, Conformance]] = field(default_factory=list)
    shrunk: dict[str, KernelDifference] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)

    def different(self) -> list[tuple[str, Conformance]]:
        return [(text, found) for text, found in self.asked if found.status in DIFFERENT]

    def more_allowed(self) -> list[tuple[str, Conformance]]:
        """The tests that agree, of which the model has other outcomes too."""
        return [(text, found) for text, found in self.asked if found.status == conform.AGREE and found.reason]

    def steady(self) -> list[tuple[str, Conformance]]:
        """The differences that are not known to be flaky, each with its smallest test."""
        small = {name: (d.text, d.found) for name, d in self.shrunk.items()}
        return [
            small.get(found.litmus, (text, found)) for text, found in self.different()
            if found.litmus not in small or not self.shrunk[found.litmus].flaky
        ]

    def head(self) -> dict[str, Any]:
        """What tells it from other campaigns."""
        return {
            "release": self.release, "image": self.image, "kernel": self.kernel,
            "rules": self.goals.system.digest(), "seed": self.seed, "features": list(self.features),
        }

    def note(self, test: Asked, seen: Observation) -> dict[str, Any]:
        """Add what was seen of a test; the line that is kept of it."""
        found = conform.held_against(test.litmus, self.kernel, test.outcomes, test.stuck, seen)
        met = frozenset[str]() if found.status == NOT_OBSERVABLE else test.met - self.met
        self.asked.append((test.text, found))
        self.met |= met
        return {"text": test.text, "found": asdict(found), "news": sorted(test.news), "met": sorted(met)}

    def recall(self, record: Record, generator: Generator) -> None:
        """Take what was kept, and let the generator go on after it. Raises ModelError for a line that is of nothing."""
        names: set[str] = set()
        for number, line in enumerate(record.lines, 2):
            try:
                found = Conformance(**line["found"])
                if "again" in line:
                    self.shrunk[found.litmus] = KernelDifference(
                        found.litmus, line["text"], found, line["again"], line["smallest"]
                    )
                # Two runs at once may have asked the same.
                elif found.litmus not in names:
                    names.add(found.litmus)
                    self.asked.append((line["text"], found))
                    self.met.update(line["met"])
                    generator.learn(line["text"], line["news"])
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise record.spoiled(number) from error


class Record:
    """What is kept of a campaign: a file with a line of JSON for each test asked and each difference made smaller."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        """Raises ModelError if the file is of another campaign, or was changed; OSError if it cannot be read or
        written."""
        self.path = path
        kept = path.read_bytes() if path.exists() else b""
        # What the last run had not written to its end.
        whole = kept.rpartition(b"\n")[0] + b"\n" if b"\n" in kept else b""
        lines: list[Any] = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                lines.append(json_text.parsed(line))
            except ValueError as error:
                raise self.spoiled(number) from error
        if lines and lines[0] != head:
            asked = lines[0] if isinstance(lines[0], dict) else {}
            other = [name for name, value in head.items() if asked.get(name) != value]
            raise ModelError(f"{path} is of tests with other {', '.join(other)}: name another folder with --keep")
        with path.open("ab") as file:
            file.truncate(len(whole))
        self.lines = lines[1:]
        if not lines:
            self.add([head])

    def spoiled(self, number: int) -> ModelError:
        """The error of a line that no run wrote so."""
        return ModelError(f"{self.path}:{number} was changed since it was kept: name another folder with --keep")

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))


# Telling


def kinds(campaign: Campaign) -> dict[str, list[KernelDifference]]:
    """The differences that come each time, by what their smallest tests have in common; the most frequent first."""
    found: dict[str, list[KernelDifference]] = {}
    for each in campaign.shrunk.values():
        if not each.flaky:
            found.setdefault(kind_of(each.text), []).append(each)
    for some in found.values():
        some.sort(key=lambda d: len(d.text))
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _counted(campaign: Campaign) -> dict[str, Any]:
    """How the tests ended, and what of the kernel's rules they met and did not meet."""
    goals, met = campaign.goals, campaign.met
    decided = goals.decided(met)
    return {
        "tests": len(campaign.asked),
        "statuses": dict(Counter(found.status for _, found in campaign.asked).most_common()),
        "not_observable": dict(Counter(
            found.reason for _, found in campaign.asked if found.status == NOT_OBSERVABLE
        ).most_common()),
        "rules": {"of": len(goals.rules), "never": sorted(goals.rules - met)},
        "decisions": {"of": len(goals.decisions), "never": sorted(goals.decisions.keys() - decided)},
        "conjuncts": {
            "of": len(goals.conjuncts), "never": {key: text for key, text in goals.conjuncts.items() if key not in met},
        },
    }


def to_json(campaign: Campaign) -> dict[str, Any]:
    """All that `to_text` tells, and each single one of what it only counts."""
    return campaign.head() | _counted(campaign) | {
        "differences": [
            {"test": d.name, "kind": kind, "litmus": d.text, "observed": d.found.observed, "reason": d.found.reason,
             "again": d.again, "of": REPEATS, "smallest": d.smallest}
            for kind, some in kinds(campaign).items() for d in some
        ],
        "fates": [
            {"test": found.litmus, "fate": found.status, "litmus": text, "reason": found.reason}
            for text, found in campaign.different() if found.status != conform.DISAGREE
        ],
        "flaky": [
            {"test": d.name, "litmus": d.text, "observed": d.found.observed, "reason": d.found.reason,
             "again": d.again, "of": REPEATS}
            for d in campaign.shrunk.values() if d.flaky
        ],
        "more_allowed": [
            {"test": found.litmus, "litmus": text, "observed": found.observed, "reason": found.reason}
            for text, found in campaign.more_allowed()
        ],
    }


def to_text(campaign: Campaign) -> str:
    """What was asked, what differs and how, what was not observed, and what has not been met."""
    counted = _counted(campaign)
    statuses = ", ".join(f"{n:,} {status}" for status, n in counted["statuses"].items())

    def of(what: str) -> str:
        return f"{counted[what]['of'] - len(counted[what]['never'])} of {counted[what]['of']}"

    lines = [
        f"{campaign.release} ({campaign.kernel} in the model), seed {campaign.seed}: "
        f"{counted['tests']:,} tests{': ' * bool(statuses)}{statuses}",
        f"  met: {of('rules')} rules, {of('decisions')} decisions, {of('conjuncts')} conjuncts of guards alone",
    ]
    lines += [f"  {what} never met: {', '.join(counted[what]['never'])}" for what in ("rules", "decisions")
              if counted[what]["never"]]
    lines += [f"  not observable, {n}: {reason}" for reason, n in counted["not_observable"].items()]
    more = campaign.more_allowed()
    lines += [f"  in {len(more)} tests the model allows what was not seen in them, such as:"] if more else []
    lines += [f"    {conform.told(found)}" for _, found in more[:SHOWN]]
    for text, found in campaign.different():
        if found.status != conform.DISAGREE:
            lines += ["", f"{found.status}: {found.litmus}; {found.reason}", *_indented(text)]
    for kind, some in kinds(campaign).items():
        least = some[0]
        lines += ["", f"{len(some)} x {kind}", *_indented(least.text)]
        lines += [f"  observed: {least.found.observed}; {least.found.reason}"]
    for each in campaign.shrunk.values():
        if each.flaky:
            lines += ["", f"flaky, {each.again} of {REPEATS} times again: {conform.told(each.found)}"]
            lines += _indented(each.text)
    return "\n".join(lines) + "\n"


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def files(campaign: Campaign) -> dict[str, str]:
    """By file name: per kind of difference its smallest test, and each test that ends or hangs a machine; as a litmus
    test with both sides, and as C."""
    told = [
        (f"{campaign.release}-seed-{campaign.seed}-{number}", kind, some[0].text, some[0].found)
        for number, (kind, some) in enumerate(kinds(campaign).items(), 1)
    ] + [
        (f"{campaign.release}-{found.litmus}", found.status, text, found) for text, found in campaign.different()
        if found.status != conform.DISAGREE
    ]
    written = {}
    for name, what, text, found in told:
        sides = f"# {campaign.release}: {found.observed or found.status}\n# {campaign.kernel}: {found.reason}\n"
        written[f"{name}.litmus"] = f"{sides}# {what}\n{text}"
        written[f"{name}.c"] = reproducer.program([parse(text, name)])
    return written
