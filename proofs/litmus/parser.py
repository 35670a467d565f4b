"""The parser of litmus tests, with the line in each message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from model.blame import nearest
from model.callers import CALLERS
from model.features import SPLIT
from model.logic import Term
from model.operations import OPERATIONS, Operation, form_of
from proofs.errors import LitmusError
from proofs.litmus import hugetlb
from proofs.litmus.absent import absent
from proofs.litmus.condition import Condition
from proofs.litmus.facts import Fact
from proofs.litmus.language import (
    FIRST_PROCESS,
    KEYWORDS,
    LARGEST_VALUE,
    MOVED,
    PAGE_ATTRIBUTES,
    RESERVED,
    TRACKED,
    Litmus,
    PageDeclaration,
    Statement,
    usage,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEST_NAME = re.compile(r"[A-Za-z0-9_.-]+")
MOST_FAULTS = 16


# Parsing


def read_text(path: Path) -> str:
    """What a file says. Raises LitmusError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise LitmusError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[:error.start].count(b"\n") + 1
        raise LitmusError(f"{path}:{line}: not UTF-8 text") from error


def read(path: Path, own: Iterable[Operation] = ()) -> Litmus:
    """The litmus test in a file, as `parse`. Raises LitmusError if it cannot be read."""
    return parse(read_text(path), str(path), own)


def parse_all(texts: Iterable[tuple[Path, str]], own: Iterable[Operation] = ()) -> list[Litmus]:
    """The tests with those texts and where they are from, each once. Raises LitmusError if two have one name: by it go
    what is said of them, and their traces."""
    tests: dict[str, Litmus] = {}
    for path, text in dict(texts).items():
        test = parse(text, str(path), own)
        if (other := tests.setdefault(test.name, test)) is not test:
            raise LitmusError(f"{path}: {other.filename} has a test {test.name} already")
    return list(tests.values())


def parse(text: str, filename: str, own: Iterable[Operation] = ()) -> Litmus:
    """The litmus test in `text`; `filename` is for messages, `own` operations that users' kernels declare.

    A test of pages that the model lacks parses; `answer` refuses it. Raises LitmusError at the first mistake.
    """
    parser = _Parser(filename, own)
    for line in text.split("\n"):
        parser.read_line(line)
    return parser.finished()


def _in_two_zones(attributes: Iterable[str]) -> str:
    """Why one page cannot have all of these attributes; empty if it can, as far as memory's zones go."""
    zones = MOVED.intersection(attributes)
    if len(zones) > 1:
        return "a page is `movable` or `cma`: its memory is taken from one or the other"
    if zones and "huge" in attributes:
        return f"a page is `huge` or `{min(zones)}`: here FOLL_LONGTERM moves small pages alone"
    return ""


class _Parser:
    """Reads line by line; every name must be declared before its use, so one pass is enough."""

    def __init__(self, filename: str, own: Iterable[Operation]) -> None:
        self.filename = filename
        self.operations = (*OPERATIONS, *CALLERS, *own)
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
        self.mapped: dict[str, tuple[frozenset[str], frozenset[int]]] = {}
        self.stored: set[tuple[int, int]] = set()
        self.unfound: set[int] = set()
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
            self.fail(absent(word) or f"unknown statement {word!r}{nearest(word, (*KEYWORDS, 'P: operation'))}")
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
                self.condition = (self.line, word, rest, Condition(self, rest).read())
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
            self.fail(absent(name) or f"no {what} {name!r} up to here{nearest(name, known)}")
        return list(known).index(name)

    def read_page(self, words: list[str]) -> None:
        if self.statements:
            self.fail("pages are declared before the first operation")
        if not words:
            rest_of_line = "[huge N] [zero] [file [n]] [hugetlb] [movable | cma] [uffd] [unpopulated | async] [rdonly]"
            self.fail(f"`page V {rest_of_line}`: the name is missing")
        name, *rest = words
        self.new_name("page", name, list(self.page_parts))
        attributes: set[str] = set()
        size = 1
        contents = 0
        while rest:
            attribute = rest.pop(0)
            if attribute not in PAGE_ATTRIBUTES:
                self.fail(absent(attribute)
                          or f"unknown page attribute {attribute!r}{nearest(attribute, PAGE_ATTRIBUTES)}")
            if attribute in attributes:
                self.fail(f"attribute {attribute} twice")
            if attribute == "huge":
                size = self.number(rest.pop(0) if rest else "", 2, LARGEST_VALUE, "`huge N`, so many sub-pages")
            elif attribute == "file" and rest and rest[0].isdigit():
                contents = self.values[self.value(rest.pop(0), 0)]
            attributes.add(attribute)
        if attributes >= {"zero", "file"}:
            self.fail("a page is `zero` or `file`: a file mapping never maps the zero page")
        if why := hugetlb.beside(attributes) or _in_two_zones(attributes):
            self.fail(why)
        if attributes >= TRACKED:
            self.fail("a page is `unpopulated` or `async`: what is `async` is `unpopulated`, too")
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
                self.fail(f"no sub-steps {name!r}{nearest(name, SPLIT)}")
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
            self.fail(f"{operation.word} is written {usage([o for o in self.operations if o.word == operation.word])}")
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
        elif operation.transient:
            bound["k"] = self.nameless(operation, size)
        parts = tuple(
            {"p": process, "q": process} | {x: (of[i] if len(of) > 1 else of[0]) for x, of in bound.items()}
            for i in range(size)
        )
        if operation.by_address:
            found = [sorted((part["v"], part["w"]), key=self.downwards) for part in parts]
            parts = tuple(part | {"v": v, "w": w} for part, (v, w) in zip(parts, found, strict=True))
        statement = Statement(self.line, text, operation, parts)
        for part in parts:
            if gives or operation.transient:
                self.taken.append(statement)
            elif "k" in part:
                self.use_reference(statement, part)
        if operation.word == "collapse" and "huge" not in self.pages[parts[0]["v"]].attributes:
            self.fail(f"{self.pages[parts[0]['v']].name} is not a huge page, nor a part of one: nothing to collapse")
        if operation.word == "mremap" and any("file" in self.pages[part[x]].attributes for part in parts for x in "vw"):
            self.lack("file mappings that move")
        if operation.word == "mmap" and any("file" in self.pages[part["v"]].attributes for part in parts):
            self.lack("mappings over that of a file")
        if operation.word in ("mmap", "mremap"):
            self.check_merging(operation, parts)
        self.check_found(operation, parts)
        named = [self.pages[part[x]] for part in parts for x in "vw" if x in operation.arguments]
        if why := hugetlb.refused(operation, named):
            self.fail(why)
        if operation.word == "exit":
            self.exited[process] = self.line
        self.statements.append(statement)
        return statement

    def check_merging(self, operation: Operation, parts: Sequence[Mapping[str, int]]) -> None:
        """Lacks new mappings in one huge page's place that may merge with others, as mmap's do (rule mmap)."""
        name = operation.arguments[-1]
        places = frozenset(part[name] for part in parts)
        whole = self.pages[parts[0][name]].whole
        words, before = self.mapped.get(whole, (frozenset(), places))
        words |= {operation.word}
        if places not in (before, frozenset(self.page_parts[whole])) and "mmap" in words:
            self.lack("parts of a huge page that are mapped anew beside others that were")
        self.mapped[whole] = words, places

    def check_found(self, operation: Operation, parts: Sequence[Mapping[str, int]]) -> None:
        """Lacks what has to find all mappings of a KSM page that a child's memory has become: its rmap_item leads to
        the child's anon_vma, and not to what the parent maps (rmap_walk_ksm). A page that the child has stored to is
        taken for its own, even if the store was refused."""
        for part in parts:
            if operation.word in ("write", "force-write"):
                self.stored.add((part["p"], part["v"]))
            elif operation.word == "ksm" and part["p"] and (part["p"], part["v"]) not in self.stored:
                self.unfound |= {part["v"], part["w"]}
            elif operation.word in ("pageout", "migrate") and part["v"] in self.unfound:
                self.lack("reclaim and migration of a KSM page which a child's memory became, and its parent maps,")

    def new_reference(self, name: str, size: int) -> tuple[int, ...]:
        self.new_name("reference", name, list(self.reference_parts))
        first = len(self.references)
        parts = [f"{name}.{i}" for i in range(size)] if size > 1 else [name]
        self.references += parts
        self.reference_parts[name] = tuple(range(first, first + size))
        self.reference_parts |= {part: (first + i,) for i, part in enumerate(parts)}
        return self.reference_parts[name]

    def nameless(self, operation: Operation, size: int) -> tuple[int, ...]:
        """References that an operation takes for itself, by names that no test can say."""
        first = len(self.references)
        self.references += [f"{operation.word}.{self.line}" + f".{i}" * (size > 1) for i in range(size)]
        return tuple(range(first, first + size))

    def operation(self, words: list[str]) -> tuple[Operation, list[str]]:
        """The operation and the words of its arguments."""
        word, *rest = words
        forms = [o for o in self.operations if o.word == word]
        if not forms:
            known = dict.fromkeys(o.word for o in self.operations)
            # Of so many words one is always a little like it: `tee` is no `dontneed`.
            self.fail(absent(word) or f"unknown operation {word!r}{nearest(word, known, 0.6)}")
        count = len(forms[0].arguments)
        flags = frozenset(rest[count:])
        form = form_of(word, flags, forms)
        if form is None or len(rest) != count + len(flags):
            self.fail(f"{word} is written {usage(forms)}")
        return form, rest[:count]

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
        elif statement.operation.word == "dma" and not taken.operation.stores:
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
