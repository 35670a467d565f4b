"""A trace told as a litmus test, so that a real kernel can be asked to do it.

Steps become the operations that take them, looked up in model/operations.py. There may be several ways to tell a step,
and what is told may take other steps (reclaim also writes the page out): so each telling is put to the executions of
litmus tests, and only one is given that can end where the trace's claim is broken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import z3

from model.kernels import Kernel
from model.logic import ModelError, Term, functions_in
from model.state import (
    Frame,
    Page,
    Pin,
    Proc,
    backed,
    backing,
    exclusive,
    live,
    pin_live,
    pin_page,
    pin_proc,
    pte_none,
    pte_soft_dirty,
    pte_uffd_wp,
    pte_write,
    resolves_to,
    vma,
)
from proofs.errors import LitmusError, RetellError, TraceError
from proofs.litmus import parser
from proofs.litmus.execution import answer
from proofs.litmus.facts import Fact, elements, slots_used, value_loaded, value_seen
from proofs.litmus.language import Litmus
from proofs.litmus.teller import ANY, Teller
from proofs.naming.specs import formula_of, system_with
from proofs.traces.trace import Trace, execute

MOST_TELLINGS = 64
"""Ways to tell one trace that are tried."""


@dataclass(frozen=True)
class Retold:
    """A trace told as a litmus test: its text, what that parses to, and an execution of it that breaks the claim."""

    text: str
    litmus: Litmus
    witness: Trace


def retell(trace: Trace, kernel: Kernel) -> Retold:
    """The trace of a broken invariant as a litmus test that the kernel allows.

    Raises RetellError, with the step, if there is none, ModelError if the trace is of something else.
    """
    what = f"{trace.claim} on {trace.kernel}"
    broken = formula_of(trace.claim)
    if broken is None:
        raise ModelError(f"{trace.claim} is no invariant; only a trace that breaks one can be told as a litmus test")
    if not trace.reachable or trace.states[0] != trace.interpreter.initial():
        raise ModelError(f"{what}: the trace does not start from the initial state, so no litmus test begins like it")
    teller = Teller(trace, kernel)
    teller.tell()
    reason = ""
    for lines in itertools.islice(teller.tellings(), MOST_TELLINGS):
        try:
            return _checked(trace, kernel, lines, broken)
        except RetellError as error:
            reason = reason or str(error)
    raise RetellError(f"{what}: {'; '.join(filter(None, (reason, teller.doubt())))}")


def _checked(trace: Trace, kernel: Kernel, lines: Sequence[str], broken: Term) -> Retold:
    """The litmus test of those lines, with a condition that holds only where the claim is broken.

    Raises RetellError.
    """

    def parsed(more: Sequence[str], condition: str) -> tuple[str, Litmus]:
        text = "\n".join([*lines, *more, f"exists {condition}", ""])
        return text, parser.parse(text, f"{trace.claim}.litmus", kernel.own_operations)

    def executed(test: Litmus, condition: Term) -> Trace | None:
        found = answer(replace(test, condition=condition), kernel, system_with(kernel, test.features)).trace
        return found and execute(
            trace.kernel, trace.claim, trace.statement, found.system, found.scope, found.steps, names=found.names,
            start=found.states[0], notes=found.notes, violated=broken,
        )

    try:
        shown = executed(parsed((), ANY)[1], z3.Not(broken))
        if shown is None:
            raise RetellError("told as operations, no execution ends in a state that breaks it")
        for more in _endings(shown):
            ended = executed(parsed(more, ANY)[1], z3.Not(broken))
            facts = _facts(ended, broken) if ended is not None else []
            if not facts:
                continue
            text, test = parsed(more, " and ".join(facts))
            system = system_with(kernel, test.features)
            unbroken = answer(replace(test, condition=z3.And(test.condition, broken)), kernel, system).trace
            if unbroken is None and (witness := executed(test, test.condition)) is not None:
                return Retold(text, test, witness)
    except (LitmusError, TraceError) as error:
        raise RetellError(str(error)) from error
    raise RetellError("told as operations, nothing that a condition can say shows that it is broken")


def _endings(trace: Trace) -> Iterator[tuple[str, ...]]:
    """What to do after the last step, so that what it did shows; nothing, if it shows by itself."""
    yield ()
    unused = next(n for n in range(1, 255) if str(n) not in trace.names["Value"])
    for p, v in _places(trace):
        who, page = trace.element("Proc", p), trace.element("Page", v)
        yield (f"{who}: write {page} {unused}",)
        yield (f"{who}: mprotect {page} rw", f"{who}: write {page} {unused}")
        yield (f"{who}: dontneed {page}", f"{who}: read {page}")


# The condition

_P, _V, _K, _F = z3.Const("p", Proc), z3.Const("v", Page), z3.Const("k", Pin), z3.Const("f", Frame)


def _value(trace: Trace, term: Term, **of: int) -> Any:
    """The term's value in the last state, for elements by the names of the constants above."""
    return trace.interpreter.evaluate(term, trace.states[-1], of)


def _pins(trace: Trace) -> list[int]:
    """The references that break the claim."""
    return [n for sort, n in trace.witness if sort == "Pin" and _value(trace, pin_live(_K), k=n)]


def _places(trace: Trace) -> list[tuple[int, int]]:
    """The processes and pages that break the claim, or where the references were taken, or the page can be seen."""
    pairs = itertools.pairwise(trace.witness)
    places = [(p, v) for (sort, p), (other, v) in pairs if (sort, other) == ("Proc", "Page")]
    if not places:
        places = [(_value(trace, pin_proc(_K), k=n), _value(trace, pin_page(_K), k=n)) for n in _pins(trace)]
    if not places:
        leads = z3.Or(resolves_to(_P, _V, _F), z3.And(pte_none(_P, _V), backed(_V), backing(_V) == _F))
        places = [
            (p, v) for sort, n in trace.witness if sort == "Frame"
            for p, v in trace.interpreter.layout.position[vma.name]
            if _value(trace, leads, p=p, v=v, f=n)
        ]
    return [(p, v) for p, v in dict.fromkeys(places) if _value(trace, live(_P, _V), p=p, v=v)]


_ABOUT_PLACES = (
    ("writable", pte_write), ("soft-dirty", pte_soft_dirty), ("uffd-wp", pte_uffd_wp), ("exclusive", exclusive),
)
"""What is told of a place where the claim speaks of the state function."""


def _facts(trace: Trace, broken: Term) -> list[str]:
    """What the last state shows of the elements that break the claim: of what it speaks of, and the contents."""
    spoken, pins, places = functions_in(broken), _pins(trace), _places(trace)
    interpreter, state = trace.interpreter, trace.states[-1]
    known = elements(trace.scope)

    def said(what: str, *of: int) -> str:
        fact = Fact(what, of)
        text = fact.text(trace.names)
        return text if interpreter.evaluate(fact.meaning(), state, known) else f"not {text}"

    facts = [said("maps", p, v, k) for k in pins for p, v in places]
    if not pins:
        facts += [said("same", *some, *other) for some, other in itertools.combinations(places, 2)]
    for what, about in _ABOUT_PLACES:
        if about.name in spoken:
            facts += [said(what, p, v) for p, v in places]
    if any(sort == "Slot" for sort, _ in trace.witness):
        facts.append(Fact("slots", (slots_used(interpreter, state),)).text(trace.names))
    if pins or len(places) > 1 or not facts:
        seen = [(k, value_seen(interpreter, state, k)) for k in pins]
        loads = [(place, value_loaded(interpreter, state, *place)) for place in places]
        contents = [Fact("sees", (k, n)) for k, n in seen if n is not None]
        contents += [Fact("loads", (*place, n)) for place, n in loads if n is not None]
        facts += [fact.text(trace.names) for fact in contents]
    return facts
