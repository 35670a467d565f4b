"""What a litmus test says: its declarations, statements and condition."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from model import releases
from model.callers import CALLERS, WORDS, form
from model.kernels import Kernel
from model.logic import Scope, Term
from model.operations import Operation
from proofs.litmus.facts import Fact
from proofs.traces.trace import default_names

FIRST_PROCESS = "A"
MODES = ("exists", "never", "always")
KEYWORDS = ("litmus", "about", "page", "split", *MODES)
PAGE_ATTRIBUTES = ("huge", "zero", "file", "hugetlb", "movable", "cma", "uffd", "unpopulated", "async", "rdonly")
MOVED = frozenset({"movable", "cma"})
"""Attributes of pages whose memory FOLL_LONGTERM does not leave where it is."""
TRACKED = frozenset({"unpopulated", "async"})
"""Attributes of pages that say what the userfaultfd has with which they are registered."""
RESERVED = frozenset({*KEYWORDS, "and", "or", "not", "is", "sees", "writable", "refused", "blocked", "slots"})
LARGEST_VALUE = 16
"""Sub-pages of a huge page: two show whatever many would, and a trace has room for no more than this."""


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
        declared = (attributes & {"huge", "zero", "file", "hugetlb"}) | implied
        declared |= {"movable"} if attributes & MOVED else set()
        declared |= {"uffd-unpopulated"} if attributes & TRACKED else set()
        declared |= {"uffd-async"} if "async" in attributes else set()
        beside = (self.statements[n].operation.beside for group in self.groups if len(group) > 1 for n in group)
        return self.split.union(
            declared, (name for name in beside if name), *(s.operation.features for s in self.statements)
        )

    @property
    def digest(self) -> str:
        """Short hash of all that the test says but its name and `about`; a caller's word counts as what it is here."""
        said = (
            [(page.name, page.whole, sorted(page.attributes), page.contents) for page in self.pages],
            sorted(self.split), self.mode, self.condition_text,
            [[_said(self.statements[n]) for n in group] for group in self.groups],
        )
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

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
        """Numbers of the pages of anonymous memory: neither a file backs them nor are they hugetlb pages."""
        special = {"file", "hugetlb"}
        return tuple(number for number, page in enumerate(self.pages) if special.isdisjoint(page.attributes))

    def on(self, kernel: Kernel) -> Litmus:
        """The test with each caller's word as the operation that it is on that kernel."""
        if not any(s.operation.forms for s in self.statements):
            return self
        return replace(self, statements=tuple(
            replace(s, operation=said_on(s.operation, kernel)) for s in self.statements
        ))

    def block_of(self, number: int) -> tuple[int, ...]:
        """Numbers of the pages of the block in which that one is."""
        whole = self.pages[number].whole
        return tuple(other for other, page in enumerate(self.pages) if page.whole == whole)

    def scope(self) -> Scope:
        """Large enough that frames, folios and slots never run out.

        Each PTE, reference, transient reference and swap slot holds one frame at most, each file page one of the page
        cache, and all others share the zero page; a copy needs one more, or as many as a huge page has parts; a fault
        that copies in sub-steps holds two meanwhile. Each access to a huge page makes one folio at most. A rule of a
        user's own may take one of each for good, and need another frame meanwhile.
        """
        actions = [(s.operation, len(s.parts)) for s in self.statements]
        ptes = len(self.processes) * len(self.pages)
        own = sum(parts for operation, parts in actions if operation.word not in WORDS)
        slots = own + sum(parts for operation, parts in actions if operation.word == "pageout")
        extra = bool(own) + sum(parts for operation, parts in actions if operation.word == "extra-ref")
        backing = len(self.pages) - len(self.anonymous) + bool("zero" in self.features and self.anonymous)
        copy = max([1, *(sum(q.whole == page.whole for q in self.pages) for page in self.pages)])
        held = 2 * max(map(len, self.groups), default=0) if self.split & {"copy", "tlb"} else 0
        makers = own + sum(bool(operation.access) or operation.word == "collapse" for operation, _ in actions)
        huge = len(self.huge_pages)
        return Scope.of(
            Proc=len(self.processes), Page=max(1, len(self.pages)),
            Frame=ptes + len(self.references) + extra + slots + backing + copy + held,
            Pin=max(1, len(self.references)), Slot=max(1, slots), Value=len(self.values),
            Folio=huge + makers if huge else 1, Block=max(1, len(dict.fromkeys(p.whole for p in self.pages))),
        )

    def names(self) -> dict[str, tuple[str, ...]]:
        """The user's names for the elements of the scope, default ones for frames, folios and slots.

        No frame has a name that the user has given to something.
        """
        names = default_names(self.scope())
        taken = {*self.processes, *self.references, *(page.name for page in self.pages)}
        names["Frame"] = tuple(f"frame-{name}" if name in taken else name for name in names["Frame"])
        given = {
            "Proc": self.processes, "Page": tuple(p.name for p in self.pages), "Pin": self.references,
            "Value": tuple(str(n) for n in self.values), "Block": tuple(dict.fromkeys(p.whole for p in self.pages)),
        }
        return names | {sort: chosen for sort, chosen in given.items() if chosen}


def _said(statement: Statement) -> tuple[str, str, list[str], tuple[str, ...]]:
    """What tells the statement from others, also where its text is a caller's word."""
    operation = statement.operation
    goal = operation.goal if any(operation.word == caller.word for caller in CALLERS) else ()
    return statement.text, operation.word, sorted(operation.flags), goal


def form_on(operation: Operation, kernel: Kernel) -> str:
    """The operation that a caller's word is on the kernel, as a test says it; the latest for one of no release."""
    version = releases.release_of(kernel)
    fitting = [text for since, text in operation.forms if version is None or releases.version_of(since) <= version]
    return fitting[-1] if fitting else operation.forms[0][1]


def said_on(operation: Operation, kernel: Kernel) -> Operation:
    """The operation itself, or what a caller's word is on the kernel."""
    if not operation.forms:
        return operation
    found = form(form_on(operation, kernel))
    if operation.reference:
        return found
    return replace(found, word=operation.word, reference=False, transient=True, then=operation.then)


_PLACEHOLDERS = {"v": "V", "w": "W", "n": "n", "k": "r", "child": "Q"}


def usage(operations: Iterable[Operation]) -> str:
    """How operations are written."""
    forms = []
    for operation in operations:
        arguments = (_PLACEHOLDERS[a] for a in operation.arguments)
        words = ["r =" if operation.reference else "", operation.word, *arguments]
        flags = [*sorted(operation.flags), "[fast]" if operation.quick else ""]
        forms.append(" ".join(w for w in (*words, *flags) if w))
    return " or ".join(f"`{form}`" for form in forms)
