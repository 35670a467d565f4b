"""Differences between kernel and model made smaller: many smaller tests are asked in one boot, until none differs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from model.logic import ModelError
from proofs.hardware import reproducer
from proofs.hardware.conform import Conformance
from proofs.hardware.generate import Draft, draft_of
from proofs.litmus.language import Litmus
from proofs.litmus.parser import parse

REPEATS = 3
"""How often a difference is asked again, to tell those that always come from flaky ones."""
ROUNDS = 12
"""So often tests are made smaller at most, each by one step and in two boots: whether smaller ones differ, and which of
the HOPEFUL smallest do so each time."""
HOPEFUL = 3

Compare = Callable[[Sequence[Litmus]], dict[str, Conformance]]
"""What the kernel does in tests of different names, held against the model."""


@dataclass(frozen=True)
class KernelDifference:
    """A test in which kernel and model differ. `found`: how, when it was asked last; `again`: how often of REPEATS it
    differed when it was asked again, None before; `smallest`: no smaller test of it differs each time."""

    name: str
    text: str
    found: Conformance
    again: int | None = None
    smallest: bool = False

    @property
    def flaky(self) -> bool:
        """It did not differ each time."""
        return self.again is not None and self.again < REPEATS


def shrink(
    differences: Sequence[KernelDifference], compare: Compare, progress: Callable[[str], None] = lambda what: None
) -> Iterator[list[KernelDifference]]:
    """Make each as small as it gets, in at most ROUNDS rounds: after each, those that are new or smaller or at an end.

    Flaky ones stay as they were. What did not come to its end goes on from what was given last.
    """
    found = {d.name: d for d in differences}
    if new := [d for d in differences if d.again is None]:
        progress(f"{len(new)} differences are asked again")
        changed = [replace(d, again=again) for d, again in zip(new, _repeated(new, compare), strict=True)]
        found |= {d.name: d for d in changed}
        yield changed
    for number in range(ROUNDS):
        growing = [d for d in found.values() if not d.flaky and not d.smallest]
        if not growing:
            return
        progress(f"round {number + 1}: {len(growing)} differences are made smaller")
        changed = _smaller_ones(growing, compare)
        found |= {d.name: d for d in changed}
        yield changed


def _smaller_ones(growing: Sequence[KernelDifference], compare: Compare) -> list[KernelDifference]:
    """Each a step smaller, or the smallest if no smaller test of it differs as it does, and each time."""
    tests: dict[str, Litmus] = {}
    texts: dict[str, str] = {}
    for at, difference in enumerate(growing):
        for n, (text, test) in enumerate(candidates(difference.text)):
            tests[f"c{at}-{n}"] = replace(test, name=f"c{at}-{n}")
            texts[f"c{at}-{n}"] = text
    answers = compare(list(tests.values())) if tests else {}
    hopeful: list[KernelDifference] = []
    for at, difference in enumerate(growing):
        still = [
            name for name, answer in answers.items()
            if name.startswith(f"c{at}-") and answer.status == difference.found.status
        ]
        hopeful += [
            replace(difference, text=texts[name], found=replace(answers[name], litmus=difference.name))
            for name in sorted(still, key=lambda name: _size(texts[name]))[:HOPEFUL]
        ]
    steady: dict[str, KernelDifference] = {}
    for smaller, again in zip(hopeful, _repeated(hopeful, compare), strict=True):
        if again == REPEATS:
            steady.setdefault(smaller.name, smaller)
    return [steady.get(d.name) or replace(d, smallest=True) for d in growing]


def _repeated(differences: Sequence[KernelDifference], compare: Compare) -> list[int]:
    """How often of REPEATS times each differs as it did."""
    again = [
        replace(parse(d.text, d.name), name=f"a{at}-{n}") for at, d in enumerate(differences) for n in range(REPEATS)
    ]
    answers = compare(again) if again else {}
    return [
        sum(f"a{at}-{n}" in answers and answers[f"a{at}-{n}"].status == d.found.status for n in range(REPEATS))
        for at, d in enumerate(differences)
    ]


def candidates(text: str) -> list[tuple[str, Litmus]]:
    """The tests that are one step smaller, as far as the language has them and a program does them."""
    name, condition = text.splitlines()[0].split()[1], text.splitlines()[-1].removeprefix("exists ")
    facts = condition.split(" and ")
    found: dict[str, Litmus] = {}
    for draft, said in _smaller(draft_of(text), facts):
        # What a fact speaks of may be gone.
        for left in dict.fromkeys((tuple(said), *((fact,) for fact in said), (f"A.{draft.places()[0]} == 0",))):
            smaller = draft.text(name, " and ".join(left))
            if smaller == text or smaller in found or _size(smaller) >= _size(text):
                continue
            try:
                test = parse(smaller, name)
                reproducer.check(test)
            except ModelError:
                continue
            found[smaller] = test
            break
    return list(found.items())


def _smaller(draft: Draft, facts: Sequence[str]) -> Iterator[tuple[Draft, Sequence[str]]]:
    steps = range(len(draft.steps))
    for gone in itertools.chain(itertools.combinations(steps, 1), itertools.combinations(steps, 2)):
        yield replace(draft, steps=tuple(s for n, s in enumerate(draft.steps) if n not in gone)), facts
    for n in range(len(facts)):
        if len(facts) > 1:
            yield draft, [*facts[:n], *facts[n + 1:]]
    for process in draft.processes()[1:]:
        kept = tuple(s for s in draft.steps if not s.startswith(f"{process}:") and not s.endswith(f"fork {process}"))
        yield replace(draft, steps=kept), [f for f in facts if f"{process}." not in f]
        merged = tuple(re.sub(rf"^{process}:", "A:", s) for s in draft.steps if not s.endswith(f"fork {process}"))
        yield replace(draft, steps=merged), [f.replace(f"{process}.", "A.") for f in facts]
    for n, page in enumerate(draft.pages):
        _, name, *attributes = page.split()
        others = (*draft.pages[:n], *draft.pages[n + 1:])
        if others:
            used = re.compile(rf"\b{name}\b")
            kept = tuple(s for s in draft.steps if not used.search(s.partition(":")[2]))
            yield Draft(others, kept), [f for f in facts if not used.search(f)]
            other = others[0].split()[1]
            yield Draft(others, tuple(used.sub(other, s) for s in draft.steps)), [used.sub(other, f) for f in facts]
        for word in attributes:
            if word == "huge":
                small = re.compile(rf"\b{name}\.\d+")
                plain = page.replace(" huge 2", "").replace(" zero", "")
                pages = (*draft.pages[:n], plain, *draft.pages[n + 1:])
                yield Draft(pages, tuple(small.sub(name, s) for s in draft.steps)), [small.sub(name, f) for f in facts]
            elif not word.isdigit():
                fewer = " ".join(w for w in page.split() if w != word)
                yield replace(draft, pages=(*draft.pages[:n], fewer, *draft.pages[n + 1:])), facts
    for n, step in enumerate(draft.steps):
        for word in (" fast", " longterm", " write", " writing"):
            if step.endswith(word) or f"{word} " in step:
                shorter = step.replace(word, "", 1)
                yield replace(draft, steps=(*draft.steps[:n], shorter, *draft.steps[n + 1:])), facts
    same = re.compile(r"(?<= )[2-9]$")
    yield replace(draft, steps=tuple(same.sub("1", s) for s in draft.steps)), [same.sub("1", f) for f in facts]


def _size(text: str) -> tuple[int, ...]:
    """The smaller of two tests has fewer statements, processes, pages, words; then facts; then lower values."""
    draft = draft_of(text)
    words = sum(len(line.split()) for line in (*draft.pages, *draft.steps))
    values = sum(int(word) for word in re.findall(r"(?<= )\d+\b", text))
    return (
        len(draft.steps), len(draft.processes()), len(draft.pages), words, text.splitlines()[-1].count(" and "),
        text.splitlines()[-1].count("not "), values,
    )


def kind_of(text: str) -> str:
    """What small tests of one kind have in common: pages' attributes and operations, without names and values."""
    draft = draft_of(text)
    pages = sorted(" ".join(page.split()[2:]) or "small" for page in draft.pages)
    steps = [
        " ".join(w for w in step.partition(":")[2].partition("=")[2].split() or step.partition(":")[2].split()
                 if w.isalpha() or "-" in w)
        for step in draft.steps
    ]
    return f"{', '.join(pages)}: {'; '.join(re.sub(r' [xyzABCD]', '', f' {step}').strip() for step in steps)}"
