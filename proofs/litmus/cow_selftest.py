"""The kernel's selftest cow.c (tools/testing/selftests/mm) as litmus tests: every case in every environment it has.

domain.md section 6 describes the cases. An environment is how the memory is mapped when a case starts. A THP has two
pages here, so "the rest" of it is its second page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Environment:
    """How the memory is mapped when a case starts: declarations, operations, and the page that the case then uses."""

    name: str
    about: str
    pages: tuple[str, ...]
    start: tuple[str, ...]
    used: str = "x"


@dataclass(frozen=True)
class Case:
    """One case: its number in cow.c's output, its operations and its condition, in which `{x}` is the page used.

    `slow`: the case that this one is by GUP-fast, None for another one.
    """

    number: int
    name: str
    about: str
    steps: tuple[str, ...]
    condition: str
    environments: tuple[Environment, ...]
    slow: Case | None = None

    @property
    def key(self) -> str:
        """The case's name in tables."""
        return f"cow-{self.number:02}-{self.name}"


BASE, THP = ("page   x",), ("page   x huge 2",)
FILLED = ("A: write x 1",)
SPLIT = ("A: mprotect x.1 ro", "A: mprotect x.1 rw")
"""cow.c's way of mapping a THP by PTEs: protecting one page of it and back."""
OUT = ("*: pageout x",)

ANONYMOUS = (
    Environment("base", "a base page", BASE, FILLED),
    Environment("base-swap", "a base page, swapped out", BASE, FILLED + OUT),
    Environment("thp", "a THP mapped by a PMD", THP, FILLED),
    Environment("thp-swap", "a THP mapped by a PMD, swapped out", THP, FILLED + OUT),
    Environment("pte-thp", "a THP mapped by PTEs", THP, FILLED + SPLIT),
    Environment("pte-thp-swap", "a THP mapped by PTEs, swapped out", THP, FILLED + SPLIT + OUT),
    Environment("single-pte", "a single PTE of a THP", THP, (*FILLED, "A: dontneed x.1"), "x.0"),
    Environment(
        "single-pte-swap", "a single PTE of a THP, swapped out", THP, (*FILLED, "A: dontneed x.1", "*: pageout x.0"),
        "x.0",
    ),
    Environment("mremap", "a THP of which half was moved by mremap", (*THP, "page   y"), (*FILLED, "A: mremap x.1 y"),
                "x.0"),
    # cow.c keeps the rest from the child with MADV_DONTFORK. Here the child gets it too, so that the second page is
    # read-only and not exclusive, where it would be as the write left it.
    Environment("shared-once", "a THP mapped by PTEs that a child shared, which is gone", THP,
                (*FILLED, *SPLIT, "A: fork S", "S: exit")),
)
COLLAPSED = tuple(e for e in ANONYMOUS if e.name == "pte-thp")
NOT_ANONYMOUS = (
    Environment("zero", "the zero page", ("page   x zero",), ()),
    Environment("huge-zero", "the huge zero page", ("page   x huge 2 zero",), ()),
    Environment("file", "a page of a file", ("page   x file",), ("A: read x",)),
)
ENVIRONMENTS = ANONYMOUS + NOT_ANONYMOUS

_MPROTECT = ("A: mprotect {x} ro", "A: mprotect {x} rw")
_UNWRITABLE = ("A: mprotect {x} ro", "A: clear-soft-dirty", "A: mprotect {x} rw")
"""Soft-dirty tracking keeps the last step from giving the write bit back."""


def _read_pins(
    number: int, name: str, about: str, before: tuple[str, ...], environments: tuple[Environment, ...]
) -> tuple[Case, Case]:
    """A long-term pin for reading, then a write: by slow GUP and by GUP-fast."""
    slow = Case(
        number, name, about.format("GUP"), (*before, "A: r = pin {x} longterm", "A: write {x} 2"), "never not r sees 2",
        environments,
    )
    fast = Case(
        number + 1, f"{name}-fast", about.format("GUP-fast"),
        (*before, "A: r = pin {x} longterm fast", "A: write {x} 2"), slow.condition, environments, slow,
    )
    return slow, fast


CASES: tuple[Case, ...] = (
    Case(1, "basic", "Basic COW after fork()", ("A: fork C", "A: write {x} 2"), "never not C.{x} == 1", ANONYMOUS),
    Case(2, "basic-mprotect", "Basic COW after fork() with mprotect() optimization",
         ("A: fork C", *_MPROTECT, "A: write {x} 2"), "never not C.{x} == 1", ANONYMOUS),
    Case(3, "vmsplice-child", "vmsplice() + unmap in child",
         ("A: fork C", "C: r = vmsplice {x}", "C: munmap {x}", "A: write {x} 2"), "never not r sees 1", ANONYMOUS),
    Case(4, "vmsplice-child-mprotect", "vmsplice() + unmap in child with mprotect() optimization",
         ("A: fork C", "C: r = vmsplice {x}", "C: munmap {x}", *_MPROTECT, "A: write {x} 2"), "never not r sees 1",
         ANONYMOUS),
    Case(5, "vmsplice-before-fork", "vmsplice() before fork(), unmap in parent after fork()",
         ("A: r = vmsplice {x}", "A: fork C", "A: munmap {x}", "C: write {x} 2"), "never not r sees 1", ANONYMOUS),
    Case(6, "vmsplice-after-fork", "vmsplice() + unmap in parent after fork()",
         ("A: fork C", "A: r = vmsplice {x}", "A: munmap {x}", "C: write {x} 2"), "never not r sees 1", ANONYMOUS),
    Case(7, "fixed-buffer-read-only", "R/O-mapping a page registered as iouring fixed buffer",
         ("A: r = pin {x} write longterm", *_UNWRITABLE, "A: write {x} 2"), "never not r sees 2", ANONYMOUS),
    Case(8, "fixed-buffer-fork", "fork() with an iouring fixed buffer",
         ("A: r = pin {x} write longterm", "A: fork C", "A: write {x} 2"), "never not r sees 2", ANONYMOUS),
    *_read_pins(9, "read-pin-shared", "R/O {} pin on R/O-mapped shared page", ("A: fork C",), ANONYMOUS),
    *_read_pins(11, "read-pin-previously-shared", "R/O {} pin on R/O-mapped previously-shared page",
                ("A: fork C", "C: exit"), ANONYMOUS),
    *_read_pins(13, "read-pin-exclusive", "R/O {} pin on R/O-mapped exclusive page", _UNWRITABLE, ANONYMOUS),
    Case(15, "collapse-before-fork", "Basic COW after fork() when collapsing before fork()",
         ("*: collapse x", "A: fork C", "A: write x 2"), "never not C.x == 1", COLLAPSED),
    Case(16, "collapse-shared", "Basic COW after fork() when collapsing after fork() (fully shared)",
         ("A: fork C", "*: collapse x", "A: write x 2"), "never not C.x == 1", COLLAPSED),
    # As above for MADV_DONTFORK: the child drops the half that it would not get.
    Case(17, "collapse-lower-shared", "Basic COW after fork() when collapsing after fork() (lower shared)",
         ("A: fork C", "C: munmap x.1", "*: collapse x", "A: write x 2"), "never not C.x.0 == 1", COLLAPSED),
    Case(18, "collapse-upper-shared", "Basic COW after fork() when collapsing after fork() (upper shared)",
         ("A: fork C", "C: munmap x.0", "*: collapse x", "A: write x 2"), "never not C.x.1 == 1", COLLAPSED),
    Case(19, "not-anonymous", "Basic COW", ("A: fork C", "A: write x 2"), "never not C.x == 0", NOT_ANONYMOUS),
    *_read_pins(20, "not-anonymous-read-pin", "R/O longterm {} pin", (), NOT_ANONYMOUS),
)


def name_of(case: Case, environment: Environment) -> str:
    """The name of the litmus test."""
    return f"{case.key}.{environment.name}"


def text_of(case: Case, environment: Environment) -> str:
    """The litmus test."""
    lines = [
        f"litmus {name_of(case, environment)}", f"about  cow.c {case.number}: {case.about}, with {environment.about}",
        *environment.pages, *environment.start, *case.steps, case.condition,
    ]
    return "\n".join(lines).replace("{x}", environment.used) + "\n"


def tests() -> Iterator[tuple[str, str]]:
    """(name, text) of all."""
    for case in CASES:
        for environment in case.environments:
            yield name_of(case, environment), text_of(case, environment)
