"""When the answer to a litmus test says nothing: its condition cannot be otherwise, whatever the kernel does to pages.

In one end of a test, a part of the condition is settled, and false, if it speaks of a reference that was never taken,
or of a process or a value for which there is no operation, or none that was reached before the test ended, or of what
an address can only be by an operation, or on a page, that the test has not (`swapped` without a pageout). The answer
is vacuous if in every end the condition is the same whatever its other parts are. A store that was refused settles
nothing: whether its value is there is a fair way to ask for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import z3

from model.callers import WORDS
from model.logic import Term
from model.state import pin_live
from proofs.derive.interpreter import Interpreter
from proofs.litmus.execution import End
from proofs.litmus.facts import Fact
from proofs.litmus.language import Litmus, Statement


def vacuous(litmus: Litmus, interpreter: Interpreter, ends: Iterable[End]) -> str:
    """Why the condition cannot be otherwise in any of these ends, with the lines that settle it; empty if it can."""
    reasons: dict[str, None] = {}
    known: dict[frozenset[Fact], tuple[Fact, ...] | None] = {}
    for end in ends:
        why = _settled(litmus, interpreter, end)
        key = frozenset(why)
        if key not in known:
            known[key] = _enough(litmus, list(why))
        needed = known[key]
        if needed is None:
            return ""
        reasons |= dict.fromkeys(why[fact] for fact in needed)
        if not needed:
            reasons["the condition is the same whatever the test ends in"] = None
    return "; ".join(reasons)


def _settled(litmus: Litmus, interpreter: Interpreter, end: End) -> dict[Fact, str]:
    """The facts that cannot be true in that end, and why."""
    gone = _Gone(litmus, interpreter, end)
    found = {}
    for fact in litmus.facts:
        reasons = (gone.why(sort, number) for sort, number in fact.about)
        if reason := next(filter(None, reasons), "") or _never_so(litmus, fact):
            found[fact] = reason
    return found


_ONLY_BY = {
    "swapped": ("pageout",), "ksm": ("ksm",), "huge": ("huge",), "movable": ("movable", "cma"),
    "written": ("async",), "guarded": ("guard-install",), "uffd-wp": ("uffd-wp", "uffd-copy", "pagemap-scan"),
}
"""What an address can only be in a test that has one of these: words of operations or of pages' declarations."""


def _never_so(litmus: Litmus, fact: Fact) -> str:
    """Why nothing in the test can make that true of an address; empty if something may."""
    # What a user's own operation does to a PTE, its word does not tell.
    if any(statement.operation.word not in WORDS for statement in litmus.statements):
        return ""
    there = {s.operation.word for s in litmus.statements}.union(*(page.attributes for page in litmus.pages))
    needed = _ONLY_BY.get(fact.what, ())
    if not needed or there & {*needed}:
        return ""
    return f"nothing is ever {fact.what} in a test without {' or '.join(f'`{word}`' for word in needed)}"


def _enough(litmus: Litmus, settled: Sequence[Fact]) -> tuple[Fact, ...] | None:
    """Those of the settled facts that decide the condition, none of them in vain; None if they do not."""
    if not _decided(litmus.condition, settled):
        return None
    left = list(settled)
    for fact in settled:
        fewer = [other for other in left if other != fact]
        if _decided(litmus.condition, fewer):
            left = fewer
    return tuple(left)


def _decided(condition: Term, false: Iterable[Fact]) -> bool:
    """Whether the condition has one value only, if those facts are false."""
    told = z3.substitute(condition, *((fact.constant, z3.BoolVal(False)) for fact in false))
    return any(_unsatisfiable(term) for term in (told, z3.Not(told)))


def _unsatisfiable(term: Term) -> bool:
    solver = z3.Solver()
    solver.add(term)
    return bool(solver.check() == z3.unsat)


class _Gone:
    """What there is not in one end of a test, as an operation did not do what it would have."""

    def __init__(self, litmus: Litmus, interpreter: Interpreter, end: End) -> None:
        self.litmus, self.interpreter, self.end = litmus, interpreter, end
        blocked = [litmus.statements[n] for n in sorted(end.blocked)]
        self.last = max((statement.line for statement in blocked), default=None)

    def why(self, sort: str, number: int) -> str:
        """Why there is no such element in that end; empty if there is or was one."""
        match sort:
            case "Pin":
                return self.never_taken(number)
            case "Proc":
                return self.undone([n for n, s in self.of("child") if s.parts[0]["child"] == number], "is never forked",
                                   self.litmus.processes[number])
            case "Value":
                return self.never_stored(number)
        return ""

    def of(self, parameter: str) -> list[tuple[int, Statement]]:
        return [(n, s) for n, s in enumerate(self.litmus.statements) if parameter in s.parts[0]]

    def never_taken(self, k: int) -> str:
        [(number, taken)] = [
            (n, s) for n, s in self.of("k") if s.operation.reference and any(part["k"] == k for part in s.parts)
        ]
        # Of several parts some may have been taken before one was refused.
        if len(taken.parts) > 1 and not self.unreached(taken):
            dropped = any(s.operation.word == "drop" and part["k"] == k for _, s in self.of("k") for part in s.parts)
            held = z3.Const("k", pin_live.domain[0])
            if dropped or self.interpreter.evaluate(pin_live(held), self.end.situation.state, {"k": k}):
                return ""
        return self.undone([number], "is never taken", self.litmus.references[k])

    def never_stored(self, value: int) -> str:
        name = self.litmus.values[value]
        if name in {0, *(page.contents for page in self.litmus.pages if "file" in page.attributes)}:
            return ""
        stores = [(n, s) for n, s in self.of("n") if any(part["n"] == value for part in s.parts)]
        if not stores:
            return f"no operation stores {name}"
        if not all(self.unreached(s) for _, s in stores):
            return ""
        return self.undone([n for n, _ in stores], "is never stored", str(name))

    def undone(self, numbers: Sequence[int], what: str, name: str) -> str:
        """Why none of these operations was done; empty if one was, or there are none."""
        reasons = [self.reason(n) for n in numbers]
        return f"{' and '.join(reasons)}, so that {name} {what}" if reasons and all(reasons) else ""

    def unreached(self, statement: Statement) -> bool:
        return self.last is not None and statement.line > self.last

    def reason(self, number: int) -> str:
        statement = self.litmus.statements[number]
        if number in self.end.refused:
            return f"{named(statement)} is refused"
        if number in self.end.blocked:
            return f"{named(statement)} waits for the userfaultfd monitor"
        if self.unreached(statement):
            waits = next(self.litmus.statements[n] for n in sorted(self.end.blocked))
            return f"{named(waits)} waits for the userfaultfd monitor and line {statement.line} is not reached"
        return ""


def named(statement: Statement) -> str:
    """The statement as messages name it."""
    return f"line {statement.line}: `{statement.text}`"
