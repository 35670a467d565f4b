"""Litmus tests on real kernels, held against what the model says of them.

A kernel is the running one, or an image that a virtual machine boots (observing.py). Its `uname -r` says which kernel
of the model describes it. An observation agrees if some execution of the model ends with the same refused and blocked
operations and the same truth of the condition.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.kernels import KERNELS
from model.logic import ModelError
from proofs import json_text
from proofs.hardware.observing import CRASHED, HUNG, Observation, kernel_for
from proofs.litmus import execution
from proofs.litmus.execution import Outcome
from proofs.litmus.language import Litmus
from proofs.litmus.suite import digest_on
from proofs.naming.specs import find_kernel, system_of, with_features

AGREE, DISAGREE, NOT_OBSERVABLE = "agree", "disagree", "not-observable"
DIFFERENT = frozenset({DISAGREE, CRASHED, HUNG})
"""What a kernel does that the model does not say."""


@dataclass(frozen=True)
class Conformance:
    """One test on one real kernel. `kernel`: the model's; `model`: its answer; `status`: AGREE, DISAGREE,
    NOT_OBSERVABLE, CRASHED, HUNG; `reason`: of all but the first, or that the model allows another outcome too.
    `digest`: of what the test says (suite.digest_on), empty where nobody has kept it."""

    litmus: str
    release: str
    kernel: str
    model: str
    observed: str
    status: str
    reason: str
    digest: str = ""


# Comparing


def conform(
    tests: Sequence[Litmus], observed: Iterable[Sequence[Observation]], kernel: str = ""
) -> list[Conformance]:
    """What was observed of every test on every kernel, held against the model's kernel of that name, or against the
    one that describes the release."""
    return [
        compare(test, kernel or kernel_for(seen.release), seen)
        for row in observed for test, seen in zip(tests, row, strict=True)
    ]


def expected_of(test: Litmus, kernel: str) -> tuple[frozenset[Outcome], str]:
    """All outcomes that the model's kernel of that name has, and why it may have others, if it may."""
    return execution.outcomes(test, find_kernel(kernel), system_of(with_features(kernel, test.features)))


def compare(test: Litmus, kernel: str, observation: Observation) -> Conformance:
    """One observation held against the model's kernel of that name."""
    expected, stuck = expected_of(test, kernel)
    return held_against(test, kernel, expected, stuck, observation)


def held_against(
    test: Litmus, kernel: str, expected: frozenset[Outcome], stuck: str, observation: Observation
) -> Conformance:
    """One observation held against all outcomes that the model's kernel has. `stuck`: why it may have others."""
    answer = execution.answer_of(test, (outcome.condition for outcome in expected), stuck)
    got = observation.outcome
    status, reason = AGREE, ""
    if observation.fate in DIFFERENT:
        status, reason = observation.fate, observation.reason
    elif got is None:
        status, reason = NOT_OBSERVABLE, observation.reason
    elif got not in expected:
        # What the model cannot follow to its end may be what the kernel did.
        status = NOT_OBSERVABLE if stuck else DISAGREE
        reason = stuck or f"the model has: {'; or '.join(sorted(map(shown, expected)))}"
    elif len(expected) > 1:
        reason = f"the model also has: {'; or '.join(sorted(map(shown, expected - {got})))}"
    return Conformance(
        test.name, observation.release, kernel, str(answer), "" if got is None else shown(got), status, reason,
        digest_on(test, kernel),
    )


def shown(outcome: Outcome) -> str:
    """An outcome in words."""
    parts = [f"condition {'true' if outcome.condition else 'false'}"]
    for word, numbers in (("refused", outcome.refused), ("blocked", outcome.blocked)):
        if numbers:
            parts.append(f"{word} {', '.join(map(str, sorted(numbers)))}")
    return ", ".join(parts)


def outcome_of(text: str) -> Outcome:
    """The outcome that `shown` put into words. Raises ValueError."""
    found = re.fullmatch(
        r"condition (true|false)(?:, refused (\d+(?:, \d+)*))?(?:, blocked (\d+(?:, \d+)*))?", text
    )
    if found is None:
        raise ValueError(f"{text!r} is no outcome")
    refused, blocked = (frozenset(map(int, n.split(", "))) if n else frozenset[int]() for n in found.groups()[1:])
    return Outcome(refused, blocked, found[1] == "true")


def saved(path: Path, tests: Sequence[Litmus]) -> dict[str, list[Observation]]:
    """What `conform --json` printed into that file: release to what it did in each of the tests.

    Raises ModelError for a file that is none, of which no test is among these, or which has observations of another
    text of one of them.
    """
    named = {test.name: test for test in tests}
    found: dict[str, dict[str, Observation]] = {}
    others: list[str] = []
    try:
        for row in json_text.read(path)["results"]:
            if (test := named.get(row["litmus"])) is not None:
                outcome = outcome_of(row["observed"]) if row["observed"] else None
                seen = Observation(row["release"], outcome, row["reason"], digest=row.get("digest", ""))
                found.setdefault(row["release"], {})[row["litmus"]] = seen
                # What a caller's word is depends on the kernel; --identify says none of what it was given.
                names = [row["kernel"]] if "kernel" in row else [kernel.name for kernel in KERNELS]
                others += [test.name] if all(seen.digest != digest_on(test, name) for name in names) else []
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not what `conform --json` prints: {type(error).__name__} {error}") from error
    if not found:
        raise ModelError(f"{path} says nothing of any of the {len(named)} tests")
    if others:
        raise ModelError(of_others(path, others))
    return {
        release: [seen.get(test.name) or Observation(release, None, f"{path} does not have it") for test in tests]
        for release, seen in found.items()
    }


def of_others(path: Path, names: Sequence[str]) -> str:
    """The complaint about observations of tests with those names whose texts are others."""
    unlike = [*dict.fromkeys(names)]
    more = f" and {len(unlike) - 3} more" if len(unlike) > 3 else ""
    return (f"{path} was observed of another text of {', '.join(unlike[:3])}{more} than is asked about, or does not "
            "say of which; `conform` observes it anew")


# Telling

_MARKS = {AGREE: "+", DISAGREE: "DIFFERS", NOT_OBSERVABLE: "-", CRASHED: "CRASHED", HUNG: "HUNG"}


def _by_release(found: Sequence[Conformance]) -> dict[tuple[str, str], list[Conformance]]:
    """(release, kernel of the model) to its results."""
    grouped: dict[tuple[str, str], list[Conformance]] = {}
    for each in found:
        grouped.setdefault((each.release, each.kernel), []).append(each)
    return grouped


def _counts(found: Sequence[Conformance]) -> dict[str, int]:
    counts = {status: sum(f.status == status for f in found) for status in _MARKS}
    return {status: n for status, n in counts.items() if n or status not in (CRASHED, HUNG)}


def _reasons(found: Sequence[Conformance]) -> dict[str, list[str]]:
    """Why tests are not observable, to their names."""
    reasons: dict[str, list[str]] = {}
    for each in found:
        if each.status == NOT_OBSERVABLE:
            reasons.setdefault(each.reason, []).append(each.litmus)
    return reasons


def told(different: Conformance) -> str:
    """A test's name, what was observed and why that is remarkable, in a line."""
    return f"{different.litmus}: {different.observed or different.status}; {different.reason}"


def to_text(found: Sequence[Conformance]) -> str:
    """Per kernel: how many tests agree, each that does not, and why some cannot be observed."""
    lines = []
    for (release, kernel), results in _by_release(found).items():
        counts = ", ".join(f"{n} {status}" for status, n in _counts(results).items())
        lines.append(f"{release} ({kernel} in the model): {counts}")
        lines += [f"  {told(each)}" for each in results if each.status in DIFFERENT]
        lines += [f"  not observable, {len(names)}: {reason}" for reason, names in _reasons(results).items()]
    return "\n".join(lines) + "\n"


def to_markdown(found: Sequence[Conformance]) -> str:
    """The matrix: a row a test, a column a kernel; the model's answer, and whether the kernel agrees."""
    groups = _by_release(found)
    cells = {(f.litmus, (f.release, f.kernel)): f for f in found}
    names = dict.fromkeys(f.litmus for f in found)
    lines = [
        "# The model beside real kernels", "",
        "Written by `python -m proofs conform --out docs/conformance.md --vmlinuz ...` (docs/kernels.md has the "
        "kernels). A cell has the model's answer to the test and what the kernel did: `+` it ended as the model says "
        "it can, with the same operations refused and the same truth of the condition; `DIFFERS`; `-` not observable "
        "there.", "",
        "| kernel | in the model | agree | disagree | not observable |", "| --- | --- | --- | --- | --- |",
    ]
    for (release, kernel), results in groups.items():
        counts = _counts(results)
        differ = sum(n for status, n in counts.items() if status in DIFFERENT)
        lines.append(f"| {release} | {kernel} | {counts[AGREE]} | {differ} | {counts[NOT_OBSERVABLE]} |")
    lines += ["", "## Not observable", ""]
    for (release, _), results in groups.items():
        lines += [f"- {release}: {reason}: {', '.join(names)}" for reason, names in _reasons(results).items()]
    if any(f.status in DIFFERENT for f in found):
        lines += ["", "## Disagreements", ""]
        lines += [f"- {f.release}: {told(f)}" for f in found if f.status in DIFFERENT]
    lines += ["", "## All tests", "", f"| test | {' | '.join(release for release, _ in groups)} |"]
    lines.append("| --- |" + " --- |" * len(groups))
    for name in names:
        row = [cells.get((name, group)) for group in groups]
        lines.append(f"| {name} | {' | '.join(f'{f.model} {_MARKS[f.status]}' if f else '' for f in row)} |")
    return "\n".join(lines) + "\n"
