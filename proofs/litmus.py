"""Litmus tests: can this sequence of operations, on that kernel, end like this?

`parse` reads the language, `answer` explores every execution on the reference interpreter. What an operation is made of
is in model/operations.py; here is nothing of any one kernel.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import z3

from model.features import SPLIT
from model.kernels import Kernel
from model.logic import ModelError, Param, Rule, Scope, Sort, System, Term
from model.operations import (
    GIVES_UP,
    OPERATIONS,
    TAILS,
    WHEN_TRYLOCK_FAILS,
    Operation,
    blocks,
    faults,
    last_stage,
    stages,
)
from model.state import (
    UNUSED,
    Page,
    Pin,
    Proc,
    Slot,
    Value,
    frame_value,
    fresh,
    live,
    loaded,
    maps,
    pin_frame,
    pin_live,
    pte_frame,
    pte_present,
    pte_soft_dirty,
    pte_write,
    slot_free,
    vma_soft_dirty,
)
from proofs.interpreter import Instance, Interpreter, State
from proofs.trace import Trace, default_names, execute

FIRST_PROCESS = "A"
MODES = ("exists", "never", "always")
KEYWORDS = ("litmus", "about", "page", "split", *MODES)
PAGE_ATTRIBUTES = ("huge", "zero", "file", "uffd", "rdonly")
RESERVED = frozenset({*KEYWORDS, "and", "or", "not", "is", "sees", "writable", "refused", "blocked", "slots"})
_PLACEHOLDERS = {"v": "V", "w": "W", "n": "n", "k": "r", "child": "Q"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEST_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_TOKEN = re.compile(r"\s*(\(|\)|==|[A-Za-z0-9_.-]+)")
_LARGEST = 16
"""Sub-pages of a huge page: two show whatever many would, and a trace has room for no more than this."""
_DEEPEST = 50
_MOST_FAULTS = 16


class LitmusError(ModelError):
    """A litmus test that cannot be read or run; the message is `FILE:LINE: what is wrong`."""


@dataclass(frozen=True)
class PageDeclaration:
    """A page of the first process, or a sub-page of a huge one, with the words it was declared with.

    `whole`: the name of the huge page that it is a part of, or its own. `contents`: what its file holds.
    """

    name: str
    whole: str
    attributes: frozenset[str] = frozenset()
    contents: int = 0


@dataclass(frozen=True)
class Statement:
    """One operation of the test.

    `parts`: what it is done on, one after the other: a page, or the sub-pages of a huge one, each as rule parameter to
    element number; `p` is the process that does it, and `q` the same for a rule that names two.
    """

    line: int
    text: str
    operation: Operation
    parts: tuple[Mapping[str, int], ...]


@dataclass(frozen=True)
class Litmus:
    """A litmus test. Its processes, pages, references and values are numbered in the order of these tuples.

    `split`: sub-step features that it asks for. `condition`: a Bool term over the constants of its `facts`.
    `missing`: what the model lacks for the test, as the message of a LitmusError, or empty.
    """

    name: str
    about: str
    filename: str
    split: frozenset[str]
    processes: tuple[str, ...]
    pages: tuple[PageDeclaration, ...]
    references: tuple[str, ...]
    values: tuple[int, ...]
    statements: tuple[Statement, ...]
    mode: str
    condition: Term
    facts: tuple[Fact, ...]
    condition_text: str
    missing: str = ""

    @property
    def features(self) -> frozenset[str]:
        """The parts of the domain that the test needs: its kernel's system has to have them."""
        attributes = frozenset().union(*(page.attributes for page in self.pages))
        # To split a folio may map the zero page.
        implied = {"vm-soft-dirty"} | ({"zero"} if "huge" in attributes else set())
        declared = (attributes & {"huge", "zero", "file"}) | implied
        beside = (self.statements[n].operation.beside for group in self.groups if len(group) > 1 for n in group)
        return self.split.union(
            declared, (name for name in beside if name), *(s.operation.features for s in self.statements)
        )

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Statement numbers (0-based) by line: the operations of one line run at the same time."""
        by_line = itertools.groupby(range(len(self.statements)), lambda number: self.statements[number].line)
        return tuple(tuple(numbers) for _, numbers in by_line)

    @property
    def huge_pages(self) -> tuple[str, ...]:
        """Names of the huge pages."""
        return tuple(dict.fromkeys(page.whole for page in self.pages if "huge" in page.attributes))

    @property
    def anonymous(self) -> tuple[int, ...]:
        """Numbers of the pages that no file backs."""
        return tuple(number for number, page in enumerate(self.pages) if "file" not in page.attributes)

    def scope(self) -> Scope:
        """Large enough that frames, folios and slots never run out.

        Each PTE, reference, transient reference and swap slot holds one frame at most, each file page one of the page
        cache, and all others share the zero page; a copy needs one more, or as many as a huge page has parts; a fault
        that copies in sub-steps holds two meanwhile. Each access to a huge page makes one folio at most.
        """
        actions = [(s.operation, len(s.parts)) for s in self.statements]
        ptes = len(self.processes) * len(self.pages)
        slots = sum(parts for operation, parts in actions if operation.word == "pageout")
        extra = sum(parts for operation, parts in actions if operation.word == "extra-ref")
        backing = len(self.pages) - len(self.anonymous) + bool("zero" in self.features and self.anonymous)
        copy = max([1, *(sum(q.whole == page.whole for q in self.pages) for page in self.pages)])
        held = 2 * max(map(len, self.groups), default=0) if self.split & {"copy", "tlb"} else 0
        makers = sum(bool(operation.access) or operation.word == "collapse" for operation, _ in actions)
        huge = len(self.huge_pages)
        return Scope.of(
            Proc=len(self.processes), Page=max(1, len(self.pages)),
            Frame=ptes + len(self.references) + extra + slots + backing + copy + held,
            Pin=max(1, len(self.references)), Slot=max(1, slots), Value=len(self.values),
            Folio=huge + makers if huge else 1, Block=max(1, len(dict.fromkeys(p.whole for p in self.pages))),
        )

    def names(self) -> dict[str, tuple[str, ...]]:
        """The user's names for the elements of the scope, default ones for frames, folios and slots."""
        names = default_names(self.scope())
        given = {
            "Proc": self.processes, "Page": tuple(p.name for p in self.pages), "Pin": self.references,
            "Value": tuple(str(n) for n in self.values), "Block": tuple(dict.fromkeys(p.whole for p in self.pages)),
        }
        return names | {sort: chosen for sort, chosen in given.items() if chosen}


class Fact(NamedTuple):
    """One thing that a condition asks of a test's end: a word and numbers of elements.

    `sees` (k, n): the holder of reference k reads value n; `loads` (p, v, n): a load gives n; `maps` (p, v, k): the PTE
    maps what the reference holds; `same` (p, v, q, w): both map one page; `writable`, `soft-dirty` (p, v); `refused`,
    `blocked` (statement, 1-based); `slots` (how many).
    """

    what: str
    of: tuple[int, ...]

    @property
    def constant(self) -> Term:
        """What stands for it in `Litmus.condition`."""
        return z3.Bool(f"{self.what}{self.of}")

    def meaning(self) -> Term:
        """A Bool term over the constants of `element`; of `refused`, `blocked` and `slots`, its own constant."""
        sorts = _FACT_SORTS.get(self.what, ())
        elements = [element(sort, number) for sort, number in zip(sorts, self.of, strict=False)]
        match self.what, elements:
            case "sees", [k, n]:
                return z3.And(pin_live(k), frame_value(pin_frame(k)) == n)
            case "loads", [p, v, n]:
                return z3.And(live(p, v), loaded(p, v) == n)
            case "maps", [p, v, k]:
                return z3.And(pin_live(k), maps(p, v, pin_frame(k)))
            case "same", [p, v, q, w]:
                return z3.And(pte_present(p, v), maps(q, w, pte_frame(p, v)))
            case "writable", [p, v]:
                return z3.And(pte_present(p, v), pte_write(p, v))
            case "soft-dirty", [p, v]:
                return z3.And(live(p, v), z3.Or(vma_soft_dirty(p), pte_soft_dirty(p, v)))
        return self.constant


_FACT_SORTS = {
    "sees": (Pin, Value), "loads": (Proc, Page, Value), "maps": (Proc, Page, Pin), "same": (Proc, Page, Proc, Page),
    "writable": (Proc, Page), "soft-dirty": (Proc, Page),
}


def element(sort: Sort, number: int) -> Term:
    """The constant that stands for one element in a fact's meaning."""
    return z3.Const(f"{sort.name()}!{number}", sort)


# Parsing


def read(path: Path) -> Litmus:
    """The litmus test in a file. Raises LitmusError if it cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise LitmusError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[:error.start].count(b"\n") + 1
        raise LitmusError(f"{path}:{line}: not UTF-8 text") from error


def read_all(paths: Iterable[Path]) -> list[Litmus]:
    """The tests of those files, each file once. Raises LitmusError if one cannot be read, or two have one name: by it
    go what is said of them, and their traces."""
    tests: dict[str, Litmus] = {}
    for path in dict.fromkeys(paths):
        test = read(path)
        if (other := tests.setdefault(test.name, test)) is not test:
            raise LitmusError(f"{path}: {other.filename} has a test {test.name} already")
    return list(tests.values())


def parse(text: str, filename: str) -> Litmus:
    """The litmus test in `text`; `filename` is for messages.

    A test of pages that the model lacks parses; `answer` refuses it. Raises LitmusError at the first mistake.
    """
    parser = _Parser(filename)
    for line in text.split("\n"):
        parser.read_line(line)
    return parser.finished()


def _suggest(word: str, known: Iterable[str]) -> str:
    """`did you mean ...` or the list of what there is."""
    choices = list(known)
    close = difflib.get_close_matches(word, choices, 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there is {', '.join(choices)}" if choices else "there is none"


def _usage(word: str) -> str:
    forms = []
    for operation in (o for o in OPERATIONS if o.word == word):
        words = ["r =" if operation.reference else "", word, *(_PLACEHOLDERS[a] for a in operation.arguments)]
        flags = [*sorted(operation.flags), "[fast]" if operation.quick else ""]
        forms.append(" ".join(w for w in (*words, *flags) if w))
    return " or ".join(f"`{form}`" for form in forms)


class _Parser:
    """Reads line by line; every name must be declared before its use, so one pass is enough."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.line = 0
        self.name = ""
        self.about = ""
        self.split: frozenset[str] = frozenset()
        self.processes = [FIRST_PROCESS]
        self.forked: dict[int, int] = {}
        self.exited: dict[int, int] = {}
        self.pages: list[PageDeclaration] = []
        self.page_parts: dict[str, tuple[int, ...]] = {}
        self.references: list[str] = []
        self.reference_parts: dict[str, tuple[int, ...]] = {}
        self.taken: list[Statement] = []
        self.dropped: dict[int, int] = {}
        self.values = [0]
        self.statements: list[Statement] = []
        self.condition: tuple[int, str, str, Term] | None = None
        self.facts: dict[Fact, None] = {}
        self.missing = ""

    def fail(self, message: str) -> NoReturn:
        raise LitmusError(f"{self.filename}:{self.line}: {message}")

    def lack(self, what: str) -> None:
        """Remember the first thing the model cannot do."""
        self.missing = self.missing or f"{self.filename}:{self.line}: {what} are not in the model"

    # Statements

    def read_line(self, line: str) -> None:
        self.line += 1
        text = " ".join(line.partition("#")[0].split())
        if not text:
            return
        word, _, rest = text.partition(" ")
        if word not in KEYWORDS and ":" not in text:
            self.fail(f"unknown statement {word!r}; {_suggest(word, (*KEYWORDS, 'P: operation'))}")
        if not self.name and word != "litmus":
            self.fail("the first statement is `litmus NAME`")
        if self.condition:
            self.fail(f"nothing may follow the condition of line {self.condition[0]}")
        match word:
            case "litmus":
                self.read_name(rest)
            case "about":
                if self.about or not rest:
                    self.fail("`about TEXT` may stand once, with a text")
                self.about = rest
            case "page":
                self.read_page(rest.split())
            case "split":
                self.read_split(rest.split())
            case "exists" | "never" | "always":
                self.condition = (self.line, word, rest, _Condition(self, rest).read())
            case _:
                self.read_operations(text)

    def read_name(self, name: str) -> None:
        if self.name:
            self.fail("a second `litmus`; one test a file")
        if not _TEST_NAME.fullmatch(name):
            self.fail(f"`litmus NAME`: a name is made of letters, digits, - _ and ., not {name!r}")
        self.name = name

    def new_name(self, what: str, name: str, known: Sequence[str]) -> None:
        if not _NAME.fullmatch(name) or name in RESERVED:
            reserved = ", ".join(sorted(RESERVED))
            self.fail(f"{name!r} cannot name a {what}: letters, digits and _, and none of {reserved}")
        if name in known:
            self.fail(f"the {what} name {name} is used already")

    def known(self, what: str, name: str, known: Sequence[str]) -> int:
        if name not in known:
            self.fail(f"no {what} {name!r} up to here; {_suggest(name, known)}")
        return list(known).index(name)

    def read_page(self, words: list[str]) -> None:
        if self.statements:
            self.fail("pages are declared before the first operation")
        if not words:
            self.fail("`page V [huge N] [zero] [file [n]] [uffd] [rdonly]`: the name is missing")
        name, *rest = words
        self.new_name("page", name, list(self.page_parts))
        attributes: set[str] = set()
        size = 1
        contents = 0
        while rest:
            attribute = rest.pop(0)
            if attribute not in PAGE_ATTRIBUTES:
                self.fail(f"unknown page attribute {attribute!r}; {_suggest(attribute, PAGE_ATTRIBUTES)}")
            if attribute in attributes:
                self.fail(f"attribute {attribute} twice")
            if attribute == "huge":
                size = self.number(rest.pop(0) if rest else "", 2, _LARGEST, "`huge N`, so many sub-pages")
            elif attribute == "file" and rest and rest[0].isdigit():
                contents = self.values[self.value(rest.pop(0), 0)]
            attributes.add(attribute)
        if attributes >= {"zero", "file"}:
            self.fail("a page is `zero` or `file`: a file mapping never maps the zero page")
        if attributes >= {"huge", "file"}:
            self.lack("huge pages of files")
        parts = [f"{name}.{i}" for i in range(size)] if size > 1 else [name]
        first = len(self.pages)
        self.pages += [PageDeclaration(part, name, frozenset(attributes), contents) for part in parts]
        self.page_parts[name] = tuple(range(first, first + size))
        self.page_parts |= {part: (first + i,) for i, part in enumerate(parts)}

    def read_split(self, names: list[str]) -> None:
        if self.split or not names:
            self.fail(f"`split NAME...` may stand once, with names among {', '.join(SPLIT)}")
        if self.statements:
            self.fail("`split` stands before the first operation")
        for name in names:
            if name not in SPLIT:
                self.fail(f"no sub-steps {name!r}; {_suggest(name, SPLIT)}")
        self.split = frozenset(names)

    def number(self, word: str, least: int, most: int, what: str) -> int:
        if not (word.isascii() and word.isdigit() and len(word) <= 4 and least <= int(word) <= most):
            self.fail(f"{what}: a number from {least} to {most}, not {word!r}")
        return int(word)

    def value(self, word: str, least: int) -> int:
        number = self.number(word, least, 255, "a value")
        if number not in self.values:
            self.values.append(number)
        return self.values.index(number)

    # Operations

    def read_operations(self, text: str) -> None:
        """The operations of one line, which run at the same time."""
        group = [self.read_operation(part.strip()) for part in text.split("||")]
        for statement in group:
            others = [s for s in group if s.operation.actor == "process" and "k" not in s.operation.arguments]
            who = statement.parts[0]["p"]
            if statement.operation.word == "exit" and sum(s.parts[0]["p"] == who for s in others) > 1:
                self.fail(f"exit ends every thread of {self.processes[who]}: it runs beside none of them")

    def downwards(self, v: int) -> tuple[int, int]:
        """Sorts page numbers by address, the highest first: pages lie below those declared before them."""
        return min(u for u, page in enumerate(self.pages) if page.whole == self.pages[v].whole), -v

    def read_operation(self, text: str) -> Statement:
        actor, colon, rest = text.partition(":")
        words = rest.replace("=", " = ").split()
        gives = ""
        if len(words) > 1 and words[1] == "=":
            gives, words = words[0], words[2:]
        if not colon:
            self.fail(f"{text!r} is not `P: operation`")
        if not words:
            self.fail(f"{text!r} needs an operation")
        operation, arguments = self.operation(words)
        process = self.actor(actor.strip(), operation)
        if operation.reference != bool(gives):
            self.fail(f"{operation.word} is written {_usage(operation.word)}")
        bound = {
            parameter: self.argument(parameter, word)
            for parameter, word in zip(operation.arguments, arguments, strict=True)
        }
        sizes = {word: len(bound[x]) for x, word in zip(operation.arguments, arguments, strict=True) if x in "vwk"}
        size = max(sizes.values(), default=1)
        if min(sizes.values(), default=1) != size:
            self.fail(" and ".join(f"{word} has {n} part{'s' * (n > 1)}" for word, n in sizes.items()))
        if size > 1 and operation.whole:
            operation = replace(
                operation, goal=operation.whole, refusal=operation.whole_refusal, nothing=(), prepares=()
            )
            size = 1
        if gives:
            bound["k"] = self.new_reference(gives, size)
        parts = tuple(
            {"p": process, "q": process} | {x: (of[i] if len(of) > 1 else of[0]) for x, of in bound.items()}
            for i in range(size)
        )
        if operation.by_address:
            found = [sorted((part["v"], part["w"]), key=self.downwards) for part in parts]
            parts = tuple(part | {"v": v, "w": w} for part, (v, w) in zip(parts, found, strict=True))
        statement = Statement(self.line, text, operation, parts)
        for part in parts:
            if gives:
                self.taken.append(statement)
            elif "k" in part:
                self.use_reference(statement, part)
        if operation.word == "collapse" and "huge" not in self.pages[parts[0]["v"]].attributes:
            self.fail(f"{self.pages[parts[0]['v']].name} is not a huge page, nor a part of one: nothing to collapse")
        if operation.word == "mremap" and any("file" in self.pages[part[x]].attributes for part in parts for x in "vw"):
            self.lack("file mappings that move")
        if operation.word == "exit":
            self.exited[process] = self.line
        self.statements.append(statement)
        return statement

    def new_reference(self, name: str, size: int) -> tuple[int, ...]:
        self.new_name("reference", name, list(self.reference_parts))
        first = len(self.references)
        parts = [f"{name}.{i}" for i in range(size)] if size > 1 else [name]
        self.references += parts
        self.reference_parts[name] = tuple(range(first, first + size))
        self.reference_parts |= {part: (first + i,) for i, part in enumerate(parts)}
        return self.reference_parts[name]

    def operation(self, words: list[str]) -> tuple[Operation, list[str]]:
        """The operation and the words of its arguments."""
        word, *rest = words
        forms = [o for o in OPERATIONS if o.word == word]
        if not forms:
            self.fail(f"unknown operation {word!r}; {_suggest(word, dict.fromkeys(o.word for o in OPERATIONS))}")
        count = len(forms[0].arguments)
        flags = frozenset(rest[count:])
        form = next((f for f in forms if f.flags == flags - ({"fast"} if f.quick else set())), None)
        if form is None or len(rest) != count + len(flags):
            self.fail(f"{word} is written {_usage(word)}")
        return replace(form, **({"prepares": ()} if "fast" in flags else {"quick": ""})), rest[:count]

    def actor(self, name: str, operation: Operation) -> int:
        """The number of the process that does it; the first one for the kernel's own operations."""
        if name == "*":
            if operation.actor == "process":
                self.fail(f"`*:` is the kernel; {operation.word} is done by a process")
            return 0
        if operation.actor == "kernel":
            self.fail(f"only the kernel does {operation.word}: write `*: {operation.word}`")
        process = self.known("process", name, self.processes)
        if self.forked.get(process) == self.line:
            self.fail(f"process {name} is forked on this line: it can do something from the next one on")
        # What a process held outlives it: the pipe, the device.
        if self.exited.get(process, self.line) < self.line and "k" not in operation.arguments:
            self.fail(f"process {name} has exited on line {self.exited[process]}")
        return process

    def argument(self, parameter: str, word: str) -> tuple[int, ...]:
        """The elements that a word means, more than one if it is the name of a huge page, or of references to one."""
        match parameter:
            case "n":
                return (self.value(word, 1),)
            case "k":
                return self.parts("reference", word, self.reference_parts)
            case "child":
                self.new_name("process", word, self.processes)
                self.processes.append(word)
                self.forked[len(self.processes) - 1] = self.line
                return (len(self.processes) - 1,)
            case _:
                return self.parts("page", word, self.page_parts)

    def parts(self, what: str, name: str, known: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        self.known(what, name, list(known))
        return known[name]

    def use_reference(self, statement: Statement, part: Mapping[str, int]) -> None:
        """`drop r`, `dma r n`: by its holder, once or through a write reference."""
        k = part["k"]
        name, taken = self.references[k], self.taken[k]
        holder = taken.parts[0]["p"]
        if taken.line == self.line:
            self.fail(f"{name} is taken on this line: it can be used from the next one on")
        if part["p"] != holder:
            self.fail(f"{name} is held by {self.processes[holder]} (line {taken.line})")
        if k in self.dropped:
            self.fail(f"{name} was dropped on line {self.dropped[k]}")
        if statement.operation.word == "drop":
            self.dropped[k] = self.line
        elif "write" not in taken.operation.flags:
            self.fail(f"{name} is a read reference (line {taken.line}); dma needs one taken with `write`")

    def finished(self) -> Litmus:
        if not self.name:
            self.fail("no test here; the first statement is `litmus NAME`")
        if not self.condition:
            self.fail("the condition is missing: `exists ...`, `never ...` or `always ...`")
        _, mode, text, condition = self.condition
        return Litmus(
            self.name, self.about, self.filename, self.split, tuple(self.processes), tuple(self.pages),
            tuple(self.references), tuple(self.values), tuple(self.statements), mode, condition, tuple(self.facts),
            text, self.missing,
        )


class _Condition:
    """Recursive descent over the tokens of a condition: `or` binds weaker than `and`, `and` weaker than `not`."""

    def __init__(self, parser: _Parser, text: str) -> None:
        self.parser = parser
        self.depth = 0
        self.tokens: deque[str] = deque()
        place = 0
        while place < len(text):
            found = _TOKEN.match(text, place)
            if not found:
                parser.fail(f"a condition cannot contain {text[place:].strip()[0]!r}")
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
        match token:
            case "writable" | "soft-dirty":
                return self.facts(token, self.places(self.next("P.V")))
            case "refused" | "blocked":
                what = f"`{token} k`, the number of an operation"
                return self.facts(token, [(self.number(1, len(self.parser.statements), what),)])
            case "slots":
                self.skip("==")
                return self.facts("slots", [(self.number(0, 255, "`slots == n`"),)])
        if self.is_place(token):
            return self.about_places(token)
        references = self.references(token)
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


# Execution


class Answer(StrEnum):
    """What a test's question got: `exists` Allowed or Forbidden, `never` and `always` Holds or Broken."""

    ALLOWED = "Allowed"
    FORBIDDEN = "Forbidden"
    HOLDS = "Holds"
    BROKEN = "Broken"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Result:
    """The answer. `trace`: a shortest execution that shows Allowed or Broken. `reason`: why it is UNKNOWN, or which
    executions the model could not follow. `executions`: how many different ones came to an end."""

    answer: Answer
    trace: Trace | None
    reason: str
    executions: int


class Situation(NamedTuple):
    """What operations find: a state, and whether the next attempt to lock a page will fail."""

    state: State
    lock_fails: bool = False


class End(NamedTuple):
    """Where an execution ended. `refused`, `blocked`: numbers (0-based) of the operations that were, or that wait.

    `steps`: what each operation did, as (its number, rule step).
    """

    situation: Situation
    refused: frozenset[int]
    blocked: frozenset[int]
    steps: tuple[tuple[int, Instance], ...]


class _Progress(NamedTuple):
    """How far an operation is.

    part          number of the part that is next; how many there are when it is finished
    prepared      how many preparations are behind it
    tried         its quick rule has had its try
    rule, role    the rule in whose sub-steps it is, and what for: `prepares`, `goal`, `fault`; `then`: between the two
    bound         parameters that it goes on with
    faults        rules it took on the way
    waits         for the userfaultfd monitor
    """

    part: int = 0
    prepared: int = 0
    tried: bool = False
    rule: str = ""
    role: str = ""
    bound: tuple[tuple[str, int], ...] = ()
    faults: int = 0
    waits: bool = False


class _Point(NamedTuple):
    """How far an execution is: at which group of statements, and how far each of its operations is."""

    state: State
    at: int
    progress: tuple[_Progress, ...]
    lock_fails: bool = False
    refused: frozenset[int] = frozenset()


class _Move(NamedTuple):
    """What an operation may do next: a rule's step, or None where nothing changes, and how far it is then."""

    step: Instance | None
    progress: _Progress
    refused: bool = False
    lock_fails: bool | None = None


class _Stuck(Exception):
    """No rule applies: the model cannot say how the execution goes on."""


def answer(litmus: Litmus, kernel: Kernel, system: System) -> Result:
    """Explore all executions of the test on the kernel; `system` is `kernel.system(litmus.features)`, or has more.

    Raises LitmusError as Run does.
    """
    return Run(litmus, kernel, interpreter_of(system, litmus.scope())).result()


def answer_of(litmus: Litmus, conditions: Iterable[bool], stuck: str) -> Answer:
    """The answer to a test whose executions end with these truths of its condition. `stuck`: why one has no end."""
    wanted = litmus.mode != "always"
    exists = litmus.mode == "exists"
    if wanted in conditions:
        return Answer.ALLOWED if exists else Answer.BROKEN
    if stuck:
        return Answer.UNKNOWN
    return Answer.FORBIDDEN if exists else Answer.HOLDS


class Outcome(NamedTuple):
    """How an execution may end, as far as its processes can tell: refused and blocked operations, counted from 1."""

    refused: frozenset[int]
    blocked: frozenset[int]
    condition: bool


def outcomes(litmus: Litmus, kernel: Kernel, system: System) -> tuple[frozenset[Outcome], str]:
    """Every outcome that some execution has, and why the model cannot follow one of them (empty if it can).

    As `answer`.
    """
    run = Run(litmus, kernel, interpreter_of(system, litmus.scope()))
    ends, reason = run.explore(run.start)
    return frozenset(run.outcome(end) for end in ends), reason or run.left_out


def own_rules(kernel: Kernel, system: System) -> list[str]:
    """Names of the rules that a user's kernel adds, as far as the system has them."""
    names = {rule.name.partition(".")[0] for rule in system.rules}
    return [template.name for template in kernel.own_rules if template.name in names]


_UNUSED: dict[str, Term] = {s.name(): fresh(z3.Const("unused", s)) for s in UNUSED}
_interpreters: dict[tuple[int, Scope], Interpreter] = {}


def interpreter_of(system: System, scope: Scope) -> Interpreter:
    """One interpreter per system and scope: it holds the system, so the id stays its own."""
    key = (id(system), scope)
    if key not in _interpreters:
        if len(_interpreters) == 2048:
            _interpreters.clear()
        _interpreters[key] = Interpreter(system, scope)
    return _interpreters[key]


def _next_part(progress: _Progress) -> _Progress:
    return _Progress(progress.part + 1)


def _refused(statement: Statement, progress: _Progress, step: Instance | None) -> _Move:
    """The call ends with an error. What the kernel does to each page by itself goes on with the next part."""
    goes_on = statement.operation.on_frame
    return _Move(step, _Progress(progress.part + 1 if goes_on else len(statement.parts)), refused=True)


class Run:
    """One test on one kernel: breadth-first over rule steps, so the first end found is a shortest one.

    The interpreter's scope may be larger than the test's. Raises LitmusError if the test needs what the model or the
    system lacks.
    """

    def __init__(self, litmus: Litmus, kernel: Kernel, interpreter: Interpreter) -> None:
        if litmus.missing:
            raise LitmusError(litmus.missing)
        self.litmus = litmus
        self.kernel = kernel
        self.interpreter = interpreter
        self.groups = litmus.groups
        meanings = ((fact.constant, fact.meaning()) for fact in litmus.facts)
        self.condition = interpreter.system.reduced(z3.substitute(litmus.condition, *meanings))
        self.rules = {rule.name: rule for rule in interpreter.system.rules}
        self.stages = stages(self.rules)
        self.last = {last_stage(names) for names in self.stages.values()}
        self.start = Situation(self.start_state())
        self.came: dict[_Point, tuple[_Point, Instance | None, int]] = {}

    def start_state(self) -> State:
        """The initial state, with the attributes of the declared pages and what they map from the start."""
        pages, blocks = self.litmus.pages, self.litmus.names()["Block"]
        cells: dict[tuple[str, tuple[int, ...]], int] = {}
        if "vma_soft_dirty" in self.interpreter.layout.position:
            cells["vma_soft_dirty", (0,)] = True
        for number, page in enumerate(pages):
            registers = "file" not in page.attributes or self.kernel.uffd_markers
            cells["vma_uffd", (0, number)] = "uffd" in page.attributes and registers
            if "huge" in page.attributes:
                cells["vma_huge", (0, number)] = True
            if "file" in page.attributes:
                cells["file", (number,)] = True
                if "file_value" in self.interpreter.layout.position:
                    cells["file_value", (number,)] = self.litmus.values.index(page.contents)
            if "block" in self.interpreter.layout.position:
                cells["block", (number,)] = blocks.index(page.whole)
        state = self.with_cells(self.interpreter.initial(), cells)
        # Without the rule, reads of untouched pages return zero without a page.
        declared = any("zero" in page.attributes for page in pages)
        used = "zero" in self.litmus.features and "backing-read" in self.rules
        if self.litmus.anonymous and (declared or used):
            state = self.executed("backing-read", self.litmus.anonymous[0], state)
        for number, page in enumerate(pages):
            zero = "zero" in page.attributes
            if "huge" in page.attributes and page.name == f"{page.whole}.0":
                state = self.executed("map-huge-zero" if zero else "huge-fault", number, state)
            elif zero and "huge" not in page.attributes:
                state = self.executed("map-backing", number, state)
        return self.with_cells(state, {
            (function, (0, number)): False
            for number, page in enumerate(pages) if "rdonly" in page.attributes
            for function in ("vma_write", "pte_write")
        })

    def with_cells(self, state: State, cells: Mapping[tuple[str, tuple[int, ...]], int]) -> State:
        """The state with other values in those cells: (state function, index) to value."""
        changed = list(state)
        for (function, index), value in cells.items():
            if function not in self.interpreter.layout.position:
                raise LitmusError(f"{self.litmus.filename}: {self.kernel.name} was built without {function}")
            changed[self.interpreter.layout.position[function][index]] = int(value)
        return self.interpreter.canonical(tuple(changed))

    def executed(self, rule: str, page: int, state: State) -> State:
        """The state after the first process took the rule at that page."""
        steps = self.enabled((rule,), {"p": 0, "v": page}, state)
        if not steps:
            raise LitmusError(f"{self.litmus.filename}: {self.kernel.name} was built without {rule}")
        return self.interpreter.step(steps[0], state)

    def result(self) -> Result:
        ends, reason = self.explore(self.start)
        reason = reason or self.left_out
        wanted = self.litmus.mode != "always"
        shown = next((end for end in ends if self.ends_in_condition(end) == wanted), None)
        answer = answer_of(self.litmus, [not wanted] if shown is None else [wanted], reason)
        return Result(answer, None if shown is None else self.trace(shown), reason, len(ends))

    @property
    def left_out(self) -> str:
        """Why there may be more executions: the kernel has rules of its own, which no operation takes."""
        own = own_rules(self.kernel, self.interpreter.system)
        return f"no operation takes {', '.join(own)} of {self.kernel.name}" if own else ""

    def ends(self, start: Situation | None = None) -> tuple[list[End], str]:
        """The ends of all executions from there, or from the test's own start, nearest first; and why the first that
        the model could not follow stopped."""
        points, reason = self.explore(start or self.start)
        return [
            End(Situation(p.state, p.lock_fails), p.refused, frozenset(self.waiting(p)), tuple(self.steps_to(p)))
            for p in points
        ], reason

    def explore(self, situation: Situation) -> tuple[list[_Point], str]:
        """The ends of all executions as points, nearest first, and why the first one not followed stopped."""
        ends = []
        reason = ""
        start = _Point(situation.state, 0, self.beginning(0), situation.lock_fails)
        self.came = {}
        seen = {start}
        queue = deque([start])
        while queue:
            point = queue.popleft()
            try:
                successors = self.successors(point)
            except _Stuck as stuck:
                reason = reason or str(stuck)
                continue
            if not successors:
                ends.append(point)
            for step, number, after in successors:
                if after in seen:
                    continue
                seen.add(after)
                self.came[after] = (point, step, number)
                # What takes no step comes before what takes one.
                (queue.append if step else queue.appendleft)(after)
        return ends, reason

    # One step

    def beginning(self, at: int) -> tuple[_Progress, ...]:
        """The operations of a group, none of which has begun; empty beyond the last one."""
        return (_Progress(),) * len(self.groups[at]) if at < len(self.groups) else ()

    def unfinished(self, point: _Point) -> list[int]:
        """Numbers of the statements of the present group that are not done, nor refused."""
        if not point.progress:
            return []
        return [
            number for number, progress in zip(self.groups[point.at], point.progress, strict=True)
            if progress.part < len(self.litmus.statements[number].parts)
        ]

    def successors(self, point: _Point) -> list[tuple[Instance | None, int, _Point]]:
        """What may come next: a rule's step, or None where nothing changes, and the number of its statement.

        Empty at the end: everything is done, or what is not waits for the userfaultfd monitor. Raises _Stuck.
        """
        unfinished = self.unfinished(point)
        found = [
            (move.step, number, self.moved(point, number, move)) for number in unfinished
            for move in self.moves(number, point)
        ]
        for number in unfinished if not found else ():
            if number not in self.waiting(point):
                statement = self.litmus.statements[number]
                raise _Stuck(f"line {statement.line}: no rule of {self.kernel.name} applies to `{statement.text}`")
        return found

    def waiting(self, point: _Point) -> list[int]:
        """Numbers of the statements that wait for the userfaultfd monitor."""
        return [n for n in self.unfinished(point) if point.progress[n - self.groups[point.at][0]].waits]

    def moved(self, point: _Point, number: int, move: _Move) -> _Point:
        """The point after an operation's move; the next group's beginning if it was the last of its group."""
        place = number - self.groups[point.at][0]
        after = point._replace(
            progress=(*point.progress[:place], move.progress, *point.progress[place + 1:]),
            refused=point.refused | ({number} if move.refused else set()),
            lock_fails=point.lock_fails if move.lock_fails is None else move.lock_fails,
            state=self.interpreter.step(move.step, point.state) if move.step else point.state,
        )
        if self.unfinished(after):
            return after
        return after._replace(at=point.at + 1, progress=self.beginning(point.at + 1))

    def moves(self, number: int, point: _Point) -> Iterator[_Move]:
        """What the operation may do next; nothing while it waits for others. Raises _Stuck."""
        statement, progress = self.litmus.statements[number], point.progress[number - self.groups[point.at][0]]
        operation, part, state = statement.operation, statement.parts[progress.part], point.state
        given = {**part, **dict(progress.bound)}
        if operation.word == "trylock-fails":
            yield _Move(None, _next_part(progress), lock_fails=True)
        elif progress.rule:
            later = self.enabled(self.stages[progress.rule][1:], given, state)
            yield from (self.taken(step, progress.role, statement, progress) for step in later)
        elif progress.role == "then":
            after = self.enabled(operation.then, given, state)
            yield from (_Move(step, _next_part(progress)) for step in after or (None,))
        elif not (progress.waits and self.enabled(blocks(operation.access, self.kernel), given, state)):
            progress = progress._replace(waits=False)
            perhaps = self.enabled(operation.perhaps, given, state)
            yield from (self.taken(step, "goal", statement, progress) for step in perhaps)
            yield from self.attempt(statement, progress, point)

    def attempt(self, statement: Statement, progress: _Progress, point: _Point) -> Iterator[_Move]:
        """The rules for the first thing of an operation's course for which there is one. Raises _Stuck."""
        operation, part, state = statement.operation, statement.parts[progress.part], point.state
        if len(statement.parts) > 1 and progress == _Progress():
            at_once = self.enabled(operation.at_once, part, state)
            yield from (_Move(step, _Progress(len(statement.parts))) for step in at_once)
            if at_once:
                return
        nothing = self.enabled(operation.nothing, part, state) if not progress.prepared else []
        if nothing:
            yield from (self.taken(step, "goal", statement, progress) for step in nothing)
            return
        preparations = [(rule, name) for rule in operation.prepares for name in "vw" if name in part]
        for rule, name in preparations[progress.prepared:]:
            steps = self.enabled((rule,), {**part, **self.there(part["p"], part[name], state)}, state)
            if steps:
                yield from (self.taken(step, "prepares", statement, progress) for step in steps)
                return
            progress = progress._replace(prepared=progress.prepared + 1)
        there = self.there(part["p"], part["v"], state) if operation.on_frame or operation.on_slot else {}
        given = {**part, **there, **dict(progress.bound)}
        if (operation.on_frame and "f" not in given) or (operation.on_slot and "s" not in given):
            yield _refused(statement, progress, None)
            return
        quick = () if progress.tried else (operation.quick,)
        progress = progress._replace(tried=True)
        for role, names, where in (
            ("goal", quick, given), ("goal", operation.goal, given), ("refusal", operation.refusal, given),
            ("block", blocks(operation.access, self.kernel), given),
            *(("fault", names, where) for names in faults(operation.access, self.kernel)
              for where in (self.block_of(given) if operation.on_block else [given])),
            # Others may have undone a preparation.
            *(("fault", (rule,), {**given, **self.there(part["p"], part[name], state)}) for rule, name in preparations),
        ):
            steps = self.enabled(names, where, state)
            if steps and role == "fault" and progress.faults == _MOST_FAULTS:
                raise _Stuck(f"line {statement.line}: on {self.kernel.name} `{statement.text}` faults for ever")
            for step in steps:
                instead = self.when_trylock_fails(step, where, point)
                move = self.taken(instead or step, role, statement, progress)
                yield move._replace(lock_fails=False) if instead else move
            if steps:
                return
        gone = operation.on_frame and there.get("f") != given["f"]
        if gone or ((operation.on_frame or operation.on_slot) and not operation.refusal):
            yield _refused(statement, progress, None)

    def taken(self, step: Instance, role: str, statement: Statement, progress: _Progress) -> _Move:
        """The step of an operation that took it for that role, and how far it is then."""
        given = {name: value for name, value in step.binding if isinstance(value, int)}
        bound = tuple((dict(progress.bound) | given).items())
        rule, _, stage = step.rule.name.partition(".")
        over = progress._replace(rule="", role="", bound=())
        if stage in GIVES_UP:
            # What was to be prepared is not; the goal's rules say what that means.
            if role == "prepares":
                return _Move(step, over._replace(prepared=progress.prepared + 1))
            return _Move(step, over._replace(faults=progress.faults + 1))
        if stage and rule in TAILS:
            if f"{TAILS[rule]}.{stage}" in self.rules:
                return _Move(step, progress._replace(rule=TAILS[rule], role=role, bound=bound))
            return _Move(step, over._replace(bound=bound))
        if stage and step.rule.name not in self.last:
            return _Move(step, progress._replace(rule=rule, role=role, bound=bound))
        match role:
            case "prepares":
                return _Move(step, over._replace(prepared=progress.prepared + 1))
            case "fault":
                return _Move(step, over._replace(faults=progress.faults + 1))
            case "refusal":
                return _refused(statement, progress, step)
            case "block":
                return _Move(step, over._replace(waits=True))
        slot = tuple((name, value) for name, value in bound if name == "s")
        if statement.operation.then and slot:
            return _Move(step, over._replace(role="then", bound=slot))
        return _Move(step, _next_part(progress))

    def block_of(self, given: Mapping[str, int]) -> list[dict[str, int]]:
        """The rule parameters for each page of the block of v."""
        pages = self.litmus.pages
        whole = pages[given["v"]].whole
        return [{**given, "v": number} for number, page in enumerate(pages) if page.whole == whole]

    def there(self, p: int, v: int, state: State) -> dict[str, int]:
        """The rule parameters of what process p has at page v: the page, the frame if it maps one, and the swap slot
        that its entry names or its frame has."""
        position = self.interpreter.layout.position

        def cell(function: str, *index: int) -> Any:
            return state[position[function][index]]

        found = {"p": p, "v": v}
        if cell("pte_swap", p, v):
            return found | {"s": cell("pte_slot", p, v)}
        if not cell("pte_present", p, v):
            return found
        found["f"] = cell("pte_frame", p, v)
        for s in range(self.interpreter.scope.size(Slot)):
            if cell("cached", s) and cell("slot_frame", s) == found["f"]:
                found["s"] = s
        return found

    def when_trylock_fails(self, step: Instance, given: Mapping[str, int], point: _Point) -> Instance | None:
        """What the step becomes if it tries the page lock, and this is the attempt that fails."""
        if not point.lock_fails or step.rule.name not in WHEN_TRYLOCK_FAILS:
            return None
        return next(iter(self.enabled((WHEN_TRYLOCK_FAILS[step.rule.name],), given, point.state)), None)

    # Bindings

    def enabled(self, names: Iterable[str], given: Mapping[str, int], state: State) -> list[Instance]:
        """The enabled instances of those rules: given parameters, the first unused elements, any other element.

        Of a rule in sub-steps, those of the first one.
        """
        found = []
        for name in names:
            rule = self.rules.get(name) or self.rules.get(self.stages.get(name, [""])[0])
            if rule is None:
                continue
            choices = [self.choices(rule, p, given, state) for p in rule.params]
            for chosen in itertools.product(*choices):
                instance = Instance(rule, tuple((p.name, c) for p, c in zip(rule.params, chosen, strict=True)))
                if self.interpreter.enabled(instance, state):
                    found.append(instance)
        return found

    def choices(self, rule: Rule, param: Param, given: Mapping[str, int], state: State) -> Sequence[Any]:
        if param.name in given:
            return [given[param.name]]
        if param.over is not None:
            return self.function_choice(param, given, state)
        if param.fresh:
            return list(itertools.islice(self.unused(param.sort, state), 1))
        return range(self.interpreter.scope.size(param.sort))

    def unused(self, sort: Sort, state: State) -> Iterator[int]:
        for i in range(self.interpreter.scope.size(sort)):
            if self.interpreter.evaluate(_UNUSED[sort.name()], state, {"unused": i}):
                yield i

    def function_choice(self, param: Param, given: Mapping[str, int], state: State) -> list[tuple[int, ...]]:
        """A different unused element wherever the function's value matters."""
        unused = self.unused(param.sort, state)
        of = param.of.decl().name()
        needed = (
            self.interpreter.evaluate(param.needed, state, {**given, of: i})
            for i in range(self.interpreter.scope.size(param.over))
        )
        return [tuple(next(unused, 0) if matters else 0 for matters in needed)]

    # Ends

    def elements(self) -> dict[str, int]:
        """The constants of `element`, each with its number."""
        return {
            f"{sort.name()}!{number}": number
            for sort in (Proc, Page, Pin, Value)
            for number in range(self.interpreter.scope.size(sort))
        }

    def outcome(self, end: _Point) -> Outcome:
        refused, blocked = (frozenset(n + 1 for n in found) for found in (end.refused, self.waiting(end)))
        return Outcome(refused, blocked, self.ends_in_condition(end))

    def ends_in_condition(self, point: _Point) -> bool:
        free = z3.Const("slot", Slot)
        used = sum(
            not self.interpreter.evaluate(slot_free(free), point.state, {"slot": i})
            for i in range(self.interpreter.scope.size(Slot))
        )
        waiting = self.waiting(point)
        known = {"refused": {n + 1 for n in point.refused}, "blocked": {n + 1 for n in waiting}, "slots": {used}}
        outcomes = {
            str(fact.constant): fact.of[0] in known[fact.what] for fact in self.litmus.facts if fact.what in known
        }
        return bool(self.interpreter.evaluate(self.condition, point.state, self.elements() | outcomes))

    def steps_to(self, end: _Point) -> list[tuple[int, Instance]]:
        """The steps of the execution that led to the point, each with the number of its statement."""
        steps: list[tuple[int, Instance]] = []
        point = end
        while point in self.came:
            point, step, number = self.came[point]
            if step is not None:
                steps.insert(0, (number, step))
        return steps

    def trace(self, end: _Point) -> Trace:
        """The execution that led to the point, executed again."""
        steps = self.steps_to(end)
        text = self.litmus.condition_text
        shown = f"not ({text})" if self.litmus.mode == "always" else text
        return execute(
            self.kernel.name, self.litmus.name, shown, self.interpreter.system, self.interpreter.scope,
            [step for _, step in steps], names=self.litmus.names(), start=self.start.state,
            notes=[self.litmus.statements[number].text for number, _ in steps],
        )
