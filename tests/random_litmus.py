"""Litmus tests at random, over every operation: to ask real kernels and the model for what nobody has thought of.

    python tests/random_litmus.py FOLDER [--number 300] [--seed 1] [--without huge,uffd,...]

writes FOLDER/random-SEED-N.litmus. The same seed gives the same tests as long as the table of operations stays. Ask
with `python -m proofs conform FOLDER/*.litmus --vmlinuz ...`; a disagreement is a fault of the model, of the replay,
or a choice of the kernel's that the model does not have.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from model.logic import ModelError
from model.operations import OPERATIONS, Operation
from proofs.hardware import reproducer
from proofs.litmus.facts import OF_ADDRESSES
from proofs.litmus.parser import parse

KINDS = ("", "", "zero", "file", "huge 2", "huge 2", "huge 2 zero")
RARE = {"writeback-end": 0.3, "uffd-continue": 0.3, "mremap": 0.6, "exit": 0.3, "munmap": 0.5, "clear-soft-dirty": 0.6}
"""Words that are to come more seldom than others, and by how much."""
OFTEN = {"write": 4.0, "fork": 2.0, "pageout": 1.5, "pin": 0.7, "dma": 2.0}


def generated(random_: random.Random, name: str, without: frozenset[str]) -> str:
    """The text of one test. It may be none that the language allows."""
    kinds = [kind for kind in KINDS if not without & set(kind.split())]
    pages: list[str] = []
    lines = [f"litmus {name}"]
    for page in ("x", "y")[: random_.choice((1, 2, 2))]:
        kind = random_.choice(kinds)
        attributes = [word for word, odds in (("uffd", 0.3), ("rdonly", 0.1)) if random_.random() < odds]
        lines.append(" ".join(["page", page, kind, *(word for word in attributes if word not in without)]).rstrip())
        pages += [page, f"{page}.0", f"{page}.1"] if "huge" in kind else [page]
    processes, references, value = ["A"], list[str](), 1
    for _ in range(random_.randint(3, 8)):
        operation = _operation(random_, without)
        words = [operation.word]
        used = dict.fromkeys(operation.arguments)
        for argument in used:
            match argument:
                case "v" | "w":
                    words.append(random_.choice([page for page in pages if page not in words] or pages))
                case "n":
                    words.append(str(value))
                    value += 1
                case "k":
                    if not references:
                        break
                    words.append(random_.choice(references))
                case "child":
                    words.append("BCD"[len(processes) - 1] if len(processes) < 4 else "A")
        text = " ".join([*words, *sorted(operation.flags, key=lambda flag: (flag in ("longterm", "stable"), flag))])
        if operation.reference:
            references.append(f"r{len(references)}")
            text = f"{references[-1]} = {text}"
        who = "*" if operation.actor == "kernel" else random_.choice([*processes, "A"])
        lines.append(f"{'*' if operation.actor == 'either' and random_.random() < 0.5 else who}: {text}")
        if operation.word == "fork":
            processes.append(words[1])
    facts = [_fact(random_, processes, pages, references, value) for _ in range(random_.choice((1, 2, 2, 3)))]
    return "\n".join([*lines, f"exists {random_.choice((' and ', ' or ')).join(facts)}"]) + "\n"


def _operation(random_: random.Random, without: frozenset[str]) -> Operation:
    chosen = [
        operation for operation in OPERATIONS
        if operation.word not in without | {"trylock-fails"} and not operation.flags & (without | {"stable"})
    ]
    return random_.choices(chosen, [RARE.get(o.word, 1.0) * OFTEN.get(o.word, 1.0) for o in chosen])[0]


def _fact(
    random_: random.Random, processes: list[str], pages: list[str], references: list[str], value: int
) -> str:
    process, page, seen = random_.choice(processes), random_.choice(pages), random_.randrange(value)
    facts = [
        f"{process}.{page} == {seen}", f"{process}.{page} == {seen}",
        *(f"{random_.choice(sorted(OF_ADDRESSES))} {process}.{page}" for _ in range(3)),
    ]
    if references:
        facts += [f"{random_.choice(references)} sees {seen}", f"{process}.{page} is {random_.choice(references)}"]
    fact = random_.choice(facts)
    return f"not {fact}" if random_.random() < 0.2 else fact


def written(seed: int, number: int, without: frozenset[str]) -> list[str]:
    """So many tests that the language allows and a program can do."""
    random_ = random.Random(seed)
    found: list[str] = []
    while len(found) < number:
        text = generated(random_, f"random-{seed}-{len(found)}", without)
        try:
            reproducer.check(parse(text, "random"))
        except ModelError:
            continue
        found.append(text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes litmus tests at random.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", default="", help="words that no test is to have, such as huge,writing")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(written(given.seed, given.number, frozenset(filter(None, given.without.split(","))))):
        (given.folder / f"random-{given.seed}-{number}.litmus").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
