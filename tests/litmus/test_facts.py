"""Facts: what a condition says is what its parts are written as, and what a user sees is what they mean."""

from __future__ import annotations

import itertools

import pytest

from model.features import WORLD
from model.kernels import V5_7, V5_9, V5_19, V7_2, Kernel
from proofs.derive.interpreter import interpreter_of
from proofs.litmus.execution import Answer, Run, answer
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
    "present A.x", "swapped A.x", "huge A.x", "uffd-wp A.x", "dirty A.x", "exclusive A.x", "ksm C.y", "zero A.y",
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


# What an address is. Expected from the kernels' sources, as docs/domain.md restates them.

V5, X = (V5_7, V5_9), (V5_19, V7_2)
ALL = (*V5, *X)


@pytest.mark.parametrize(("kernels", "body", "condition"), [
    (ALL, "page x", "not present A.x and not swapped A.x and not dirty A.x and not zero A.x"),
    (ALL, "page x\nA: write x 1", "present A.x and dirty A.x and not swapped A.x and not huge A.x and not zero A.x"),
    # do_anonymous_page maps the zero page for a read, and neither dirties it nor makes it anybody's own.
    (ALL, "page x\nA: read x", "present A.x and zero A.x and not dirty A.x and not exclusive A.x and not writable A.x"),
    (ALL, "page x\nA: read x\nA: write x 1", "present A.x and dirty A.x and not zero A.x"),
    (ALL, "page x file 3\nA: read x", "present A.x and not zero A.x and not dirty A.x"),
    # PG_anon_exclusive is of 5.19 (domain.md 2.10, "AE set", "AE cleared").
    (X, "page x\nA: write x 1", "exclusive A.x"),
    (V5, "page x\nA: write x 1", "not exclusive A.x"),
    (X, "page x\nA: write x 1\nA: fork C", "not exclusive A.x and not exclusive C.x and present C.x"),
    # A page that may be pinned is copied for the child: both have one of their own.
    (X, "page x\nA: write x 1\nA: r = pin x\nA: fork C", "exclusive A.x and exclusive C.x and not A.x is C.x"),
    # A read-only FOLL_PIN unshares, mapping the copy read-only (domain.md 2.10 (c)).
    (X, "page x\nA: write x 1\nA: fork C\nC: r = pin x", "exclusive C.x and not writable C.x and not exclusive A.x"),
    (ALL, "page x\nA: write x 1\n*: pageout x", "swapped A.x and not present A.x and not exclusive A.x"),
    # The swap entry's exclusive bit gives it back (1493a1913e34).
    (X, "page x\nA: write x 1\n*: pageout x\nA: write x 2", "present A.x and exclusive A.x and not swapped A.x"),
    (ALL, "page x\nA: write x 1\n*: pageout x\nA: munmap x", "not swapped A.x and not present A.x"),
    (ALL, "page x huge 2\nA: write x 1", "huge A.x and present A.x and dirty A.x"),
    (ALL, "page x huge 2\nA: write x 1\nA: mprotect x.1 ro", "not huge A.x.0 and not huge A.x.1 and present A.x"),
    (ALL, "page x huge 2\nA: write x 1\nA: mprotect x ro", "huge A.x"),
    (ALL, "page x huge 2 zero", "huge A.x and zero A.x"),
    (ALL, "page x\npage y\nA: write x 1\nA: write y 1\n*: ksm x y", "ksm A.x and ksm A.y and A.x is A.y"),
    (ALL, "page x\npage y\nA: write x 1\nA: write y 1\n*: ksm x y\nA: write x 2", "not ksm A.x and ksm A.y"),
    # A KSM page is never exclusive (domain.md 2.10 (k)).
    (X, "page x\npage y\nA: write x 1\nA: write y 1\n*: ksm x y", "not exclusive A.x and not exclusive A.y"),
    (ALL, "page x uffd\nA: write x 1\nA: uffd-wp x", "uffd-wp A.x and not writable A.x and dirty A.x"),
    (ALL, "page x uffd\nA: write x 1\nA: uffd-wp x\nA: uffd-unwp x", "not uffd-wp A.x"),
    (ALL, "page x uffd\nA: write x 1\nA: uffd-wp x\n*: pageout x", "uffd-wp A.x and swapped A.x"),
    # Before 5.19 a file mapping cannot be registered; from then on the empty PTE is a marker (domain.md 2.14).
    (V5, "page x file uffd\nA: uffd-wp x", "refused 1 and not uffd-wp A.x"),
    (X, "page x file uffd\nA: uffd-wp x", "uffd-wp A.x and not present A.x"),
    # A process that is gone has nothing.
    (ALL, "page x\nA: write x 1\nA: fork C\nC: exit", "not present C.x and not dirty C.x and not exclusive C.x"),
])
def test_what_an_address_is(kernels: tuple[Kernel, ...], body: str, condition: str) -> None:
    test = parse(f"litmus t\n{body}\nalways {condition}", "t.litmus")
    for kernel in kernels:
        assert answer(test, kernel, system_with(kernel, test.features)).answer == Answer.HOLDS, kernel.name
    # What the test does not need is not there, which changes nothing.
    whole = system_with(kernel, test.features.union(WORLD))
    assert answer(test, kernel, whole).answer == Answer.HOLDS


def test_a_reference_may_have_the_name_of_a_word_about_addresses() -> None:
    test = parse("litmus t\npage x\nA: write x 1\nA: dirty = pin x\nexists dirty sees 1 and dirty A.x", "t.litmus")
    assert [fact.what for fact in test.facts] == ["sees", "dirty"]
