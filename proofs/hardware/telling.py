"""Litmus tests that would tell two records apart which what was observed does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from model.decisions import value_text
from model.features import FEATURES, WORLD
from model.kernels import KERNELS, Kernel
from proofs.compare import diff
from proofs.compare.lockstep import ALWAYS, Bounds, Move, Pages, Side, search
from proofs.hardware.identify import Identity
from proofs.litmus import execution
from proofs.litmus.language import Litmus
from proofs.litmus.reasons import Record
from proofs.naming.specs import system_with

BOUNDS = Bounds(references=1, depth=4, seconds=5.0)
"""How far a test is searched for that the suite does not have."""
_ALL = frozenset(FEATURES)
SAME = "the rules are the same, all else being as it is"
UNSEARCHED = "no test of the suite tells; for another one there was no time to search"
NONE = "no test of the suite tells, nor a short one that was searched for"


@dataclass(frozen=True)
class Untold:
    """A decision that may have another value, too. `test`: the name of a test that would tell the two, or its text
    where it is none of the suite's; empty if there is none. `surely`: they have no outcome of it in common, so that one
    observation tells. `why`: what to know of the test, or why there is none."""

    decision: str
    value: str
    test: str
    surely: bool
    why: str


def untold(
    identity: Identity, tests: Sequence[Litmus], why_unseen: Callable[[str], str] = lambda test: "",
    step: Callable[[int, int], None] = lambda done, total: None, seconds: float = 60.0,
) -> Iterator[Untold]:
    """What would tell each open decision of the identity; `why_unseen`: why that test was not observed.

    `seconds`: after them no test is searched for any more that is not among the tests.
    """
    started = time.monotonic()
    record = identity.record()
    own = _kernel(record)
    unseen = [t for t in tests if t.name in identity.unseen and not t.missing]
    pairs = [(decision, value) for decision, values in identity.open.items() for value in values]
    for number, (decision, value) in enumerate(pairs):
        step(number, len(pairs))
        other = _kernel({**record, decision: value})
        name = value_text(value)
        known = {surely: test for test in reversed(unseen) if (surely := _tells(test, own, other)) is not None}
        if known:
            surely, test = max(known.items(), key=lambda each: each[0])
            yield Untold(decision, name, test.name, surely, why_unseen(test.name))
        elif system_with(own, _ALL).text() == system_with(other, _ALL).text():
            yield Untold(decision, name, "", False, SAME)
        elif time.monotonic() - started > seconds:
            yield Untold(decision, name, "", False, UNSEARCHED)
        else:
            text = _searched(own, other, f"{decision}-{name}")
            yield Untold(decision, name, text, False, "not of the suite" if text else NONE)


def _kernel(record: Record) -> Kernel:
    """The record as a kernel; equal records give kernels of equal terms."""
    return KERNELS[0].but("the record", "what was identified", **record)


def _tells(test: Litmus, one: Kernel, other: Kernel) -> bool | None:
    """Whether the two have no outcome of the test in common; None if they have the same ones."""
    systems = system_with(one, test.features), system_with(other, test.features)
    if systems[0].text() == systems[1].text():
        return None
    found = [execution.outcomes(test, k, s) for k, s in zip((one, other), systems, strict=True)]
    if found[0][1] or found[1][1] or found[0][0] == found[1][0]:
        return None
    return not found[0][0] & found[1][0]


def _searched(one: Kernel, other: Kernel, name: str) -> str:
    """The text of a shortest test on which the two end otherwise; empty if none was found."""
    one, other = (replace(k, name=name) for k, name in ((one, "one"), (other, "the other")))
    for feature in ("", *(f for f in WORLD if f not in diff.NOT_FOLLOWED)):
        features = tuple(f for f in FEATURES if f in (*ALWAYS, feature))
        systems = one.system(features), other.system(features)
        if systems[0].text() == systems[1].text():
            continue
        sides = Side(one, systems[0], BOUNDS), Side(other, systems[1], BOUNDS)
        try:
            search(*sides, features, BOUNDS, _stop, lambda *_: None)
        except _Found as found:
            return diff.as_test(("one", "the other"), (one, other), found.pages, found.sequence, name).text
        return ""
    return ""


class _Found(Exception):
    def __init__(self, pages: Pages, sequence: tuple[Move, ...]) -> None:
        self.pages, self.sequence = pages, sequence


def _stop(pages: Pages, sequence: tuple[Move, ...]) -> None:
    raise _Found(pages, sequence)
