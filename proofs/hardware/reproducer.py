"""Litmus tests as C programs, which do the operations on a real kernel with real processes and real references.

`replay/runtime.c` holds an action for each operation, in sections; a program gets the sections that its tests use, and
a function per test that says what is done, by whom, and what is looked at in the end. What holds a reference: a pipe
(vmsplice) for FOLL_GET reads, a registered buffer of io_uring for FOLL_PIN writes, and for all else the test module
`replay/gup_probe.c`, where a kernel has it loaded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import z3

from model.logic import Term
from proofs.errors import NotObservable
from proofs.hardware.holders import held_by
from proofs.hardware.needs import EMPTIES, check_needs, check_parts, loses_lock, needs_zone, racing, told_of
from proofs.litmus.execution import Outcome
from proofs.litmus.facts import OF_ADDRESSES, Fact
from proofs.litmus.language import TRACKED, Litmus, Statement

REPLAY = Path(__file__).parent / "replay"
AS_PREDICTED, NOT_AS_PREDICTED, NOT_OBSERVABLE = 0, 1, 4
"""Exit codes of a program of one test."""
_MOST = 16
"""Processes, pages and references that the runtime has room for."""
_PROBE_FLAGS = {"pin": "GP_PIN", "write": "GP_WRITE", "longterm": "GP_LONGTERM", "fast": "GP_FAST", "force": "GP_FORCE"}
_PROTECTION = {
    "none": "PROT_NONE", "ro": "PROT_READ", "rw": "PROT_READ | PROT_WRITE", "rwx": "PROT_READ | PROT_WRITE | PROT_EXEC",
}
_RESERVED = frozenset(re.findall(r"\w+", """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm errno linux
    unix main
"""))
"""Words that a C name cannot be."""
_PLAIN = {
    "read": "load", "exit": "leave", "munmap": "unmap", "mmap": "map_again", "uffd-continue": "uffd_continue",
    "split": "split_folio", "clear-soft-dirty": "clear_soft_dirty", "collapse": "collapse",
}
"""Operations that are one function of the runtime, without arguments."""
_PAGES = ("huge", "file", "hugetlb")
"""Attributes of pages that another function maps than `small_page`."""
_BY_ITSELF = {"page_out": "page_out_here"}
"""What a thread does amid others, where alone the director would do more."""
_ORDER = (
    "maps", "same", "present", "swapped", "guarded", "huge", "uffd-wp", "written", "exclusive", "ksm", "movable",
    "zero", "soft-dirty", "slots", "refused", "blocked", "sees", "writable", "loads",
)
"""In which facts are asked for: what changes nothing first, then stores of what is there already, then loads."""


@dataclass(frozen=True)
class Action:
    """An operation in C: the runtime's function, its arguments beside the page, and what is peculiar to it.

    `by_director`: it is done for the process named, or nobody. `goes_on`: to other parts, though one was refused.
    """

    function: str
    arguments: Mapping[str, str]
    by_director: bool = False
    goes_on: bool = False


def _action(statement: Statement, holders: Mapping[int, str], value: int, steered: bool) -> Action:
    """What an operation is in C. `value`: the number that it stores; `steered`: a debugger holds the page lock that is
    to be held. Raises NotObservable."""
    operation = statement.operation
    flags, part = operation.flags, statement.parts[0]
    holder = holders.get(part.get("k", -1), "")
    match operation.word:
        case word if word in _PLAIN:
            return Action(_PLAIN[word], {})
        case "write":
            return Action("store", {"value": str(value)})
        case "fork":
            return Action("fork_told" if "event" in flags else "fork_child", {"child": "q"})
        case "dontneed":
            return Action("advise", {"value": "MADV_DONTNEED"})
        case "madv-free" | "madv-dontfork" | "madv-dofork" | "madv-wipeonfork" | "madv-keeponfork":
            return Action("advise", {"value": operation.word.upper().replace("-", "_")})
        case "guard-install" | "guard-remove":
            return Action("guard", {"value": str(102 + int(operation.word == "guard-remove"))})
        case "unmerge":
            return Action("advise", {"value": "MADV_UNMERGEABLE"})
        case "mremap":
            kept = {"flags": "MREMAP_DONTUNMAP"} if "dontunmap" in flags else {}
            return Action("move", {"other": "w", **kept})
        case "mprotect":
            return Action("protect", {"value": _PROTECTION[next(iter(flags))]})
        case "vmsplice" | "get" | "pin":
            words = [word for word in (operation.word, *sorted(flags), "fast" * bool(operation.quick)) if word]
            needed = " | ".join(_PROBE_FLAGS[word] for word in words if word in _PROBE_FLAGS)
            return {
                "pipe": Action("take_into_pipe", {}), "ring": Action("take_into_ring", {}),
                "probe": Action("take_by_probe", {"flags": needed or "0"}),
            }[holder]
        case "drop":
            return Action(f"drop_{holder}", {}, by_director=True)
        case "dma":
            function = "device_store" if holder == "ring" else "device_store_by_probe"
            return Action(function, {"value": str(value)}, by_director=True)
        case "force-write":
            return Action("force_store", {"value": str(value)})
        case "process_vm_writev":
            return Action("remote_store", {"value": str(value)})
        case "populate":
            return Action("populate", {"value": str(int("write" in flags))})
        case "uffd-wp" | "uffd-unwp":
            return Action("uffd_protect", {"value": str(int(operation.word == "uffd-wp"))})
        case "pagemap-scan":
            return Action("pagemap_scan", {})
        case "uffd-register" | "uffd-unregister":
            modes = " | ".join(f"UFFDIO_REGISTER_MODE_{flag.upper()}" for flag in sorted(flags))
            return Action("uffd_register", {"value": modes or "0"})
        case "uffd-copy" | "uffd-zeropage":
            kind = "0" if operation.word == "uffd-zeropage" else "COPY | PROTECTED" if "wp" in flags else "COPY"
            return Action("uffd_fill", {"value": str(value), "flags": kind})
        case "uffd-move":
            return Action("uffd_move", {"other": "w"})
        case "pageout":
            kind = next((f"page_out_{flag}" for flag in ("writing", "sync") if flag in flags), "page_out")
            goes_on = {"flags": "WRITING"} if "writing" in flags else {}
            return Action(kind, {"child": "p", **goes_on}, by_director=True, goes_on=True)
        case "writeback-end":
            return Action("writeback_end", {}, goes_on=True)
        case "migrate":
            return Action("migrate", {}, goes_on=True)
        case "ksm":
            return Action("merge", {"other": "w"})
        case "extra-ref":
            return Action("hold", {}, goes_on=True)
        case "drop-extra":
            return Action("let_go", {}, goes_on=True)
        case "hugetlb-drain":
            return Action("drain_hugetlb", {}, by_director=True)
        case "trylock-fails" if steered:
            return Action("left_to_debugger", {}, by_director=True)
        case "trylock-fails":
            raise NotObservable("nobody in user space makes one attempt at a page lock fail")
        case "numa":
            return Action("numa", {}, goes_on=True)
    if operation.forms:
        raise NotObservable(f"{operation.word} is another operation from kernel to kernel: name the kernel with -k")
    raise NotObservable(f"{operation.word} is an operation of a kernel of one's own, which no program can do")


# The runtime's sections


@functools.cache
def _sections() -> dict[str, str]:
    text = (REPLAY / "runtime.c").read_text(encoding="utf-8")
    found = re.split(r"^//: (\w+)\n", text, flags=re.MULTILINE)[1:]
    header = re.sub(r"/\* SPDX.*?\*/\n", "", (REPLAY / "gup_probe.h").read_text(encoding="utf-8"), flags=re.DOTALL)
    header = re.sub(r"^#(ifndef|endif|include|define GUP_PROBE_H).*\n", "", header, flags=re.MULTILINE)
    return {
        name: body.replace("@HEADER@\n", header.strip() + "\n").strip()
        for name, body in zip(found[::2], found[1::2], strict=True)
    }


@functools.cache
def _defined() -> dict[str, str]:
    """What a section defines at its outermost level, to the section."""
    pattern = re.compile(
        r"^#define (\w+)|^(?:static|struct|enum|typedef|int)\b[^;{}()=]*?\b(\w+)(?= ?[\[(;={])|^\} \*?(\w+)",
        re.MULTILINE,
    )
    return {
        next(filter(None, match.groups())): name
        for name, body in _sections().items() for match in pattern.finditer(body)
    }


_ALWAYS = frozenset({"core", "main", "tap", "scheduled"})


def _needed(text: str, had: dict[str, None], above: frozenset[str] = _ALWAYS) -> None:
    """Add the sections that a text uses, each after those that it uses itself."""
    code = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', " ", text, flags=re.DOTALL)
    for word in dict.fromkeys(re.findall(r"(?<![.>\w])\w+", code)):
        section = _defined().get(word)
        if section and section not in above and section not in had:
            _needed(_sections()[section], had, above | {section})
            had[section] = None


def _used(texts: Iterable[str]) -> list[str]:
    had: dict[str, None] = {}
    _needed("\n".join(texts), had)
    return list(had)


# Programs


def check(test: Litmus) -> None:
    """Raises NotObservable if no program can do the test."""
    _Function(test, None, False)


def check_scheduled(test: Litmus) -> None:
    """Raises NotObservable if no program can do the test, though a debugger decides what comes first."""
    _Function(test, None, False, scheduled=True)


def sections_of(test: Litmus) -> list[str]:
    """The sections of replay/runtime.c that a test uses. Raises NotObservable if no program can do it."""
    return _used([_Function(test, None, False).text()])


def program(
    tests: Sequence[Litmus], predicted: Mapping[str, Iterable[Outcome]] | None = None, head: str = "",
    end: Literal["main", "tap", "scheduled"] = "main",
) -> str:
    """The C program that does these tests, one after the other. `predicted`: test's name to the outcomes it may have.

    Without a prediction a program of one test expects what the test asks about: that its condition comes true for
    `exists` and `always`, and does not for `never`. `head`: a comment instead of that which says how to build it.
    `end`: the runtime's section that has main; with `scheduled` a debugger steers operations at the same time. Raises
    NotObservable if one of the tests cannot be done at all.
    """
    functions = [
        _Function(test, (predicted or {}).get(test.name), len(tests) == 1, end == "scheduled").text() for test in tests
    ]
    names = ",\n".join(f'\t{{ "{test.name}", {_identifier(test.name)} }}' for test in tests)
    table = f"static const struct {{\n\tconst char *name;\n\tint (*run)(void);\n}} tests[] = {{\n{names},\n}};"
    sections = _sections()
    used = _used([*functions, sections["core"], sections[end]])
    parts = [sections["core"], *(sections[name] for name in used), *functions, table, sections[end]]
    head = head or _HEAD.format(tests[0].name if len(tests) == 1 else f"{len(tests)} tests")
    return "\n\n".join([head, *parts]) + "\n"


_HEAD = """/*
 * {0}: what a kernel does with copy-on-write pages that somebody holds a reference to.
 *
 * cc -O1 -Wall -Wextra -o test test.c && ./test
 *
 * Exit status of a single test: 0 if it ends as predicted, 1 if not, 4 if that cannot be done or seen here. It prints a
 * JSON object for each step. It touches only what it makes itself; with --allow-host-settings it also changes, and puts
 * back, settings of the machine (KSM, huge pages), and uses a memory cgroup of its own.
 */"""


def _identifier(name: str) -> str:
    return "test_" + re.sub(r"\W", "_", name)


class _Function:
    """One test as a C function. `expects`: it has a prediction even where none is given. `scheduled`: somebody decides
    which of the operations at the same time comes first, and holds page locks."""

    def __init__(
        self, test: Litmus, predicted: Iterable[Outcome] | None, expects: bool, scheduled: bool = False
    ) -> None:
        self.test = test
        self.predicted = predicted
        self.expects = expects
        if not scheduled and any(len(group) > 1 for group in test.groups):
            raise NotObservable("operations at the same time: no program decides which comes first")
        if test.missing:
            raise NotObservable(test.missing)
        if max(len(test.processes), len(test.pages), len(test.references)) > _MOST or len(test.statements) > 64:
            raise NotObservable(f"more than {_MOST} processes, pages or references, or than 64 operations")
        taken = _RESERVED | _defined().keys()
        self.names: dict[tuple[str, int], str] = {}
        for kind, names in (
            ("p", test.processes), ("v", [page.name for page in test.pages]), ("k", test.references)
        ):
            for number, name in enumerate(names):
                short = name.replace(".", "_")
                while short in taken:
                    short += "_"
                taken |= {short}
                self.names[kind, number] = short
        if len({"stable" in s.operation.flags for s in test.statements if "writing" in s.operation.flags}) > 1:
            raise NotObservable("a swap device needs pages that do not change while it writes them, or does not")
        check_needs(test)
        rest = self.rest()
        written = [part["v"] for s in test.statements if "writing" in s.operation.flags for part in s.parts]
        for page in (test.pages[v] for v in written):
            if "huge" in page.attributes and test.pages[rest[page.whole]] == page:
                raise NotObservable(f"{page.name} stands for hundreds of pages, which the slow disk writes for minutes")
        check_parts(test, rest)
        # A thread's call of get_user_pages begins and ends with it; what a pipe or a ring does beside it is theirs.
        movable = needs_zone(test)
        self.holders = {
            part["k"]: "probe" if scheduled else held_by(statement, movable)
            for statement in test.statements if statement.operation.reference for part in statement.parts
        }
        self.steered = racing(test) if scheduled else ()
        steered = scheduled and loses_lock(test) is not None
        self.actions = [
            _action(s, self.holders, test.values[s.parts[0]["n"]] if "n" in s.parts[0] else 0, steered)
            for s in test.statements
        ]

    def name(self, parameter: str, number: int) -> str:
        kind = {"q": "p", "child": "p", "w": "v"}.get(parameter, parameter)
        return self.names[kind, number]

    def text(self) -> str:
        statements = [line for group in self.test.groups for line in self.line(group)]
        body = [*(f"\t{line}" for line in self.before()), *self.places(), *statements, *self.judgement()]
        words = f"{self.test.name}: {self.test.about}" if self.test.about else self.test.name
        return "\n".join([
            f"/* {words.replace('*/', '* /')} */", f"static int {_identifier(self.test.name)}(void)", "{",
            *self.declarations(), "", *body, "}",
        ])

    def declarations(self) -> Iterator[str]:
        for kind in "pvk":
            if names := [name for (k, _), name in self.names.items() if k == kind]:
                yield f"\tenum {{ {', '.join(names)} }};"
        facts = [f"c{number}" for number in range(1, len(self.test.facts) + 1)]
        yield f"\tenum truth {', '.join(facts)};"
        if outcomes := self.outcomes():
            yield "\tstatic const struct outcome may[] = {"
            yield from (f"\t\t{outcome}," for outcome in outcomes)
            yield "\t};"

    def before(self) -> Iterator[str]:
        """What must be there before the first process is."""
        used = {action.function for action in self.actions}
        yield from ["ram_swap();"] * ("page_out_sync" in used)
        slowly = {"stable" in s.operation.flags for s in self.test.statements if "writing" in s.operation.flags}
        yield from ["told_of_forks = 1;"] * ("fork_told" in used)
        yield from (f'slow_swap("{int(stable)}");' for stable in slowly)
        if used & {"page_out", "page_out_sync", "page_out_writing"}:
            yield "own_cgroup();"
        if self.steered:
            yield "open_race();"
        asked = {fact.what for fact in self.test.facts}
        if "slots" in asked:
            yield "swap_space_before = swap_space();"
        by_probe = {"take_into_pipe", "take_into_ring", "take_by_probe", "hold", "let_go", "force_store", "numa"}
        if used & by_probe or "uffd-wp" in asked:
            yield "open_probe();"
        for number, holder in self.holders.items():
            if holder != "probe":
                yield f"{holder}_for({self.name('k', number)});"

    def places(self) -> Iterator[str]:
        """Where the pages are, and what the first process maps there."""
        rest = self.rest()
        for number, page in enumerate(self.test.pages):
            parts = [n for n, other in enumerate(self.test.pages) if other.whole == page.whole]
            if "hugetlb" in page.attributes:
                yield f"\tadd_hugetlb_place(reserve()); /* {page.name} */"
            elif "huge" not in page.attributes:
                yield f"\tadd_place(reserve(), PAGE, PAGE); /* {page.name} */"
                yield from ["\tmovable_place();"] * ("movable" in page.attributes)
            elif number == parts[0]:
                yield f"\tadd_huge_place(reserve(), {len(parts)}, {parts.index(rest[page.whole])}); /* {page.whole} */"
        for number, page in enumerate(self.test.pages):
            for word in TRACKED & page.attributes:
                yield f"\ttrack({self.name('v', number)}, TRACK_{word.upper()});"
        yield "\tbegin();"
        for number, page in enumerate(self.test.pages):
            if "huge" in page.attributes and page.name != f"{page.whole}.0":
                continue
            function = next((f"{word}_page" for word in _PAGES if word in page.attributes), "small_page")
            flags = [f for word, f in (("rdonly", "READ_ONLY"), ("zero", "OF_ZERO")) if word in page.attributes]
            arguments = self.arguments({
                "page": self.name("v", number), "flags": " | ".join(flags) or "0", "value": str(page.contents),
            })
            yield f"\tmap({function}, {arguments});"
            if "movable" in page.attributes:
                yield f"\tmap(movable_page, {self.arguments({'page': self.name('v', number)})});"
            if "uffd" in page.attributes:
                yield f"\tmap(watch_page, {self.arguments({'page': self.name('v', number)})});"

    def rest(self) -> dict[str, int]:
        """Of each huge page, the part that has all pages but the first of each other part: the first one unmapped."""
        rest: dict[str, int] = {}
        for statement in self.test.statements:
            if statement.operation.word in EMPTIES and len(statement.parts) == 1:
                v = statement.parts[0]["v"]
                rest.setdefault(self.test.pages[v].whole, v)
        for number, page in reversed(list(enumerate(self.test.pages))):
            rest.setdefault(page.whole, number)
        return rest

    def arguments(self, given: Mapping[str, str]) -> str:
        shown = ", ".join(f".{name} = {value}" for name, value in given.items() if value != "0") or ".page = 0"
        return f"(struct args){{ {shown} }}"

    def line(self, numbers: Sequence[int]) -> Iterator[str]:
        """A line of the test, with the operations of those numbers."""
        together = tuple(numbers) == self.steered
        for number in numbers:
            yield self.statement(self.test.statements[number], self.actions[number], together)
        if together:
            yield "\trace();"

    def statement(self, statement: Statement, action: Action, together: bool) -> str:
        part = statement.parts[0]
        given = {
            name: self.name(value, part[value]) if value in ("p", "q", "w") else value
            for name, value in action.arguments.items()
        }
        if "child" in part:
            told = {"page": self.name("v", told_of(self.test))} if action.function == "fork_told" else {}
            given |= {"child": self.name("child", part["child"]), **told}
        if "k" in part:
            given = {"ref": self.name("k", part["k"])} | given
        if "v" in part:
            given = {"page": self.name("v", part["v"])} | given
        operation = statement.operation
        in_one = bool(operation.at_once or operation.passes_over) and len(statement.parts) > 1
        calls = 1 if in_one and operation.at_once else len(statement.parts)
        if (operation.whole and operation.goal == operation.whole) or in_one:
            given["whole"] = "1"
        function, actor = action.function, "DIRECTOR" if action.by_director else self.name("p", part.get("p", 0))
        if together and action.by_director:
            function, actor = _BY_ITSELF.get(function, function), self.name("p", part.get("p", 0))
        text = statement.text.replace("\\", "\\\\").replace('"', '\\"')
        return (
            f'\t{"racer" if together else "step"}({actor}, "{text}", {function}, {calls}, '
            f"{int(action.goes_on)}, {self.arguments(given)});"
        )

    # The end

    def judgement(self) -> Iterator[str]:
        numbers = {fact: f"c{number}" for number, fact in enumerate(self.test.facts, 1)}
        for fact in sorted(self.test.facts, key=lambda fact: _ORDER.index(fact.what)):
            yield f"\t{numbers[fact]} = {self.fact(fact)};"
        shown = self.condition(self.test.condition, {str(fact.constant): c for fact, c in numbers.items()})
        outcomes = self.outcomes()
        yield f"\t/* {self.test.mode} {self.test.condition_text} */"
        yield f"\treturn judge({shown}, {'may' if outcomes else 'NULL'}, {len(outcomes)});"

    def fact(self, fact: Fact) -> str:
        match fact.what, fact.of:
            case "sees", (k, n):
                return f"{self.holders[k]}_sees({self.name('k', k)}, {self.test.values[n]})"
            case "loads", (p, v, n):
                return f"loads({self.name('p', p)}, {self.name('v', v)}, {self.test.values[n]})"
            case "maps", (p, v, k):
                return f"maps({self.name('p', p)}, {self.name('v', v)}, {self.name('k', k)})"
            case "same", (p, v, q, w):
                return (
                    f"map_same({self.name('p', p)}, {self.name('v', v)}, {self.name('p', q)}, {self.name('v', w)})"
                )
            case what, (p, v) if what in OF_ADDRESSES:
                function = what.replace("-", "_") if what in ("writable", "soft-dirty") else f"is_{what}"
                return f"{function.replace('-', '_')}({self.name('p', p)}, {self.name('v', v)})"
            case "slots", (n,):
                return f"slots_used({n})"
        return f"was_{fact.what}({fact.of[0]})"

    def condition(self, term: Term, names: Mapping[str, str]) -> str:
        """The condition in C's three-valued functions."""
        parts = [self.condition(child, names) for child in term.children()]
        if z3.is_not(term):
            return f"negated({parts[0]})"
        if z3.is_and(term) or z3.is_or(term):
            join = "both" if z3.is_and(term) else "either"
            return functools.reduce(lambda left, right: f"{join}({left}, {right})", parts)
        return names[str(term)]

    def outcomes(self) -> list[str]:
        """The predicted outcomes, as initialisers."""
        if self.predicted is None and not self.expects:
            return []
        if self.predicted is not None:
            found = sorted(self.predicted, key=lambda o: (sorted(o.refused), sorted(o.blocked), o.condition))
            return [
                f"{{ {_mask(o.refused)}, {_mask(o.blocked)}, {'YES' if o.condition else 'NO'} }}" for o in found
            ]
        return [f"{{ ANY_STEPS, ANY_STEPS, {'NO' if self.test.mode == 'never' else 'YES'} }}"]


def _mask(numbers: Iterable[int]) -> str:
    value = sum(1 << (number - 1) for number in numbers)
    return f"{value:#x}ULL" if value else "0"
