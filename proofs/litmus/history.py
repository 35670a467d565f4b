"""Since when: a litmus test's answer on every release, and which decisions make the difference where it changes.

Between two neighbouring kernels of the mainline the decisions in which they differ are changed one at a time, from the
earlier kernel's value to the later one's, until the earlier kernel answers as the later one does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from model import releases
from model.callers import COMMITS
from model.decisions import value_text
from model.kernels import Kernel, differing
from model.logic import ModelError
from model.releases import MAINLINE, Placed, Version
from proofs.errors import LitmusError
from proofs.litmus.execution import Answer, answer
from proofs.litmus.language import Litmus, form_on
from proofs.naming.specs import system_with

BAD = (Answer.BROKEN, Answer.ALLOWED)
"""The answers whose times are told."""
_COMMIT = re.compile(r"\b[0-9a-f]{10,40}\b")


@dataclass(frozen=True)
class Changed:
    """A decision that differs between two kernels: its values, and since when."""

    decision: str
    was: str
    now: str
    place: Placed


@dataclass(frozen=True)
class Turn:
    """Where the answer changes.

    since        the first release with the new answer
    last         the last one with the old answer, as far as is known
    decisions    those that, taken over together, change it; none of them is in vain
    others       those each of which changes it alone too, if `decisions` is one
    """

    since: Version
    last: Version
    before: Answer
    after: Answer
    decisions: tuple[Changed, ...]
    others: tuple[Changed, ...] = ()

    @property
    def exact(self) -> bool:
        """No release between `last` and `since` may have either answer."""
        return all(each.place.after is None for each in self.decisions if each.place.since == self.since)

    @property
    def commits(self) -> tuple[str, ...]:
        """The commits of the decisions, each once."""
        return tuple(dict.fromkeys(c for each in self.decisions for c in _COMMIT.findall(each.place.commit)))


@dataclass(frozen=True)
class History:
    """The answers of a test, by release in their order, and where they change."""

    litmus: str
    answers: tuple[tuple[Version, Answer], ...]
    turns: tuple[Turn, ...] = field(default=())


def smallest(names: Sequence[str], explains: Callable[[Sequence[str]], bool]) -> tuple[str, ...]:
    """Names that explain, none of them in vain: one alone if one does. All of them together must explain."""
    for name in names:
        if explains([name]):
            return (name,)
    left = list(names)
    for name in names:
        rest = [other for other in left if other != name]
        if explains(rest):
            left = rest
    return tuple(left)


def history(litmus: Litmus, asked: Callable[[], object] = lambda: None) -> History:
    """Ask every release of the mainline that has the test's operations. `asked`: called after each.

    Raises LitmusError as `answer` does, or if no release of the model has them.
    """
    newest = max(
        (releases.version_of(s.operation.since) for s in litmus.statements if s.operation.since),
        default=MAINLINE[0][0],
    )
    kernels = [each for each in MAINLINE if each[0] >= newest]
    if not kernels:
        raise LitmusError(f"{litmus.filename}: no release of the model has all of its operations")
    answers = []
    for _, kernel in kernels:
        answers.append(_answer(litmus, kernel))
        asked()
    turns = [
        _turn(litmus, pair[0], pair[1], before, after)
        for pair, (before, after) in zip(itertools.pairwise(kernels), itertools.pairwise(answers), strict=True)
        if before != after
    ]
    versions = (version for version, _ in kernels)
    return History(litmus.name, tuple(zip(versions, answers, strict=True)), tuple(turns))


def _answer(litmus: Litmus, kernel: Kernel) -> Answer:
    return answer(litmus, kernel, system_with(kernel, litmus.features)).answer


def _explains(litmus: Litmus, a: Kernel, b: Kernel, taken: Sequence[str], after: Answer) -> bool:
    """With those decisions of the second kernel the first one gives the answer of the second."""
    try:
        between = a.but(f"{a.name}+{'+'.join(taken)}", "between two kernels", **{n: getattr(b, n) for n in taken})
        return _answer(litmus, between) == after
    except ModelError:
        # Not every mixture of two kernels is one.
        return False


def _callers(litmus: Litmus, a: Kernel, b: Kernel) -> tuple[Changed, ...]:
    """The callers' words of the test that are something else on the second kernel."""
    found = {}
    for operation in dict.fromkeys(s.operation for s in litmus.statements if s.operation.forms):
        was, now = form_on(operation, a), form_on(operation, b)
        if was != now:
            since = next(release for release, text in operation.forms if text == now)
            place = Placed(releases.version_of(since), COMMITS.get((operation.word, since), ""), None)
            found[operation] = Changed(operation.name, was, now, place)
    return tuple(found.values())


def _turn(
    litmus: Litmus, earlier: tuple[Version, Kernel], later: tuple[Version, Kernel], before: Answer, after: Answer
) -> Turn:
    a, b = earlier[1], later[1]
    names = differing(a, b)

    # What the test's callers of get_user_pages ask for may change too.
    callers = _callers(litmus, a, b)
    asked = litmus.on(b) if callers and not _explains(litmus, a, b, names, after) else litmus

    def explains(taken: Sequence[str]) -> bool:
        return _explains(asked, a, b, taken, after)

    def changed(decision: str) -> Changed:
        was, now = (value_text(getattr(kernel, decision)) for kernel in (a, b))
        return Changed(decision, was, now, releases.placed(decision, earlier[0], later))

    alone = asked is not litmus and explains(())
    cause = () if alone else smallest(names, explains)
    others = [n for n in names if n not in cause and explains([n])] if len(cause) == 1 else []
    decisions = (*(callers if asked is not litmus else ()), *map(changed, cause))
    # Of several it is the last one that makes the difference.
    place = max((each.place for each in decisions), key=lambda place: place.since)
    last = place.after or max(earlier[0], releases.preceding(place.since))
    return Turn(place.since, last, before, after, decisions, tuple(map(changed, others)))


# In words and as data

def to_json(told: History) -> dict[str, Any]:
    """All of it."""
    return {
        "litmus": told.litmus, "summary": summary(told),
        "answers": [{"release": str(version), "answer": str(answer)} for version, answer in told.answers],
        "turns": [
            {
                "since": str(turn.since), "last": str(turn.last), "exact": turn.exact, "before": str(turn.before),
                "after": str(turn.after), "commits": list(turn.commits),
                "decisions": [_data(each) for each in turn.decisions], "alone": [_data(each) for each in turn.others],
            }
            for turn in told.turns
        ],
    }


def _data(changed: Changed) -> dict[str, str]:
    place = changed.place
    return {"decision": changed.decision, "was": changed.was, "now": changed.now, "since": str(place.since),
            "source": place.commit}


def summary(told: History) -> str:
    """The history in one line: `Broken v5.9-rc4 to v5.18, fixed in v5.19 by 78fbe906cc90`."""
    first, last = told.answers[0], told.answers[-1]
    if not told.turns:
        return f"{first[1]} on every release from v{first[0]} to v{last[0]}"
    bad = any(answer in BAD for _, answer in told.answers)
    return "; ".join(_period(told, *each) for each in _periods(told) if each[1] in BAD or not bad)


def _periods(told: History) -> Iterator[tuple[Turn | None, Answer, Turn | None]]:
    """Each run of one answer, with the turns in which it begins and ends."""
    ends: list[Turn | None] = [None, *told.turns, None]
    for begins, ends_by in itertools.pairwise(ends):
        yield begins, begins.after if begins else told.answers[0][1], ends_by


def _period(told: History, begins: Turn | None, answer: Answer, ends: Turn | None) -> str:
    first = f"v{begins.since if begins else told.answers[0][0]}{' or before' * bool(begins and not begins.exact)}"
    by = f" ({', '.join(begins.commits)})" if begins and begins.commits else ""
    if ends is None:
        return f"{answer} since {first}{by}"
    last = f"v{ends.last}"
    span = f"up to {last}"
    if begins is not None:
        span = f"in {first}{by}" if begins.since == ends.last else f"{first}{by} to {last}"
    verb = "fixed" if (answer, ends.after) == (Answer.BROKEN, Answer.HOLDS) else ends.after
    when = f"in v{ends.since}" if ends.exact else f"by v{ends.since} (it is not known when)"
    return f"{answer} {span}, {verb} {when}{' by ' * bool(ends.commits)}{', '.join(ends.commits)}"


def causes(told: History) -> list[str]:
    """For each turn the decisions that make the difference, a line for each."""
    lines = []
    for turn in told.turns:
        several = ", only if all of these change" * (len(turn.decisions) > 1) + ", by any of these" * bool(turn.others)
        lines.append(f"v{turn.since}, {turn.before} to {turn.after}{several}:")
        lines += [f"  {_words(each)}" for each in (*turn.decisions, *turn.others)]
    return lines


def _words(changed: Changed) -> str:
    by = f" ({changed.place.commit})" if changed.place.commit else ""
    return f"{changed.decision} {changed.was} -> {changed.now}{by}"
