"""Facts: what a condition says is what its parts are written as, and what a user sees is what they mean."""

from __future__ import annotations

import itertools

import pytest

from model.kernels import V5_9
from proofs.derive.interpreter import interpreter_of
from proofs.litmus.execution import Run
from proofs.litmus.facts import Fact, elements, slots_used, value_loaded, value_seen
from proofs.litmus.parser import parse
from proofs.naming.specs import system_with

TEST = """litmus facts
page x
page y
A: write x 3
A: r = pin x write
A: fork C
C: write y 5
*: pageout x
exists {}
"""


@pytest.mark.parametrize("text", [
    "r sees 3", "A.x == 3", "C.y == 5", "A.x is r", "A.x is C.y", "writable C.y", "soft-dirty A.x", "refused 2",
    "blocked 3", "slots == 1",
])
def test_a_fact_is_written_as_it_is_read(text: str) -> None:
    test = parse(TEST.format(text), "facts.litmus")
    [fact] = test.facts
    assert fact.text(test.names()) == text


def test_what_a_user_sees_is_what_the_facts_say() -> None:
    test = parse(TEST.format("A.x == 3 and r sees 3"), "facts.litmus")
    run = Run(test, V5_9, interpreter_of(system_with(V5_9, test.features), test.scope()))
    ends, stuck = run.ends()
    assert ends
    assert not stuck
    interpreter, known = run.interpreter, elements(test.scope())
    values = range(len(test.values))
    told = set()
    for end in ends:
        state = end.situation.state
        for p, v in itertools.product(range(len(test.processes)), range(len(test.pages))):
            loaded = value_loaded(interpreter, state, p, v)
            holds = [n for n in values if interpreter.evaluate(Fact("loads", (p, v, n)).meaning(), state, known)]
            assert holds == [] if loaded is None else [loaded]
            told.add(loaded)
        seen = value_seen(interpreter, state, 0)
        assert [n for n in values if interpreter.evaluate(Fact("sees", (0, n)).meaning(), state, known)] == [seen]
        assert slots_used(interpreter, state) == 1
    assert {test.values[n] for n in told if n is not None} >= {0, 3, 5}
