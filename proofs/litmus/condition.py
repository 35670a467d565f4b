"""The condition of a litmus test: `exists`, `never` or `always`, and what it asks of the test's end."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import z3

from model.blame import nearest
from model.logic import Term
from proofs.litmus import hugetlb
from proofs.litmus.absent import absent
from proofs.litmus.facts import OF_ADDRESSES, Fact
from proofs.litmus.language import PageDeclaration, Statement

_TOKEN = re.compile(r"\s*(\(|\)|==|[A-Za-z0-9_.-]+)")
_INSTEAD = {"=": "==", "&": "and", "|": "or", "!": "not"}
_WORDS = (*OF_ADDRESSES, "refused", "blocked", "slots")
_DEEPEST = 50


class Declared(Protocol):
    """What the condition needs to know of the test before it: the parser, as far as it has come."""

    processes: list[str]
    pages: list[PageDeclaration]
    page_parts: dict[str, tuple[int, ...]]
    reference_parts: dict[str, tuple[int, ...]]
    statements: list[Statement]
    facts: dict[Fact, None]

    def fail(self, message: str) -> NoReturn: ...
    def known(self, what: str, name: str, known: Sequence[str]) -> int: ...
    def parts(self, what: str, name: str, known: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]: ...
    def number(self, word: str, least: int, most: int, what: str) -> int: ...
    def value(self, word: str, least: int) -> int: ...


class Condition:
    """Recursive descent over the tokens of a condition: `or` binds weaker than `and`, `and` weaker than `not`."""

    def __init__(self, parser: Declared, text: str) -> None:
        self.parser = parser
        self.depth = 0
        self.tokens: deque[str] = deque()
        place = 0
        while place < len(text):
            found = _TOKEN.match(text, place)
            if not found:
                sign = text[place:].strip()[0]
                instead = f"; say `{_INSTEAD[sign]}`" if sign in _INSTEAD else ""
                parser.fail(f"a condition cannot contain {sign!r}{instead}")
            self.tokens.append(found.group(1))
            place = found.end()

    def read(self) -> Term:
        term = self.disjunction()
        if self.tokens:
            self.parser.fail(f"expected `and`, `or` or the end of the condition, not {self.tokens[0]!r}")
        return term

    def next(self, expected: str) -> str:
        if not self.tokens:
            self.parser.fail(f"the condition ends where {expected} is expected")
        return self.tokens.popleft()

    def skip(self, *allowed: str) -> str:
        expected = " or ".join(f"`{a}`" for a in allowed)
        token = self.next(expected)
        if token not in allowed:
            self.parser.fail(f"expected {expected}, not {token!r}")
        return token

    def joined(self, word: str, part: Callable[[], Term], join: Callable[..., Term]) -> Term:
        terms = [part()]
        while self.tokens and self.tokens[0] == word:
            self.tokens.popleft()
            terms.append(part())
        return join(*terms) if len(terms) > 1 else terms[0]

    def disjunction(self) -> Term:
        return self.joined("or", self.conjunction, z3.Or)

    def conjunction(self) -> Term:
        return self.joined("and", self.negation, z3.And)

    def negation(self) -> Term:
        token = self.next("a condition")
        if token not in ("not", "("):
            return self.atom(token)
        self.depth += 1
        if self.depth > _DEEPEST:
            self.parser.fail(f"a condition may be nested {_DEEPEST} deep")
        if token == "not":
            term = z3.Not(self.negation())
        else:
            term = self.disjunction()
            self.skip(")")
        self.depth -= 1
        return term

    def atom(self, token: str) -> Term:
        """One fact; of a huge page, or of the references to one, it is said of every part."""
        # A reference may have the name of a word that came later.
        if token in OF_ADDRESSES and [*self.tokens][:1] != ["sees"]:
            places = self.places(self.next("P.V"))
            if why := hugetlb.untold(token, (self.parser.pages[v] for _, v in places)):
                self.parser.fail(why)
            return self.facts(token, places)
        match token:
            case "refused" | "blocked":
                what = f"`{token} k`, the number of an operation"
                return self.facts(token, [(self.number(1, len(self.parser.statements), what),)])
            case "slots":
                self.skip("==")
                return self.facts("slots", [(self.number(0, 255, "`slots == n`"),)])
        if self.is_place(token):
            return self.about_places(token)
        following = next(iter(self.tokens), "")
        if token not in self.parser.reference_parts and (following == "==" or self.is_argument(following)):
            self.parser.fail(absent(token) or f"a condition has no word {token!r}{nearest(token, _WORDS, 0.6)}")
        references = self.references(token)
        if following == "is":
            self.parser.fail(f"what a PTE maps comes first: `P.V is {token}`")
        self.skip("sees")
        value = self.value()
        return self.facts("sees", [(k, value) for k in references])

    def facts(self, what: str, parts: Iterable[tuple[int, ...]]) -> Term:
        found = [Fact(what, of) for of in parts]
        self.parser.facts |= dict.fromkeys(found)
        terms = [fact.constant for fact in found]
        return z3.And(*terms) if len(terms) > 1 else terms[0]

    def about_places(self, token: str) -> Term:
        places = self.places(token)
        if self.skip("==", "is") == "==":
            value = self.value()
            return self.facts("loads", [(*place, value) for place in places])
        other = self.next("a reference or Q.W")
        if self.is_place(other):
            others = self.places(other)
            return self.facts("same", [(*some, *more) for some, more in self.pairs(token, places, other, others)])
        references = self.references(other)
        return self.facts("maps", [(*place, k) for place, k in self.pairs(token, places, other, references)])

    def pairs(self, left: str, some: list[Any], right: str, others: list[Any]) -> Iterable[tuple[Any, Any]]:
        if len(some) != len(others):
            self.parser.fail(f"{left} and {right} do not have the same number of parts")
        return zip(some, others, strict=True)

    @staticmethod
    def is_place(token: str) -> bool:
        """P.V, P.V.0; r and r.0 are references."""
        return "." in token and not token.partition(".")[2].isdigit()

    def is_argument(self, token: str) -> bool:
        """What follows a word that asks something of it: P.V, or a number."""
        return token.isdigit() or self.is_place(token)

    def places(self, token: str) -> list[tuple[int, int]]:
        process, dot, page = token.partition(".")
        if not dot:
            self.parser.fail(f"expected P.V, a process and a page, not {token!r}")
        p = self.parser.known("process", process, self.parser.processes)
        return [(p, v) for v in self.parser.parts("page", page, self.parser.page_parts)]

    def references(self, token: str) -> list[int]:
        return list(self.parser.parts("reference", token, self.parser.reference_parts))

    def number(self, least: int, most: int, what: str) -> int:
        return self.parser.number(self.next("a number"), least, most, what)

    def value(self) -> int:
        return self.parser.value(self.next("a value"), 0)
