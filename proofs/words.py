"""Words: clauses of inductive invariants as sentences, and texts in lines that a mail may have."""

from __future__ import annotations

import functools
import itertools
import textwrap
from collections.abc import Sequence

import z3

from model.logic import Term, text_of
from model.vocabulary import VARIABLES, WORDS

MAIL = 72
"""Columns of a mail, and of Markdown that is quoted in one."""


def wrapped(text: str, width: int, indent: str = "", then: str | None = None) -> list[str]:
    """The text in lines of that width; no word is broken. `then`: the indent from the second line on, if another."""
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent if then is None else then, break_on_hyphens=False,
        break_long_words=False,
    )


Literal = tuple[bool, str, str]
"""(holds or not, word, letters of the variables it is said of)."""


def sentence(literals: Sequence[Literal]) -> str:
    """The clause "never all of these": "maps(p, v, f), W(p, v) => exclusive(f)", "never A, B", "always A or B"."""
    parts = [(holds, f"{word}({', '.join(letters)})") for holds, word, letters in literals]
    given = ", ".join(text for holds, text in parts if holds)
    then = " or ".join(text for holds, text in parts if not holds)
    if not then:
        return f"never {given}"
    return f"{given} => {then}" if given else f"always {then}"


def in_words(formula: Term) -> str:
    """The closed formula as a sentence if it is made of the vocabulary's words, else as SMT-LIB text on one line.

    Read off the formula itself: what stands beside a formula could say something else.
    """
    letters = _letters(formula)
    if letters is not None:
        body = z3.substitute_vars(formula.body(), *reversed([z3.Const(x, VARIABLES[x]) for x in letters]))
        if z3.is_not(body):
            inside = body.arg(0)
            conjuncts = _conjuncts(inside, letters)
            if conjuncts is not None:
                return sentence(conjuncts)
    return " ".join(text_of(formula).split())


def _letters(formula: Term) -> str | None:
    """Letters for the variables of a universal formula, or None if there are not enough."""
    if not (z3.is_quantifier(formula) and formula.is_forall()):
        return None
    unused = list(VARIABLES.items())
    letters = ""
    for i in range(formula.num_vars()):
        found = next((x for x, sort in unused if sort == formula.var_sort(i)), None)
        if found is None:
            return None
        unused.remove((found, VARIABLES[found]))
        letters += found
    return letters


def _conjuncts(term: Term, letters: str) -> list[Literal] | None:
    """The literals of which the term is the conjunction, or None if it is made of other things."""
    known = _said_of("".join(sorted(letters)))
    whole = known.get(text_of(term))
    if whole is not None:
        return [(True, *whole)]
    literals: list[Literal] = []
    for part in term.children() if z3.is_and(term) else [term]:
        word = known.get(text_of(part.arg(0) if z3.is_not(part) else part))
        if word is None:
            return None
        literals.append((not z3.is_not(part), *word))
    return literals


@functools.cache
def _said_of(letters: str) -> dict[str, tuple[str, str]]:
    """Text of a word's formula to (word, letters), for all that can be said of those variables."""
    found = {}
    for word in WORDS:
        for places in itertools.permutations(letters, len(word.sorts)):
            if all(VARIABLES[x] == s for x, s in zip(places, word.sorts, strict=True)):
                formula = word.holds(*(z3.Const(x, VARIABLES[x]) for x in places))
                found[text_of(formula)] = (word.name, "".join(places))
    return found
