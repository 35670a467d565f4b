"""Differences between kernels are those that the litmus engine sees, and none is missed in its scope."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from pathlib import Path

import pytest
from z3 import And, Or

from model.kernels import V5_8, V5_9, V5_18, V5_19, Kernel
from model.logic import ModelError, Term
from model.state import maybe_pinned
from proofs.cli.main import main
from proofs.compare import diff, lockstep
from proofs.compare.lockstep import Bounds, Move, Pages, Side
from proofs.litmus import execution, parser

SMALL = Bounds(processes=1, references=1, depth=3)
PLAIN: Pages = (frozenset(),)


def side(kernel: Kernel, bounds: Bounds) -> Side:
    return Side(kernel, kernel.system(lockstep.ALWAYS), bounds)


def found(a: Kernel, b: Kernel, bounds: Bounds) -> tuple[lockstep.SearchResult, list[tuple[Pages, tuple[Move, ...]]]]:
    sequences: list[tuple[Pages, tuple[Move, ...]]] = []
    searched = lockstep.search(
        side(a, bounds), side(b, bounds), lockstep.ALWAYS, bounds, lambda pages, s: sequences.append((pages, s)),
        lambda depth, done, of: None,
    )
    return searched, sequences


def possible(bounds: Bounds) -> list[Move]:
    """Operations of the first process on its one page, and fork."""
    moves = []
    for operation in lockstep.operations(()):
        if "k" in operation.arguments:
            continue
        bound = {"v": 0, "n": 1, "child": 1}
        names = (*operation.arguments, *(["k"] if operation.reference else []))
        if "child" not in names or bounds.processes > 1:
            moves.append(Move(operation, 0, tuple((name, bound.get(name, 0)) for name in names)))
    return moves


def numbered(chosen: tuple[Move, ...]) -> tuple[Move, ...]:
    """With a value of its own for each store, and a number of its own for each reference."""
    values, references = itertools.count(1), itertools.count()
    fresh = {"n": values, "k": references}
    return tuple(m._replace(bound=tuple((x, next(fresh[x]) if x in fresh else i) for x, i in m.bound)) for m in chosen)


def allowed(chosen: tuple[Move, ...], bounds: Bounds) -> bool:
    words = [move.operation.word for move in chosen]
    return (
        words.count("fork") <= 1 and "exit" not in words[:-1] and words.count("pageout") <= 1
        and words.count("extra-ref") <= 1 and sum(m.operation.reference for m in chosen) <= bounds.references
    )


@pytest.mark.parametrize(("a", "b"), [(V5_8, V5_9), (V5_8, V5_19)])
def test_a_sequence_differs_for_the_search_where_it_differs_for_the_litmus_engine(a: Kernel, b: Kernel) -> None:
    bounds, chance = Bounds(references=3), random.Random(7)
    one, other = side(a, bounds), side(b, bounds)
    differing = 0
    for _ in range(120):
        sequence = numbered(tuple(chance.choices(possible(bounds), k=5)))
        if not allowed(sequence, bounds):
            continue
        text = diff.litmus_text("t", "", diff.program_of(PLAIN, sequence), "exists refused 1")
        seen = [[s for s, _ in diff.executions(parser.parse(text, "t"), kernel)] for kernel in (a, b)]
        differs = [s for s in seen[0] if s not in seen[1]] != [] or [s for s in seen[1] if s not in seen[0]] != []
        assert (one.outcomes(PLAIN, sequence) != other.outcomes(PLAIN, sequence)) == differs, text
        differing += differs
    assert differing > 3


@pytest.mark.slow
def test_what_brute_force_finds_is_found_although_nodes_are_merged() -> None:
    bounds = Bounds(references=2, depth=3)
    one, other = side(V5_8, bounds), side(V5_9, bounds)
    causes = diff.Causes(one, other, lockstep.ALWAYS, 1)
    searched, sequences = found(V5_8, V5_9, bounds)
    for pages, sequence in sequences:
        causes.add(pages, sequence)
    brute = diff.Causes(one, other, lockstep.ALWAYS, 1)
    registered: Pages = (frozenset({"uffd"}),)
    differing: set[tuple[Move, ...]] = set()
    for length in (1, 2, 3):
        for chosen in itertools.product(possible(bounds), repeat=length):
            sequence = numbered(chosen)
            if not allowed(sequence, bounds) or any(sequence[:n] in differing for n in range(length)):
                continue
            if one.outcomes(registered, sequence) != other.outcomes(registered, sequence):
                differing.add(sequence)
                brute.add(registered, sequence)
    assert searched.depth == 3
    assert not searched.stopped
    assert not searched.unfollowed
    assert brute.kept.keys() == causes.kept.keys()
    assert len(brute.kept) >= 3
    shortest = {cause: min(len(s) for _, s in kept) for cause, kept in brute.kept.items()}
    assert {cause: min(len(s) for _, s in kept) for cause, kept in causes.kept.items()} == shortest


def test_what_5_9_brought_is_found_with_its_causes() -> None:
    report = diff.compare("v5.8", "v5.9", (), Bounds(depth=3), each=1)
    causes = {tuple(d.name for d in cause.decisions): cause for cause in report.causes}
    assert {("reuse",), ("fork_copies",), ("read_gup",)} <= causes.keys()
    (copied,) = causes["fork_copies",].differences
    assert "A: fork C" in copied.text
    assert copied.answers == ("Allowed", "Forbidden")
    assert report.causes[-1].decisions[0].of_b != report.causes[-1].decisions[0].of_a
    assert report.elsewhere == ("reuse_ksm",)


def test_a_cause_has_no_decision_in_vain_and_does_not_hide_a_smaller_one() -> None:
    report = diff.compare("v5.11", "mapcount-unshare", (), Bounds(depth=3), each=1)
    causes = [{d.name for d in cause.decisions} for cause in report.causes]
    assert {"reuse"} in causes
    assert any({"reuse", "unshare"} <= cause for cause in causes)


@pytest.mark.slow
def test_each_test_shown_is_answered_by_the_litmus_command_as_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["diff", "v5.18", "v5.19", "--depth", "3", "--references", "1", "--json", "-o", str(tmp_path)]
    assert main(given) == 1
    told = json.loads(capsys.readouterr().out)
    shown = [d for cause in told["causes"] for d in cause["differences"]]
    files = sorted((tmp_path / "diff").glob("*.litmus"))
    assert shown
    assert len(files) == len(shown)
    for each in shown:
        test = parser.parse(each["litmus"], "shown")
        answers = [str(execution.answer(test, k, k.system(test.features)).answer) for k in (V5_18, V5_19)]
        assert answers == each["answers"]
        assert set(answers) == {"Allowed", "Forbidden"}


def test_kernels_that_differ_in_words_only_have_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", "v5.11", "v5.12", "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "no observable difference" in printed
    assert "the same terms" in printed


def either(p: Term, v: Term, f: Term) -> Term:
    """The rule of 5.9, said in a longer way."""
    return Or(V5_9.reuse(p, v, f), And(maybe_pinned(f), V5_9.reuse(p, v, f)))


LONGER = V5_9.but("longer", "the same, in other terms", reuse=either)
REUSED = ("write", "read", "pin", "drop", "dma", "pageout", "mprotect")
"""Operations that decide, or show, whether a page is reused."""


def test_none_so_far_is_not_said_to_be_none() -> None:
    assert LONGER.system().text() != V5_9.system().text()
    searched, sequences = found(V5_9, LONGER, SMALL)
    assert (sequences, searched.complete, searched.depth) == ([], False, 3)


def test_where_nothing_new_can_be_reached_there_is_no_difference_of_any_length(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some operations: that the search comes to an end is the same for all, which would take it minutes."""
    every = lockstep.operations
    monkeypatch.setattr(lockstep, "operations", lambda *of: tuple(o for o in every(*of) if o.word in REUSED))
    searched, sequences = found(V5_9, LONGER, dataclasses.replace(SMALL, depth=40))
    assert (sequences, searched.complete) == ([], True)
    assert 4 < searched.depth < 40
    assert searched.nodes > 100


def test_a_search_out_of_time_says_so_and_decides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["diff", "v6.0", "v6.2", "--time", "0.001", "-o", str(tmp_path)]
    assert main(given) == 3
    printed = capsys.readouterr().out
    assert "undecided" in printed
    assert "out of time" in printed
    assert "no observable difference" not in printed


@pytest.mark.parametrize("given", [
    ["v5.8", "v5.99"], ["v5.8", "v5.9", "--depth", "0"], ["v5.8", "v5.9", "--processes", "9"],
    ["v5.8", "v5.9", "--with", "huge"], ["v5.8", "v5.9", "--time", "0"],
])
def test_wrong_usage_is_one_line(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", *given, "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_feature_of_many_pages_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="huge"):
        diff.compare("v5.8", "v5.9", ("huge",), Bounds())
