"""Tests at random: proofs/hardware/generate.py, met.py, asking.py, shrink.py, campaign.py, and `conform --random`."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from real_kernels import real_kernels

from model.features import WORLD
from model.logic import ModelError
from model.operations import OPERATIONS
from proofs import errors
from proofs.cli import main
from proofs.hardware import asking, campaign, conform, generate, observing, reproducer, shrink, vm
from proofs.hardware.generate import Generator, able
from proofs.hardware.met import Goals, goals_of
from proofs.litmus import execution, parser
from proofs.litmus.language import Litmus
from proofs.naming.specs import find_kernel

SMALL = ("mremap", "numa")
"""Features with which a model is built, and tests are made, in no time."""
RELEASE = "6.1.0-56-amd64"


@functools.cache
def goals(features: tuple[str, ...] = SMALL) -> Goals:
    return goals_of("v6.1", able(find_kernel("v6.1"), features))


def in_the_fourth(test: Litmus) -> bool:
    """Of the tests at random in one, and in each that is made to find out more of it."""
    return test.name == "random-1-3" or not test.name.startswith("random-")


def everything_there_is() -> Goals:
    return goals(tuple(WORLD))


class FakeMachine:
    """What boots instead of qemu: it does as v6.1 of the model does, one outcome of each test, but where it errs.

    `errs` says where the condition comes out wrong; `ends`: a test's name to how the machine ends amid it, as
    `vm.Boot.ended` or "interrupt"; `boots`: how many machines there were.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, errs: Callable[[Litmus], bool] = lambda test: False) -> None:
        self.errs = errs
        self.ends: dict[str, str] = {}
        self.boots = 0
        self.blind = False
        self.image = "one"
        self.tests: Sequence[Litmus] = []
        written = reproducer.program

        def program(tests: Sequence[Litmus], *given: Any) -> str:
            self.tests = tests
            return written(tests, *given)

        @contextlib.contextmanager
        def compiled(text: str, name: str) -> Iterator[Path]:
            yield Path(name)

        machine = vm.Machine(Path("vmlinuz"), RELEASE, None, None, None)
        for name, value in (
            ("find", lambda path: machine), ("digest", lambda machine: self.image), ("compiled", compiled),
            ("boot", self.boot),
        ):
            monkeypatch.setattr(vm, name, value)
        monkeypatch.setattr(reproducer, "program", program)

    def boot(
        self, machine: vm.Machine, suite: Path, arguments: Sequence[str] = (), *, seconds: float,
        on_line: Callable[[str], None], meanwhile: Callable[[], bool], **_: Any,
    ) -> vm.Boot:
        self.boots += 1
        lines: list[str] = []

        def say(**what: object) -> None:
            lines.append(json.dumps(what))
            on_line(lines[-1])

        say(release=RELEASE)
        for test in self.tests:
            meanwhile()
            say(test=test.name)
            if self.blind:
                say(verdict="not observable", reason="it shows nothing")
                continue
            match self.ends.pop(test.name, ""):
                case "panic" | "silent" | "timeout" as ended:
                    return vm.Boot(tuple(lines), None, ended, f"BUG: {ended}", "", 1.0, "tcg")
                case "interrupt":
                    raise KeyboardInterrupt
            outcomes, _stuck = execution.outcomes(test, goals().kernel, goals().kernel.system(test.features))
            outcome = min(outcomes, key=str)
            say(
                verdict="observed", condition=outcome.condition != self.errs(test),
                refused=sum(1 << n - 1 for n in outcome.refused), blocked=sum(1 << n - 1 for n in outcome.blocked),
            )
        return vm.Boot(tuple(lines), 0, "done", "", "", 1.0, "tcg")


def run(tests: Sequence[Litmus], **how: Any) -> dict[str, observing.Observation]:
    return observing.run_in(Path("vmlinuz"), tests, **how)


def asked(
    folder: Path, number: int, features: Sequence[str] = SMALL, first: int = 5, batch: int = 10
) -> campaign.Campaign:
    return asking.Asking(RELEASE, run, 1, folder, features=features).go(number, first=first, batch=batch)


def words(test: Litmus) -> set[str]:
    return {statement.operation.word for statement in test.statements}


# Making tests


def test_no_test_comes_twice() -> None:
    drafts = [generate.draft_of(text) for text in texts(1, 40)]
    assert len(set(drafts)) == 40


def texts(seed: int, number: int) -> list[str]:
    generator = Generator(seed, goals(), SMALL)
    return [generator.test().text for _ in range(number)]


def test_the_same_seed_gives_the_same_tests_in_any_process() -> None:
    asked_again = (
        "from proofs.hardware.generate import *; from proofs.hardware.met import goals_of\n"
        "from proofs.naming.specs import find_kernel\n"
        f"f = {SMALL}; g = Generator(3, goals_of('v6.1', able(find_kernel('v6.1'), f)), f)\n"
        "print(repr([g.test().text for _ in range(6)]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", asked_again], env=os.environ | {"PYTHONHASHSEED": "7"}, cwd=ROOT, text=True, check=True,
        capture_output=True,
    )
    assert other.stdout == repr(texts(3, 6)) + "\n"
    assert not set(texts(3, 6)) & set(texts(4, 6))


def test_a_release_is_asked_nothing_that_it_has_not() -> None:
    """5.10 has no MADV_POPULATE_READ (5.14), and userfaultfd protects no page of a file before 5.19."""
    old = find_kernel("debian-5.10")
    assert {o.word for o in able(find_kernel("v6.1"))} - {o.word for o in able(old)} == {"populate", "uffd-continue"}
    generator = Generator(1, goals_of("debian-5.10", able(old)))
    pages = {page for number in range(300) for page in generator.made(random.Random(number)).pages}
    assert any("uffd" in page for page in pages)
    assert any("file" in page for page in pages)
    assert not any({"file", "uffd"} <= set(page.split()) for page in pages)


def test_every_operation_of_the_language_comes_in_tests_that_a_program_can_do() -> None:
    """But a page lock that is held, a second swap disk, and what came after 6.1, whose rules are asked."""
    operations = {(o.word, o.flags) for o in OPERATIONS}
    impossible = {
        (o.word, o.flags) for o in OPERATIONS
        if o.word in ("trylock-fails", "uffd-move", "pagemap-scan", "guard-install", "guard-remove")
        or "stable" in o.flags
    }
    assert len(impossible) == 6
    generator = Generator(1, everything_there_is())
    found: set[tuple[str, frozenset[str]]] = set()
    for number in range(3000):
        draft = generator.made(random.Random(number))
        try:
            test = parser.parse(draft.text("t", "A.x == 0"), "t")
            reproducer.check(test)
        except ModelError:
            continue
        found |= {(s.operation.word, s.operation.flags) for s in test.statements}
        if found == operations - impossible:
            break
    assert found == operations - impossible


def test_features_that_were_not_asked_for_do_not_come() -> None:
    generator = Generator(1, goals(("ksm",)), ("ksm",))
    tests = [generator.test().litmus for _ in range(25)]
    assert set().union(*(test.features for test in tests)) <= {"ksm", "zero", "vm-soft-dirty"}
    assert any("ksm" in test.features for test in tests)


def test_a_test_says_what_the_model_says_of_it_when_it_is_asked_alone() -> None:
    """Its outcomes are those of the litmus engine with the test's own features, and the condition comes true in one."""
    generator = Generator(5, everything_there_is())
    for _ in range(12):
        made = generator.test()
        alone, stuck = execution.outcomes(made.litmus, goals().kernel, goals().kernel.system(made.litmus.features))
        assert (made.outcomes, made.stuck) == (alone, stuck), made.text
        assert any(outcome.condition for outcome in alone)


def test_what_was_not_met_comes_more_often() -> None:
    """Of 200 tests, four times as many have an operation of which nothing was met as if all had been."""

    def migrating(met: set[str]) -> int:
        generator = Generator(1, everything)
        generator.learn("litmus t\npage x\nA: write x 1\nexists A.x == 1\n", met)
        drafts = [generator.made(random.Random(n)) for n in range(200)]
        return sum(": migrate " in step for draft in drafts for step in draft.steps)

    everything = everything_there_is()
    all_of_it = {*everything.rules, *everything.conjuncts}
    left = {key for key in all_of_it if key.split()[0].startswith("migrate")}
    assert left
    assert migrating(all_of_it - left) > 3 * migrating(all_of_it) > 0


@pytest.mark.parametrize(("text", "met", "unmet"), [
    ("page x\nA: write x 1\nexists A.x == 1", {"anon-fault", "store"}, {"store-refused", "wp-copy"}),
    ("page x rdonly\nA: write x 1\nexists refused 1", {"store-refused"}, {"anon-fault", "store"}),
    ("page x\nA: write x 1\nA: fork B\nB: write x 2\nexists B.x == 2", {"fork", "wp-copy"}, {"wp-reuse"}),
])
def test_met_is_what_executions_take(text: str, met: set[str], unmet: set[str]) -> None:
    _, _, found = everything_there_is().executions(parser.parse(f"litmus t\n{text}\n", "t"))
    assert met <= found
    assert not unmet & found


def test_a_conjunct_is_met_that_alone_forbids_a_rule() -> None:
    known = everything_there_is()
    store = next(rule for rule in known.system.rules if rule.name == "store")
    assert known.met_in(store, [1]) == {"store 1"}
    assert known.met_in(store, [0, 1]) == frozenset()
    assert known.missing({"store"}, {"store"}) == 1 - 1 / (1 + sum(key.startswith("store ") for key in known.conjuncts))
    assert known.decided({"fork"}) >= {name for name, asking in known.decisions.items() if "fork" in asking}


# Asking


def test_a_kernel_that_does_as_the_model_says_has_no_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = FakeMachine(monkeypatch)
    found = asked(tmp_path, 20)
    assert [(f.litmus, f.status) for _, f in found.asked] == [(f"random-1-{n}", conform.AGREE) for n in range(20)]
    assert (found.different(), found.shrunk) == ([], {})
    assert machine.boots < 20


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was seen before the interrupt is kept, also if the machine was amid a batch, or a line was half written."""
    machine = FakeMachine(monkeypatch, in_the_fourth)
    (tmp_path / "whole").mkdir()
    whole = asked(tmp_path / "whole", 16)
    machine.ends = {"random-1-12": "interrupt"}
    with pytest.raises(KeyboardInterrupt):
        asked(tmp_path, 16)
    [kept] = tmp_path.glob("*.jsonl")
    assert len(kept.read_text().splitlines()) == 1 + 12
    kept.write_text(kept.read_text() + '{"text": "litm')
    again = asked(tmp_path, 16)
    assert list(again.shrunk) == ["random-1-3"]
    assert (again.asked, again.met, again.shrunk) == (whole.asked, whole.met, whole.shrunk)
    boots = machine.boots
    assert asked(tmp_path, 16).asked == whole.asked
    assert machine.boots == boots


def test_tests_to_which_a_machine_did_not_come_are_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = FakeMachine(monkeypatch)
    machine.ends = {"random-1-7": "timeout"}
    found = asked(tmp_path, 12)
    assert [(f.litmus, f.reason) for _, f in found.asked if f.status != conform.AGREE] == [
        ("random-1-7", observing.UNFINISHED)
    ]
    assert len(found.asked) == 12


def test_tests_of_others_are_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeMachine(monkeypatch)
    asked(tmp_path, 2)
    with pytest.raises(ModelError, match=r"of tests with other features: name another folder with --keep"):
        asked(tmp_path, 2, ("mremap",))


@pytest.mark.parametrize("spoiled", [
    b"no JSON\n", b"\xff\n", b"[]\n", b'{"text": "litmus x", "found": {}}\n', b'{"text": 1}\n', b"[" * 10_000 + b"\n",
])
def test_a_line_that_was_changed_is_told_and_none_after_it_is_lost(
    spoiled: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All that followed was dropped from the file, and asked again or never."""
    FakeMachine(monkeypatch)
    asked(tmp_path, 3)
    [kept] = tmp_path.glob("*.jsonl")
    lines = kept.read_bytes().splitlines(keepends=True)
    text = b"".join([*lines[:2], spoiled, *lines[3:]])
    kept.write_bytes(text)
    with pytest.raises(ModelError, match=r"jsonl:3 was changed since it was kept: name another folder with --keep"):
        asked(tmp_path, 3)
    assert kept.read_bytes() == text


def test_what_two_runs_at_once_have_asked_counts_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeMachine(monkeypatch)
    found = asked(tmp_path, 3)
    [kept] = tmp_path.glob("*.jsonl")
    head, *lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join([head, *lines, *lines]))
    assert asked(tmp_path, 3).asked == found.asked


# Making differences smaller


def difference(text: str, kernel: str, real: Callable[[Litmus], bool]) -> shrink.KernelDifference:
    return shrink.KernelDifference("t", text, answers(kernel, real)([parser.parse(text, "t")])["t"])


def answers(kernel: str, errs: Callable[[Litmus], bool]) -> shrink.Compare:
    """A kernel that does as the model says, but where it errs the condition comes out the other way."""

    def compare(tests: Sequence[Litmus]) -> dict[str, conform.Conformance]:
        known = goals()
        found = {}
        for test in tests:
            outcomes, stuck = execution.outcomes(test, known.kernel, known.system)
            outcome = min(outcomes, key=str)
            seen = observing.Observation(RELEASE, outcome._replace(condition=outcome.condition != errs(test)), "")
            found[test.name] = conform.held_against(test, kernel, outcomes, stuck, seen)
        return found

    return compare


NOISE = """litmus t
page x
page y uffd
A: write x 3
A: write y 4
A: fork B
A: r0 = get x
B: write x 5
A: fork C
C: munmap y
A: read y
B: r1 = pin y longterm
C: write x 7
exists A.x == 3 and B.x == 5 and r0 sees 3
"""


@pytest.mark.parametrize(("errs", "smallest"), [
    (lambda test: "munmap" in words(test), "page y\nA: munmap y\nexists A.y == 0"),
    (lambda test: {"fork", "get"} <= words(test), "page x\nA: fork B\nA: r0 = get x\nexists A.x == 0"),
    (lambda test: len(test.pages) == 2, "page x\npage y\nexists A.x == 0"),
    (lambda test: len(test.processes) == 3, "page y\nA: fork B\nA: fork C\nexists A.y == 0"),
    (lambda test: any("longterm" in s.text for s in test.statements),
     "page y\nA: r1 = pin y longterm\nexists A.y == 0"),
    (lambda test: any(page.attributes for page in test.pages), "page y uffd\nexists A.y == 0"),
])
def test_a_difference_becomes_the_smallest_test_that_has_it(errs: Callable[[Litmus], bool], smallest: str) -> None:
    compare = answers("v6.1", errs)
    *_, [found] = shrink.shrink([difference(NOISE, "v6.1", errs)], compare)
    assert (found.text, found.smallest, found.flaky) == (f"litmus t\n{smallest}\n", True, False)
    assert found.found.status == conform.DISAGREE


def test_what_differs_once_only_is_flaky_and_stays_as_it_is() -> None:
    once = iter([True])
    compare = answers("v6.1", lambda test: next(once, False))
    [[found]] = shrink.shrink([difference(NOISE, "v6.1", lambda test: True)], compare)
    assert (found.text, found.again, found.flaky) == (NOISE, 1, True)


def test_a_smaller_test_that_differs_once_only_is_not_taken() -> None:
    """The kernel errs each time in a test of three statements, and once in a smaller one."""
    text = "litmus t\npage x\nA: fork B\nA: r0 = get x\nB: write x 1\nexists A.x == 0\n"
    once = iter([True])
    compare = answers("v6.1", lambda test: len(test.statements) == 3 or next(once, False))
    *_, [found] = shrink.shrink([difference(text, "v6.1", lambda test: True)], compare)
    assert (found.text.splitlines()[2:5], found.smallest, found.flaky) == (text.splitlines()[2:5], True, False)


def test_shrinking_goes_on_from_what_was_given_last() -> None:
    compare = answers("v6.1", lambda test: "munmap" in words(test))
    first, *_ = rounds = list(shrink.shrink([difference(NOISE, "v6.1", lambda test: True)], compare))
    assert len(rounds) > 3
    assert first[0].text == NOISE
    assert list(shrink.shrink(rounds[1], compare)) == rounds[2:]
    assert list(shrink.shrink(rounds[-1], compare)) == []


# On the command line


def conforming(folder: Path, *arguments: str) -> int:
    return main.main([
        "conform", "--random", "12", "--with", ",".join(SMALL), "--keep", str(folder), "--vmlinuz", "vmlinuz",
        *arguments,
    ])


def test_a_difference_is_told_with_both_sides_and_written_as_a_test_and_as_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What this kernel errs in needs no statement at all, and a single page."""
    FakeMachine(monkeypatch, in_the_fourth)
    assert conforming(tmp_path) == errors.VIOLATION
    printed = capsys.readouterr().out
    assert "12 tests: 11 agree, 1 disagree" in printed
    [test] = tmp_path.glob("*.litmus")
    text = test.read_text()
    assert "\n".join(f"  {line}" for line in text.splitlines()[3:]) in printed
    assert f"# {RELEASE}: condition" in text
    assert "# v6.1: the model has: condition" in text
    read = parser.read(test)
    assert (len(read.pages), read.statements, len(read.facts)) == (1, (), 1)
    assert f"/* {read.mode} {read.condition_text} */" in test.with_suffix(".c").read_text()


def test_what_ends_or_hangs_a_machine_is_named_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    machine = FakeMachine(monkeypatch)
    machine.ends = {"random-1-3": "panic", "random-1-8": "silent"}
    assert conforming(tmp_path) == errors.VIOLATION
    printed = capsys.readouterr().out
    assert "12 tests: 10 agree, 1 crashed, 1 hung" in printed
    assert "crashed: random-1-3; BUG: panic" in printed
    assert "hung: random-1-8; BUG: silent" in printed
    assert machine.boots == 3
    assert {path.name for path in tmp_path.glob("*.litmus")} == {
        f"{RELEASE}-random-1-3.litmus", f"{RELEASE}-random-1-8.litmus"
    }


def test_a_kernel_that_shows_nothing_is_no_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    FakeMachine(monkeypatch).blind = True
    assert conforming(tmp_path) == errors.INCONCLUSIVE
    assert "not observable, 12: it shows nothing" in capsys.readouterr().out


def test_what_is_flaky_is_named_and_is_no_violation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    FakeMachine(monkeypatch, lambda test: test.name == "random-1-3")
    assert conforming(tmp_path) == errors.OK
    printed = capsys.readouterr().out
    assert "flaky, 0 of 3 times again: random-1-3: condition" in printed
    assert "litmus random-1-3" in printed


def test_an_interrupt_tells_what_was_done_and_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    machine = FakeMachine(monkeypatch)
    machine.ends = {"random-1-5": "interrupt"}
    assert conforming(tmp_path, "--json") == errors.INCONCLUSIVE
    printed, said = capsys.readouterr()
    assert len(json.loads(printed)["results"]) == 5
    assert "the same command goes on from there" in said
    assert conforming(tmp_path, "--json") == errors.OK
    found = json.loads(capsys.readouterr().out)
    assert [each["litmus"] for each in found["results"]] == [f"random-1-{n}" for n in range(12)]
    [told] = found["random"]
    assert (told["tests"], told["statuses"], told["seed"]) == (12, {"agree": 12}, 1)
    assert set(told["rules"]["never"]) < goals().rules
    assert len(told["conjuncts"]["never"]) < told["conjuncts"]["of"]


def test_another_kernel_of_the_same_release_is_asked_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A kernel that was built again, with a fix, was told to do what the one before it did."""
    machine = FakeMachine(monkeypatch)
    assert conforming(tmp_path) == errors.OK
    machine.image = "two"
    capsys.readouterr()
    assert conforming(tmp_path) == errors.USAGE
    printed, said = capsys.readouterr()
    assert not printed
    assert "is of tests with other image: name another folder with --keep" in said


def test_the_hash_of_an_image_is_of_its_modules_too(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("vmlinuz", "modules/order", "modules/a.ko", "gup_probe.ko")]
    (tmp_path / "modules").mkdir()
    for path in files:
        path.write_text("a.ko\n")
    machine = vm.Machine(files[0], "6.1.0", tmp_path / "modules", files[3], None)
    found = {vm.digest(machine)}
    for path in (files[0], files[2], files[3]):
        path.write_text("other")
        found.add(vm.digest(machine))
    assert len(found) == 4


@pytest.mark.parametrize(("arguments", "message"), [
    (["--random", "5"], "name some with --vmlinuz"), (["--random", "5", "t.litmus"], "takes no files"),
    (["--random", "5", "--here"], "--here"), (["--random", "5", "--identify"], "--identify"),
    (["--random", "0", "--vmlinuz", "v"], "greater than or equal to 1"), (["--with", "ksm"], "--with is for --random"),
    (["--random", "5", "--vmlinuz", "v", "--with", "hugh"], "no feature 'hugh'; did you mean huge"),
    (["--random", "5", "--vmlinuz", "/nonexistent"], "/nonexistent"),
])
def test_what_makes_no_sense_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["conform", *arguments]) == errors.USAGE
    printed, said = capsys.readouterr()
    assert printed == ""
    assert message in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# Real kernels

@real_kernels
def test_a_real_kernel_is_asked_at_random(image: Path, tmp_path: Path) -> None:
    """Tests that nobody has written, the same in every run: no difference."""
    machine = vm.find(image)
    if observing.kernel_for(machine.release) != "v6.1":
        pytest.skip("CI's kernel is asked; of another one `conform --random` tells more than a fixed seed")
    how = functools.partial(observing.run_in, image, seconds=300.0)
    found = asking.Asking(machine.release, how, 4, tmp_path).go(48, first=48)
    assert dict(found.steady()) == {}
    assert sum(seen.status == conform.AGREE for _, seen in found.asked) > 40
    assert len(found.met & found.goals.rules) > 50


FOUND = (
    """litmus every-page-of-a-part-is-written
about a part stands for hundreds of pages: after stores to both no zero page is left where userfaultfd would be asked
page y huge 2 zero uffd
A: write y 1
*: collapse y.0
exists huge A.y.0
""",
    """litmus a-store-through-the-kernel-goes-to-all
about as above, by process_vm_writev
page y huge 2 zero uffd
A: process_vm_writev y 1
*: collapse y.0
exists huge A.y.0
""",
    """litmus a-page-is-not-merged-with-itself
about parts of its block that are mergeable too are no business of this statement
page x huge 2
*: ksm x x
exists A.x == 0
""",
    """litmus one-of-two-folios-is-split
about before 5.13 debugfs splits all of the machine's, unless somebody holds them
page x huge 2
page y huge 2
A: split x
exists huge A.y
""",
    """litmus every-page-of-a-part-is-faulted
about all of it is copied for a reference that is for writing, so that the other process has the folio alone
page y huge 2
A: fork B
A: r3 = get y write
B: r0 = pin y.0
exists huge B.y
""",
    """litmus numa-file-page
about its page_count, which 5.17 to 6.11 ask for, has the page cache's reference
page x file
A: read x
A: numa x
exists refused 2
""",
    """litmus nobody-waits-for-who-has-exited
about reclaim by a process that is gone is refused, as all that it might do
page x
A: write x 1
A: fork B
A: exit
*: pageout x
exists refused 4
""",
    """litmus a-fork-that-fails-has-no-child
about with an event, as without one: the pinned hugetlb page cannot be copied from 5.13 on
page x hugetlb
*: hugetlb-drain x
A: write x 7
A: r = pin x write
A: fork B event
exists not present B.x
""",
    """litmus reclaim-leaves-hugetlb-alone
about what keeps other pages from reclaim, mlock2, faults no hugetlb page in
page x hugetlb
page y huge 2
A: pageout y.1
exists not present A.x
""",
)


@real_kernels
def test_what_was_found_at_random_agrees(image: Path, tmp_path: Path) -> None:
    """Tests that differed because of how they were observed, or by a rule, in one boot."""
    for number, text in enumerate(FOUND):
        (tmp_path / f"{number}.litmus").write_text(text)
    asked = [str(path) for path in sorted(tmp_path.glob("*.litmus"))]
    assert main.main(["conform", *asked, "--vmlinuz", str(image)]) == errors.OK
