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
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import z3

from model.kernels import Kernel
from model.logic import ModelError, Param, Rule, Scope, Sort, System, Term
from model.operations import MISSING_PAGES, OPERATIONS, WHEN_TRYLOCK_FAILS, Operation, blocks, faults
from model.state import (
    Frame,
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
    pte_none,
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
KEYWORDS = ("litmus", "about", "page", *MODES)
PAGE_ATTRIBUTES = (*MISSING_PAGES, "uffd", "rdonly")
RESERVED = frozenset({*KEYWORDS, "and", "or", "not", "is", "sees", "writable", "refused", "blocked", "slots"})
_PLACEHOLDERS = {"v": "V", "w": "W", "n": "n", "k": "r", "child": "Q"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEST_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_TOKEN = re.compile(r"\s*(\(|\)|==|[A-Za-z0-9_.-]+)")
_DEEPEST = 50
_MOST_FAULTS = 16


class LitmusError(ModelError):
    """A litmus test that cannot be read or run; the message is `FILE:LINE: what is wrong`."""


@dataclass(frozen=True)
class PageDeclaration:
    """A page of the first process: its name and the words it was declared with (`uffd`, `rdonly`, ...)."""

    name: str
    attributes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Statement:
    """One operation of the test. `arguments`: rule parameter to element number; `p` is the process that does it."""

    line: int
    text: str
    operation: Operation
    arguments: Mapping[str, int]


@dataclass(frozen=True)
class Litmus:
    """A litmus test. Its processes, pages, references and values are numbered in the order of these tuples.

    `condition`: a Bool term over the constants of `element` and `outcome`. `missing`: what the model lacks for the
    test, as the message of a LitmusError, or empty.
    """

    name: str
    about: str
    filename: str
    processes: tuple[str, ...]
    pages: tuple[PageDeclaration, ...]
    references: tuple[str, ...]
    values: tuple[int, ...]
    statements: tuple[Statement, ...]
    mode: str
    condition: Term
    condition_text: str
    missing: str = ""

    def scope(self) -> Scope:
        """Large enough that frames and slots never run out: each PTE, reference and transient reference holds one
        frame at most, each pageout takes one slot, which may hold another frame, and a copy needs one more."""
        words = [s.operation.word for s in self.statements]
        ptes = len(self.processes) * len(self.pages)
        slots = words.count("pageout")
        frames = ptes + len(self.references) + words.count("extra-ref") + slots + 1
        return Scope.of(
            Proc=len(self.processes), Page=max(1, len(self.pages)), Frame=max(1, frames),
            Pin=max(1, len(self.references)), Slot=max(1, slots), Value=len(self.values),
        )

    def names(self) -> dict[str, tuple[str, ...]]:
        """The user's names for the elements of the scope, default ones for frames and slots."""
        names = default_names(self.scope())
        given = {
            "Proc": self.processes, "Page": tuple(p.name for p in self.pages), "Pin": self.references,
            "Value": tuple(str(n) for n in self.values),
        }
        return names | {sort: chosen for sort, chosen in given.items() if chosen}


def element(sort: Sort, number: int) -> Term:
    """The constant that stands for one element in a condition."""
    return z3.Const(f"{sort.name()}!{number}", sort)


def outcome(what: str, number: int) -> Term:
    """The Bool constant `refused k`, `blocked k` or `slots == n` of a condition."""
    return z3.Bool(f"{what}!{number}")


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


def parse(text: str, filename: str) -> Litmus:
    """The litmus test in `text`; `filename` is for messages.

    A test of operations that the model lacks parses; `answer` refuses it. Raises LitmusError at the first mistake.
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
        flags = [*sorted(operation.flags), *(f"[{f}]" for f in sorted(operation.optional))]
        forms.append(" ".join(w for w in (*words, *flags) if w))
    return " or ".join(f"`{form}`" for form in forms)


class _Parser:
    """Reads line by line; every name must be declared before its use, so one pass is enough."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.line = 0
        self.name = ""
        self.about = ""
        self.processes = [FIRST_PROCESS]
        self.exited: dict[int, int] = {}
        self.pages: list[PageDeclaration] = []
        self.references: list[str] = []
        self.taken: list[Statement] = []
        self.dropped: dict[int, int] = {}
        self.values = [0]
        self.statements: list[Statement] = []
        self.condition: tuple[int, str, str, Term] | None = None
        self.missing = ""

    def fail(self, message: str) -> NoReturn:
        raise LitmusError(f"{self.filename}:{self.line}: {message}")

    def lack(self, what: str, needs: str) -> None:
        """Remember the first thing the model cannot do."""
        self.missing = self.missing or f"{self.filename}:{self.line}: {what} is not in the model yet (needs {needs})"

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
            case "exists" | "never" | "always":
                self.condition = (self.line, word, rest, _Condition(self, rest).read())
            case _:
                self.read_operation(text)

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

    @property
    def page_names(self) -> list[str]:
        return [p.name for p in self.pages]

    def read_page(self, words: list[str]) -> None:
        if self.statements:
            self.fail("pages are declared before the first operation")
        if not words:
            self.fail("`page V [huge N] [zero] [file] [uffd] [rdonly]`: the name is missing")
        name, *rest = words
        self.new_name("page", name, self.page_names)
        attributes = set()
        parts = []
        while rest:
            attribute = rest.pop(0)
            if attribute not in PAGE_ATTRIBUTES:
                self.fail(f"unknown page attribute {attribute!r}; {_suggest(attribute, PAGE_ATTRIBUTES)}")
            if attribute in attributes:
                self.fail(f"attribute {attribute} twice")
            if attribute == "huge":
                size = self.number(rest.pop(0) if rest else "", 2, 512, "`huge N`")
                parts = [PageDeclaration(f"{name}.{i}") for i in range(size)]
            if attribute in MISSING_PAGES:
                self.lack(f"page {attribute}", MISSING_PAGES[attribute])
            attributes.add(attribute)
        self.pages += [PageDeclaration(name, frozenset(attributes)), *parts]

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

    def read_operation(self, text: str) -> None:
        actor, _, rest = text.partition(":")
        actor = actor.strip()
        words = rest.replace("=", " = ").split()
        gives = ""
        if len(words) > 1 and words[1] == "=":
            gives, words = words[0], words[2:]
        if not words:
            self.fail(f"{text!r} needs an operation")
        operation, arguments = self.operation(words)
        process = self.actor(actor, operation)
        bound = {"p": process}
        for parameter, word in zip(operation.arguments, arguments, strict=True):
            bound[parameter] = self.argument(parameter, word)
        if operation.reference != bool(gives):
            self.fail(f"{operation.word} is written {_usage(operation.word)}")
        statement = Statement(self.line, text, operation, bound)
        if gives:
            self.new_name("reference", gives, self.references)
            bound["k"] = len(self.references)
            self.references.append(gives)
            self.taken.append(statement)
        elif "k" in bound:
            self.use_reference(statement)
        if operation.word == "exit":
            self.exited[process] = self.line
        if operation.missing:
            self.lack(operation.word, operation.missing)
        self.statements.append(statement)

    def operation(self, words: list[str]) -> tuple[Operation, list[str]]:
        """The operation and the words of its arguments."""
        word, *rest = words
        forms = [o for o in OPERATIONS if o.word == word]
        if not forms:
            self.fail(f"unknown operation {word!r}; {_suggest(word, dict.fromkeys(o.word for o in OPERATIONS))}")
        count = len(forms[0].arguments)
        flags = frozenset(rest[count:])
        form = next((f for f in forms if f.flags == flags - f.optional), None)
        if form is None or len(rest) != count + len(flags):
            self.fail(f"{word} is written {_usage(word)}")
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
        # What a process held outlives it: the pipe, the device.
        if process in self.exited and "k" not in operation.arguments:
            self.fail(f"process {name} has exited on line {self.exited[process]}")
        return process

    def argument(self, parameter: str, word: str) -> int:
        match parameter:
            case "n":
                return self.value(word, 1)
            case "k":
                return self.known("reference", word, self.references)
            case "child":
                self.new_name("process", word, self.processes)
                self.processes.append(word)
                return len(self.processes) - 1
            case _:
                return self.known("page", word, self.page_names)

    def use_reference(self, statement: Statement) -> None:
        """`drop r`, `dma r n`: by its holder, once or through a write reference."""
        k = statement.arguments["k"]
        name, taken = self.references[k], self.taken[k]
        holder = taken.arguments["p"]
        if statement.arguments["p"] != holder:
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
            self.name, self.about, self.filename, tuple(self.processes), tuple(self.pages), tuple(self.references),
            tuple(self.values), tuple(self.statements), mode, condition, text, self.missing,
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
        match token:
            case "writable":
                p, v = self.place(self.next("P.V"))
                return z3.And(pte_present(p, v), pte_write(p, v))
            case "soft-dirty":
                p, v = self.place(self.next("P.V"))
                return z3.And(live(p, v), z3.Or(vma_soft_dirty(p), pte_soft_dirty(p, v)))
            case "refused" | "blocked":
                what = f"`{token} k`, the number of an operation"
                return outcome(token, self.number(1, len(self.parser.statements), what))
            case "slots":
                self.skip("==")
                return outcome("slots", self.number(0, 255, "`slots == n`"))
        if "." in token:
            return self.about_place(*self.place(token))
        k = self.reference(token)
        self.skip("sees")
        return z3.And(pin_live(k), frame_value(pin_frame(k)) == self.value())

    def about_place(self, p: Term, v: Term) -> Term:
        if self.skip("==", "is") == "==":
            return z3.And(live(p, v), loaded(p, v) == self.value())
        token = self.next("a reference or Q.W")
        if "." in token:
            q, w = self.place(token)
            return z3.And(pte_present(p, v), maps(q, w, pte_frame(p, v)))
        k = self.reference(token)
        return z3.And(pin_live(k), maps(p, v, pin_frame(k)))

    def place(self, token: str) -> tuple[Term, Term]:
        process, dot, page = token.partition(".")
        if not dot:
            self.parser.fail(f"expected P.V, a process and a page, not {token!r}")
        p = self.parser.known("process", process, self.parser.processes)
        return element(Proc, p), element(Page, self.parser.known("page", page, self.parser.page_names))

    def reference(self, token: str) -> Term:
        return element(Pin, self.parser.known("reference", token, self.parser.references))

    def number(self, least: int, most: int, what: str) -> int:
        return self.parser.number(self.next("a number"), least, most, what)

    def value(self) -> Term:
        return element(Value, self.parser.value(self.next("a value"), 0))


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


class _Point(NamedTuple):
    """How far an execution is. `faults`: steps of the present operation; `blocked`: number of the waiting one, or 0.

    `slot`: that of the present operation's goal, which has been reached and leaves something to do; else -1.
    """

    state: State
    at: int = 0
    faults: int = 0
    lock_fails: bool = False
    refused: frozenset[int] = frozenset()
    blocked: int = 0
    slot: int = -1


class _Stuck(Exception):
    """No rule applies: the model cannot say how the execution goes on."""


def answer(litmus: Litmus, kernel: Kernel, system: System) -> Result:
    """Explore all executions of the test on the kernel; `system` is `kernel.system()`.

    Raises LitmusError if the test needs what the model lacks.
    """
    if litmus.missing:
        raise LitmusError(litmus.missing)
    return _Run(litmus, kernel, _interpreter(system, litmus.scope())).result()


_UNUSED: dict[str, Term] = {s.name(): fresh(z3.Const("unused", s)) for s in (Proc, Frame, Slot, Pin)}
_interpreters: dict[tuple[int, Scope], Interpreter] = {}


def _interpreter(system: System, scope: Scope) -> Interpreter:
    """One interpreter per system and scope: it holds the system, so the id stays its own."""
    key = (id(system), scope)
    if key not in _interpreters:
        if len(_interpreters) == 256:
            _interpreters.clear()
        _interpreters[key] = Interpreter(system, scope)
    return _interpreters[key]


class _Run:
    """One test on one kernel: breadth-first over rule steps, so the first end found is a shortest one."""

    def __init__(self, litmus: Litmus, kernel: Kernel, interpreter: Interpreter) -> None:
        self.litmus = litmus
        self.kernel = kernel
        self.interpreter = interpreter
        self.rules = {rule.name: rule for rule in interpreter.system.rules}
        self.start = _Point(self.start_state())
        self.came: dict[_Point, tuple[_Point, Instance | None]] = {}

    def start_state(self) -> State:
        """The initial state, with the attributes of the declared pages."""
        state = list(self.interpreter.initial())
        position = self.interpreter.layout.position
        for number, page in enumerate(self.litmus.pages):
            state[position["vma_write"][0, number]] = int("rdonly" not in page.attributes)
            state[position["vma_uffd"][0, number]] = int("uffd" in page.attributes)
        return tuple(state)

    def result(self) -> Result:
        ends, reason = self.explore()
        wanted = self.litmus.mode != "always"
        shown = next((end for end in ends if self.ends_in_condition(end) == wanted), None)
        exists = self.litmus.mode == "exists"
        if shown is not None:
            return Result(Answer.ALLOWED if exists else Answer.BROKEN, self.trace(shown), reason, len(ends))
        if reason:
            return Result(Answer.UNKNOWN, None, reason, len(ends))
        return Result(Answer.FORBIDDEN if exists else Answer.HOLDS, None, "", len(ends))

    def explore(self) -> tuple[list[_Point], str]:
        """The ends of all executions, nearest first, and why the first that the model could not follow stopped."""
        ends = []
        reason = ""
        seen = {self.start}
        queue = deque([self.start])
        while queue:
            point = queue.popleft()
            if point.blocked or point.at == len(self.litmus.statements):
                ends.append(point)
                continue
            try:
                successors = list(self.successors(point))
            except _Stuck as stuck:
                reason = reason or str(stuck)
                continue
            for step, after in successors:
                if after in seen:
                    continue
                seen.add(after)
                self.came[after] = (point, step)
                # What takes no step comes before what takes one.
                (queue.append if step else queue.appendleft)(after)
        return ends, reason

    # One step

    def successors(self, point: _Point) -> Iterator[tuple[Instance | None, _Point]]:
        """What may come next: a rule's step, or None where the operation changes nothing. Raises _Stuck."""
        statement = self.litmus.statements[point.at]
        operation = statement.operation
        done = point._replace(at=point.at + 1, faults=0, slot=-1)
        if point.slot >= 0:
            steps = self.enabled(operation.then, {"s": point.slot}, point.state)
            yield from ((s, done._replace(state=self.interpreter.step(s, point.state))) for s in steps)
            if not steps:
                yield None, done
            return
        refused = done._replace(refused=point.refused | {done.at})
        if operation.word == "trylock-fails":
            yield None, done._replace(lock_fails=True)
            return
        given = self.given(statement, point.state)
        if operation.on_frame and "f" not in given:
            yield None, refused
            return
        waiting = point._replace(blocked=done.at)
        for names, after in (
            (operation.goal, done), (operation.refusal, refused), (blocks(operation.access, self.kernel), waiting)
        ):
            steps = self.enabled(names, given, point.state)
            if steps:
                for step in steps:
                    goes_on = operation.then and after is done
                    left = point._replace(slot=step.as_dict["s"]) if goes_on else after
                    yield step, left._replace(state=self.interpreter.step(step, point.state))
                return
        for names in faults(operation.access, self.kernel):
            steps = self.enabled(names, given, point.state)
            if steps:
                if point.faults == _MOST_FAULTS:
                    raise _Stuck(f"line {statement.line}: on {self.kernel.name} `{statement.text}` faults for ever")
                for step in steps:
                    yield self.fault(step, given, point)
                return
        if not operation.on_frame:
            raise _Stuck(self.why_stuck(statement, point.state))
        yield None, refused

    def given(self, statement: Statement, state: State) -> dict[str, int]:
        """The rule parameters that the operation fixes."""
        given = dict(statement.arguments)
        if statement.operation.on_frame:
            place = given["p"], given["v"]
            position = self.interpreter.layout.position
            if state[position["pte_present"][place]]:
                given["f"] = state[position["pte_frame"][place]]
        return given

    def fault(self, step: Instance, given: Mapping[str, int], point: _Point) -> tuple[Instance, _Point]:
        """The step of a fault, or what it becomes if this is the page-lock attempt that fails."""
        after = point._replace(faults=point.faults + 1)
        if point.lock_fails and step.rule.name in WHEN_TRYLOCK_FAILS:
            spurious = self.enabled((WHEN_TRYLOCK_FAILS[step.rule.name],), given, point.state)
            if spurious:
                step, after = spurious[0], after._replace(lock_fails=False)
        return step, after._replace(state=self.interpreter.step(step, point.state))

    def why_stuck(self, statement: Statement, state: State) -> str:
        reason = "no rule's guard holds"
        if "v" in statement.arguments:
            p, v = (element(sort, statement.arguments[name]) for sort, name in ((Proc, "p"), (Page, "v")))
            if self.interpreter.evaluate(pte_none(p, v), state, self.elements()):
                reason = "the PTE is empty, and the zero page is not in the model yet"
        return f"line {statement.line}: no rule of {self.kernel.name} applies to `{statement.text}`: {reason}"

    # Bindings

    def enabled(self, names: Iterable[str], given: Mapping[str, int], state: State) -> list[Instance]:
        """The enabled instances of those rules: given parameters, the first unused elements, any other element."""
        found = []
        for rule in (self.rules[n] for n in names if n in self.rules):
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
            return self.unused(param.sort, state)[:1]
        return range(self.interpreter.scope.size(param.sort))

    def unused(self, sort: Sort, state: State) -> list[int]:
        numbers = range(self.interpreter.scope.size(sort))
        return [i for i in numbers if self.interpreter.evaluate(_UNUSED[sort.name()], state, {"unused": i})]

    def function_choice(self, param: Param, given: Mapping[str, int], state: State) -> list[tuple[int, ...]]:
        """A different unused element wherever the function's value matters."""
        unused = iter(self.unused(param.sort, state))
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

    def ends_in_condition(self, point: _Point) -> bool:
        free = z3.Const("slot", Slot)
        used = sum(
            not self.interpreter.evaluate(slot_free(free), point.state, {"slot": i})
            for i in range(self.interpreter.scope.size(Slot))
        )
        outcomes = {f"slots!{n}": n == used for n in range(256)}
        for k in range(1, len(self.litmus.statements) + 1):
            outcomes[f"refused!{k}"] = k in point.refused
            outcomes[f"blocked!{k}"] = k == point.blocked
        return bool(self.interpreter.evaluate(self.litmus.condition, point.state, self.elements() | outcomes))

    def trace(self, end: _Point) -> Trace:
        """The execution that led to the point, executed again."""
        steps: list[Instance] = []
        notes: list[str] = []
        point = end
        while point in self.came:
            point, step = self.came[point]
            if step is not None:
                steps.insert(0, step)
                notes.insert(0, self.litmus.statements[point.at].text)
        text = self.litmus.condition_text
        shown = f"not ({text})" if self.litmus.mode == "always" else text
        return execute(
            self.kernel.name, self.litmus.name, shown, self.interpreter.system, self.interpreter.scope, steps,
            names=self.litmus.names(), start=self.start.state, notes=notes,
        )
