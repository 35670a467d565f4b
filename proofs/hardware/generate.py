"""Litmus tests at random over the whole language, steered towards what the model's executions have not met yet.

A test is made anew, of operations that have more to meet the likelier, or by changes of an earlier one that met
something new. Its condition says several things that the model says of its end, so that each difference shows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from model import releases
from model.features import WORLD
from model.kernels import Kernel
from model.logic import ModelError
from model.operations import OPERATIONS, Operation
from proofs.hardware import reproducer
from proofs.hardware.met import Goals, rules_of
from proofs.litmus import hugetlb
from proofs.litmus.execution import Outcome
from proofs.litmus.facts import Fact
from proofs.litmus.language import TRACKED, Litmus
from proofs.litmus.parser import parse

KINDS = ("", "", "zero", "file", "hugetlb", "huge 2", "huge 2", "huge 2 zero")
"""What a page is; often nothing special."""
SELDOM = {"writing": 0.04, "writeback-end": 0.2, "uffd-continue": 0.3, "mremap": 0.6, "exit": 0.3, "munmap": 0.5}
"""Words that come more seldom than others, as some are slow and some end a test, and by how much."""
OFTEN = {"write": 4.0, "fork": 2.0, "pageout": 1.5, "dma": 2.0}
IMPOSSIBLE = frozenset({"trylock-fails", "stable"})
"""What nobody makes a kernel do, and what would need another disk than the rest of a test."""
CHANGED = 0.5
"""How many of the tests are made of earlier ones."""
SHOWN = ("present", "swapped", "huge", "uffd-wp", "zero")
"""Of what a condition asks of an address, what every kernel shows of every page."""
_NAMES = {"page": "xyz", "process": "ABCD"}


@dataclass(frozen=True)
class Draft:
    """A test without its condition, as lines."""

    pages: tuple[str, ...]
    steps: tuple[str, ...]

    def text(self, name: str, condition: str) -> str:
        return "\n".join([f"litmus {name}", *self.pages, *self.steps, f"exists {condition}"]) + "\n"

    def places(self, kind: str = "") -> list[str]:
        """Names of the pages and of their parts; with a `kind`, of pages of that attribute."""
        found = []
        for _, name, *attributes in map(str.split, self.pages):
            if kind and kind not in attributes:
                continue
            size = int(attributes[attributes.index("huge") + 1]) if "huge" in attributes else 1
            found += [name, *(f"{name}.{part}" for part in range(size) if size > 1)]
        return found

    def processes(self) -> list[str]:
        return ["A", *re.findall(r"fork (\w+)(?: event)?$", "\n".join(self.steps), re.MULTILINE)]

    def references(self) -> list[str]:
        return re.findall(r": (\w+) = ", "\n".join(self.steps))


@dataclass(frozen=True)
class Asked:
    """A test with all outcomes that the model has, why it may have others (`stuck`), and what its executions meet of
    the kernel (met.py). `news`: what no earlier test of the generator's met."""

    text: str
    litmus: Litmus
    outcomes: frozenset[Outcome]
    stuck: str
    met: frozenset[str]
    news: frozenset[str]


def draft_of(text: str) -> Draft:
    """The draft of which a test was made."""
    lines = text.splitlines()[1:-1]
    return Draft(
        tuple(line for line in lines if line.startswith("page ")),
        tuple(line for line in lines if not line.startswith("page ")),
    )


def able(kernel: Kernel, features: Collection[str] = WORLD) -> list[Operation]:
    """The operations that the kernel's release has, and that need no other features than those. Huge pages bring the
    zero page with them."""
    having = set(features) | ({"zero"} if "huge" in features else set())
    release = releases.release_of(kernel)
    return [
        o for o in OPERATIONS
        if o.word not in IMPOSSIBLE and not o.flags & IMPOSSIBLE and o.features - {"zero"} <= having
        and not (o.since and release and release < releases.version_of(o.since))
    ]


class Generator:
    """Tests of one seed for one kernel, one after the other: the same seed gives the same ones."""

    def __init__(self, seed: int, goals: Goals, features: Collection[str] = WORLD) -> None:
        self.seed = seed
        self.goals = goals
        self.operations = able(goals.kernel, features)
        self.rules = [rules_of(operation, goals.kernel) for operation in self.operations]
        having = set(features) | {"2", *(["zero"] if "huge" in features else [])}
        self.kinds = [kind for kind in KINDS if set(kind.split()) <= having]
        self.tracked = [word for word in sorted(TRACKED) if f"uffd-{word}" in having]
        self.known: set[Draft] = set()
        self.fruitful: list[Draft] = []
        self.met: set[str] = set()
        self.weights = [self.weight(n) for n in range(len(self.operations))]

    def learn(self, text: str, news: Collection[str]) -> None:
        """That test is behind, and met this for the first time."""
        self.known.add(draft_of(text))
        if news:
            self.met.update(news)
            self.fruitful.append(draft_of(text))
            self.weights = [self.weight(n) for n in range(len(self.operations))]

    def test(self) -> Asked:
        """The next test. None comes twice, whatever its condition."""
        number = len(self.known)
        chance = random.Random(f"{self.seed} {number}")
        while True:
            draft = self.changed(chance) if self.fruitful and chance.random() < CHANGED else self.made(chance)
            if draft in self.known:
                continue
            try:
                found = self.asked(draft, f"random-{self.seed}-{number}", chance)
            except ModelError:
                continue
            self.learn(found.text, found.news)
            return found

    def asked(self, draft: Draft, name: str, chance: random.Random) -> Asked:
        """The draft with a condition. Raises ModelError if the language has no such test, or no program does it."""
        facts = list(dict.fromkeys(_fact(chance, draft) for _ in range(chance.choice((2, 3, 4, 6)))))
        test = parse(draft.text(name, " and ".join(facts)), name)
        reproducer.check(test)
        ends, stuck, met = self.goals.executions(test)
        # One that speaks of all parts of a huge page is several facts.
        wholes = [parse(draft.text(name, fact), name).facts for fact in facts]
        seen = [
            (refused, blocked, _told(wholes, dict(zip(test.facts, truths, strict=True))))
            for refused, blocked, truths in ends
        ]
        wanted = seen[0][2] if seen else (True,) * len(facts)
        texts = [fact if so else f"not {fact}" for fact, so in zip(facts, wanted, strict=True)]
        text = draft.text(name, " and ".join(texts))
        said = parse(text, name)
        outcomes = frozenset(Outcome(refused, blocked, told == wanted) for refused, blocked, told in seen)
        return Asked(text, said, outcomes, stuck, met, met - self.met)

    def made(self, chance: random.Random) -> Draft:
        pages = []
        for page in _NAMES["page"][: chance.choice((1, 2, 2, 2, 3))]:
            attributes = [word for word, odds in (("uffd", 0.25), ("rdonly", 0.1)) if chance.random() < odds]
            if self.tracked and chance.random() < 0.15:
                attributes += ["uffd"] * ("uffd" not in attributes) + [chance.choice(self.tracked)]
            pages.append(self.page(page, chance.choice(self.kinds), *attributes))
        draft = Draft(tuple(pages), ())
        for _ in range(chance.randint(3, 8)):
            draft = self.longer(draft, len(draft.steps), chance)
        return draft

    def changed(self, chance: random.Random) -> Draft:
        """An earlier test with some statements more or fewer, or other pages."""
        draft = chance.choice(self.fruitful)
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.randrange(len(draft.steps) + 1)
            match chance.choice(("longer", "longer", "shorter", "page")):
                case "longer":
                    draft = self.longer(draft, at, chance)
                case "shorter":
                    draft = replace(draft, steps=(*draft.steps[:at], *draft.steps[at + 1:]))
                case _:
                    n = chance.randrange(len(draft.pages))
                    name = draft.pages[n].split()[1]
                    words = chance.choice(("", "uffd", *(f"uffd {word}" for word in self.tracked)))
                    page = self.page(name, chance.choice(self.kinds), *words.split())
                    draft = replace(draft, pages=(*draft.pages[:n], page, *draft.pages[n + 1:]))
        return draft

    def page(self, name: str, kind: str, *attributes: str) -> str:
        """The declaration of a page; userfaultfd is told of pages of files where the kernel has markers for them."""
        told = kind != "file" or self.goals.kernel.uffd_markers
        return " ".join(["page", name, *kind.split(), *(a for a in attributes if a and (told or a != "uffd"))])

    def longer(self, draft: Draft, at: int, chance: random.Random) -> Draft:
        """The draft with one operation more. It may be none that the language allows."""
        before = replace(draft, steps=draft.steps[:at])
        operation = chance.choices(self.operations, self.weights)[0]
        words = [operation.word]
        for argument in operation.arguments:
            match argument:
                case "v" | "w":
                    places = draft.places("hugetlb" if operation.word in hugetlb.OWN else "") or draft.places()
                    words.append(chance.choice([page for page in places if page not in words] or places))
                case "n":
                    words.append(str(chance.randint(1, 9)))
                case "k":
                    words.append(chance.choice(before.references() or ["none"]))
                case "child":
                    words.append(next((p for p in _NAMES["process"] if p not in draft.processes()), "A"))
        flags = sorted(operation.flags, key=lambda flag: (flag in ("longterm", "stable"), flag))
        text = " ".join([*words, *flags, *["fast"] * (bool(operation.quick) and chance.random() < 0.3)])
        if operation.reference:
            text = f"{next(f'r{n}' for n in range(99) if f'r{n}' not in draft.references())} = {text}"
        kernel = operation.actor == "kernel" or (operation.actor == "either" and chance.random() < 0.5)
        who = "*" if kernel else chance.choice([*before.processes(), "A"])
        return replace(draft, steps=(*draft.steps[:at], f"{who}: {text}", *draft.steps[at:]))

    def weight(self, number: int) -> float:
        """How likely that operation comes next: the more, the more of its rules is left to meet."""
        operation = self.operations[number]
        weight = OFTEN.get(operation.word, 1.0) * SELDOM.get(operation.word, 1.0)
        for flag in operation.flags:
            weight *= SELDOM.get(flag, 1.0)
        return weight * (1 + 4 * self.goals.missing(self.rules[number], self.met))


def _fact(chance: random.Random, draft: Draft) -> str:
    process, page = chance.choice(draft.processes()), chance.choice(draft.places())
    values = [int(word) for step in draft.steps for word in step.split() if word.isdigit()]
    value = chance.choice([0, *values])
    facts = [
        f"{process}.{page} == {value}", f"{process}.{page} == {value}", f"writable {process}.{page}",
        f"writable {process}.{page}", f"soft-dirty {process}.{page}",
        *(f"{word} {process}.{page}" for word in chance.sample(SHOWN, 2)),
        *[f"guarded {process}.{page}"] * any(" guard-" in step for step in draft.steps),
        *[f"written {process}.{page}"] * any("async" in declared.split() for declared in draft.pages),
    ]
    if references := draft.references():
        facts += [f"{chance.choice(references)} sees {value}", f"{process}.{page} is {chance.choice(references)}"]
    return chance.choice(facts)


def _told(wholes: Sequence[Sequence[Fact]], known: Mapping[Fact, bool]) -> tuple[bool, ...]:
    """Of which of them all facts are true."""
    return tuple(all(known[fact] for fact in whole) for whole in wholes)
