"""Litmus tests as C programs, and what real kernels do: proofs/hardware/reproducer.py, proofs/hardware/conform.py."""

from __future__ import annotations

import json
import platform
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from real_kernels import needs_compiler, real_kernels

from model.logic import ModelError
from proofs import errors
from proofs.cli import main
from proofs.data import SUITE
from proofs.errors import NotObservable
from proofs.hardware import conform, observing, reproducer, vm
from proofs.hardware.conform import AGREE, DISAGREE, NOT_OBSERVABLE
from proofs.hardware.observing import Observation
from proofs.litmus import matrix, parser
from proofs.litmus.execution import Outcome
from proofs.litmus.facts import OF_ADDRESSES
from proofs.litmus.language import Litmus

COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} (its Debian package)"))
    for name in ("gcc", "clang")
]
NOTHING: frozenset[int] = frozenset()


def named(name: str) -> Litmus:
    return parser.read(SUITE / f"{name}.litmus")


def written(text: str) -> Litmus:
    return parser.parse(f"litmus t\n{text}", "t.litmus")


def whole_suite() -> list[Litmus]:
    return [parser.parse(row.text, row.name) for row in matrix.read_suite().rows]


def doable() -> list[Litmus]:
    found = []
    for each in whole_suite():
        try:
            reproducer.check(each)
        except NotObservable:
            continue
        found.append(each)
    return found


# Programs


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", [
    "F1-vmsplice-leak", "F3-pin-fork-dma", "F5-soft-dirty-pin", "F8f-force-write-pin", "F11-zero-page",
    "F13-ksm-merge-pin", "thp-collapse-keeps-content", "swap-in-read-restores-write", "uffd-unregistered",
    "I9-swap-slot-leak",
    "F25-spurious-copy",
])
def test_a_program_compiles_without_warnings(name: str, compiler: str) -> None:
    assert warnings(reproducer.program([named(name)]), compiler) == ""


def warnings(text: str, compiler: str) -> str:
    command = [compiler, "-fsyntax-only", "-O1", "-Wall", "-Wextra", "-x", "c", "-"]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=False).stderr


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_test_of_the_suite_compiles_without_warnings(compiler: str) -> None:
    """All in one program, each with a prediction, as it has alone. For each section of the runtime the test that takes
    fewest beside it is compiled alone: which of its functions a program lacks or has in vain, as others might, is seen
    by the next test."""
    tests = doable()
    assert len(tests) > 250
    either = [Outcome(NOTHING, NOTHING, condition) for condition in (True, False)]
    assert warnings(reproducer.program(tests, {each.name: either for each in tests}), compiler) == ""
    alone: dict[str, Litmus] = {}
    for each in sorted(tests, key=lambda t: len(reproducer.sections_of(t))):
        for section in reproducer.sections_of(each):
            alone.setdefault(section, each)
    assert len(alone) > 30
    chosen = {each.name: each for each in alone.values()}
    assert {n: said for n, each in chosen.items() if (said := warnings(reproducer.program([each]), compiler))} == {}


@pytest.mark.slow
def test_a_program_has_just_the_functions_that_it_calls() -> None:
    """As compilers would say of each."""
    programs = {each.name: reproducer.program([each], head=" ") for each in doable()}
    function = re.compile(r"^static [^;={]*?\b(\w+)\([^()]*\)\s*\{", re.M)
    defined = {name: function.findall(text) for name, text in programs.items()}
    known = set().union(*defined.values())
    assert len(known) > 100
    for name, text in programs.items():
        code = re.sub(r"/\*.*?\*/|\"[^\"\n]*\"", "", text, flags=re.S)
        words, called = Counter(re.findall(r"\w+", code)), set(re.findall(r"(?<![\w.>])(\w+)\(", code))
        assert [f for f in defined[name] if words[f] < 2] == [], name
        assert known & called <= set(defined[name]), name


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("text", [
    "page x\nA: write x 1\n*: pageout x writing\nA: write x 2\n*: writeback-end x\nexists A.x == 2",
    "page x\nA: write x 1\n*: pageout x writing stable\nA: mprotect x rwx\nexists A.x == 1",
    "page x\n*: writeback-end x\nexists refused 1",
    "page x uffd rdonly\nA: force-write x 1\nexists A.x == 1",
    "page x\n*: extra-ref x\nexists A.x == 0",
    "page x\n*: drop-extra x\nexists A.x == 0",
    "page x\n*: numa x\nexists A.x == 0",
    "page x\nA: process_vm_writev x 3\nexists A.x == 3",
    "page x huge 2\nA: populate x write\nA: populate x.1\nexists A.x == 0",
    *(f"page x\nA: write x 1\nexists {word} A.x" for word in OF_ADDRESSES if word not in ("dirty", "misplaced")),
])
def test_a_program_of_some_operations_only_compiles_without_warnings(text: str, compiler: str) -> None:
    assert warnings(reproducer.program([written(text)]), compiler) == ""


@needs_compiler
def test_names_of_a_test_never_are_names_of_c_or_of_the_runtime() -> None:
    text = "page store\npage int\nA: write store 1\nA: write int 2\nA: fork judge\njudge: main = vmsplice store\n" \
           "A: write store 3\nexists main sees 3 or judge.int == 2"
    assert warnings(reproducer.program([written(text)]), "cc") == ""


@pytest.mark.parametrize(("text", "reason"), [
    ("page x\nA: write x 1 || A: read x\nexists A.x == 1", "operations at the same time"),
    ("page x\n*: pageout x writing\n*: pageout x writing stable\nexists A.x == 0", "a swap device needs"),
    ("page x\n*: trylock-fails\nA: write x 1\nexists A.x == 1", "page lock"),
    ("page x huge 2\nA: mremap x.1 x.0\nexists A.x == 0", "x.0 for one"),
    ("page x huge 2\npage y\n*: ksm x.0 x.1\nA: mremap x.1 y\nexists A.x == 0", "two VMAs"),
    ("page x huge 2\n*: ksm x.0 x.1\n*: collapse x\nexists A.x == 0", "of which ksm has made one a VMA"),
    ("page x huge 2\npage y\nA: mremap y x.0\nA: numa x.1\nexists A.x == 0", "whose folio counts them"),
    ("page x huge 2\nA: clear-soft-dirty\nA: mprotect x.1 ro\nexists soft-dirty A.x.1", "changes together"),
    ("page x huge 2\nA: r = pin x\nA: madv-free x\nA: pageout x\nexists A.x == 0", "of which one is referenced"),
    ("page x\nA: write x 1\nexists dirty A.x", "nothing shows the dirty bit of a PTE"),
    ("page x uffd\nA: fork C event\nC: fork D\nexists D.x == 0", "a monitor is told of each fork, or of none"),
    ("page x\npage y\n*: pageout x sync\n*: pageout y writing\nexists A.x == 0", "one swap device is used at a time"),
    ("page x uffd\npage y uffd async\nA: fork C event\nexists C.x == 0", "the pages have several"),
])
def test_what_no_program_can_do_is_said(text: str, reason: str) -> None:
    with pytest.raises(NotObservable, match=reason):
        reproducer.program([written(text)])


def test_all_of_the_suite_but_races_and_the_page_lock_can_be_done() -> None:
    done = {each.name for each in doable()}
    left = [each for each in whole_suite() if each.name not in done]
    lock = [each for each in left if all(len(group) == 1 for group in each.groups)]
    assert {s.operation.word for each in lock for s in each.statements} >= {"trylock-fails"}
    hidden = [each for each in lock if any(fact.what == "misplaced" for fact in each.facts)]
    named = [each for each in lock if any(s.operation.forms for s in each.statements)]  # as -k says
    contiguous = [each for each in lock if any("cma" in page.attributes for page in each.pages)]
    assert all(any(s.operation.word == "trylock-fails" for s in each.statements)
               for each in lock if each not in hidden + named + contiguous)


@needs_compiler
def test_a_reproducer_ends_with_0_as_predicted_and_1_if_not(tmp_path: Path) -> None:
    """A child never sees what its parent writes after fork, on any kernel: predicting that it does must fail."""
    text = "page x\nA: write x 1\nA: fork C\nA: write x 2\nexists C.x == {}"
    for value, status in ((1, reproducer.AS_PREDICTED), (2, reproducer.NOT_AS_PREDICTED)):
        with vm.compiled(reproducer.program([written(text.format(value))]), "test") as program:
            done = subprocess.run([program], capture_output=True, text=True, check=False)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == status
        assert [step["result"] for step in said if "operation" in step] == ["done"] * 3
        assert said[-1]["verdict"] == ("as predicted" if status == 0 else "not as predicted")


@needs_compiler
def test_an_operation_that_the_kernel_refuses_is_refused() -> None:
    asked = written("page x rdonly\nA: write x 1\nA: munmap x\nA: dontneed x\nexists refused 1 and not refused 2")
    with vm.compiled(reproducer.program([asked]), "test") as program:
        seen = observing.observations(observing.run_here(program, allow_host_settings=False))["t"]
    assert seen.outcome == Outcome(frozenset({1, 3}), NOTHING, True)


@needs_compiler
def test_a_machine_without_a_slow_swap_disk_keeps_no_writing_going() -> None:
    asked = written("page x\nA: write x 1\n*: pageout x writing\nexists A.x == 1")
    with vm.compiled(reproducer.program([asked]), "test") as program:
        seen = observing.observations(observing.run_here(program, allow_host_settings=False))["t"]
    assert seen.outcome is None
    assert "slow enough" in seen.reason


@needs_compiler
def test_a_program_that_is_told_to_end_leaves_no_process_behind() -> None:
    """Its tests are groups of processes of their own: it ends the one that runs, puts settings back, and goes."""
    one = written("page x\nA: write x 1\nA: fork C\nA: write x 2\nexists C.x == 1")
    with vm.compiled(reproducer.program([replace(one, name=f"t{n}") for n in range(400)]), "ends-early") as program:
        process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        began = [process.stdout.readline() for _ in range(20)]
        assert running(program)
        process.terminate()
        printed = [*began, *process.stdout]
        assert process.wait(10) == 128 + signal.SIGTERM
        assert 0 < sum('"test"' in line for line in printed) < 400
        assert running(program) == []


def running(program: Path) -> list[str]:
    """The processes of that program which have not ended."""
    found = []
    for link in Path("/proc").glob("[0-9]*/exe"):
        try:
            found += [link.parent.name] if link.readlink() == program else []
        except OSError:
            continue
    return found


# Comparing


def test_a_running_kernel_is_held_against_the_rules_of_its_release() -> None:
    described = {release: observing.kernel_for(release) for release in (
        "4.14.336", "5.4.0-150-generic", "5.10.0-46-amd64", "5.15.0-1", "5.19.17", "6.1.0-56-amd64",
        "6.12.118+deb13-amd64", "6.18.2", "7.2.13+deb14-amd64", "7.3-amd64",
    )}
    assert list(described.values()) == [
        "v4.14", "v5.7", "debian-5.10", "v5.14", "v5.19", "v6.1", "v6.12", "v6.18", "v7.2", "v7.3-rc7",
    ]
    with pytest.raises(ModelError, match=r"those of 4\.8 to 7\.3-rc7"):
        observing.kernel_for("3.2.0")
    with pytest.raises(ModelError, match="no release"):
        observing.kernel_for("FreeBSD")


@pytest.mark.parametrize(("outcome", "kernel", "status"), [
    (Outcome(NOTHING, NOTHING, True), "v5.7", AGREE),
    (Outcome(NOTHING, NOTHING, False), "v5.7", DISAGREE),
    (Outcome(NOTHING, NOTHING, False), "v6.12", AGREE),
    (Outcome(NOTHING, NOTHING, True), "v6.12", DISAGREE),
    (Outcome(frozenset({2}), NOTHING, False), "v6.12", DISAGREE),
    (None, "v6.12", NOT_OBSERVABLE),
])
def test_an_observation_agrees_if_the_model_has_an_execution_that_ends_so(
    outcome: Outcome | None, kernel: str, status: str
) -> None:
    """F2: a pipe's page is the mapped page after fork and a write, or the child's write shows in it."""
    leak = named("F2-reference-before-fork")
    assert conform.compare(leak, kernel, Observation("0.0", outcome, "why")).status == status


def test_a_test_without_a_verdict_is_not_observable_and_the_others_stay() -> None:
    lines = [
        '{"release": "6.1.0"}', '{"test": "a"}', '{"step": 1, "operation": "A: write x 1", "result": "done"}',
        '{"verdict": "observed", "condition": true, "refused": 5, "blocked": 0}', "not JSON", '{"test": "b"}',
        '{"step": 1, "operation": "A: write x 1"',
    ]
    found = observing.observations(lines)
    assert found["a"].outcome == Outcome(frozenset({1, 3}), NOTHING, True)
    assert found["b"].outcome is None
    assert "ended before" in found["b"].reason


@needs_compiler
def test_the_running_kernel_does_what_every_kernel_does() -> None:
    """The first cases of cow.c on a base page hold wherever fork works at all."""
    tests = [each for each in whole_suite() if each.name in ("cow-01-basic.base", "cow-02-basic-mprotect.base")]
    assert [found.status for found in conform.conform(tests, observing.observe(tests, [None]))] == [AGREE, AGREE]


@needs_compiler
def test_conform_prints_results_by_its_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = [str(SUITE / f"{name}.litmus") for name in ("F2-reference-before-fork", "F4-gup-fast-fork")]
    code = main.main(["conform", *files, "--json", "--out", str(tmp_path / "c.md")])
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == 1
    assert [set(result) for result in printed["results"]] == [
        {"litmus", "release", "kernel", "model", "observed", "status", "reason", "digest"}
    ] * 2
    assert printed["results"][1]["status"] == NOT_OBSERVABLE
    assert code in (errors.OK, errors.VIOLATION)
    assert "F4-gup-fast-fork" in (tmp_path / "c.md").read_text()


def test_without_a_compiler_one_line_names_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main.main(["replay", str(SUITE / "F1-vmsplice-leak.litmus")]) == errors.USAGE
    assert "package gcc" in capsys.readouterr().err


@needs_compiler
def test_a_kernel_that_cannot_be_run_loses_nothing_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(vm, "find", lambda path: type("Machine", (), {"release": "6.1.0"}))

    def fails(*_: object, **__: object) -> tuple[str, ...]:
        raise ModelError("no qemu")

    monkeypatch.setattr(observing, "run_in", fails)
    text = "page x\nA: write x 1\nexists A.x == 1"
    asked = written(text)
    [[here], [there]] = observing.observe([asked], [None, tmp_path])
    assert here.outcome == Outcome(NOTHING, NOTHING, True)
    assert (there.outcome, there.reason) == (None, "no qemu")
    # What one kernel does is no pass for another, of which nothing was seen.
    (tmp_path / "t.litmus").write_text(f"litmus t\n{text}\n")
    given = ["conform", str(tmp_path / "t.litmus"), "-k", "v6.1"]
    assert main.main(given) == errors.OK
    for release in ("6.1.0", platform.release()):
        monkeypatch.setattr(vm, "find", lambda path, found=release: type("Machine", (), {"release": found}))
        assert main.main([*given, "--here", "--vmlinuz", str(tmp_path / "vmlinuz")]) == errors.INCONCLUSIVE


@pytest.mark.parametrize("left", ["exec sleep 60", "sleep 8; exit 1"])
def test_what_a_program_said_before_its_time_was_over_is_heard(left: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho one\n{left}\n")
    program.chmod(0o755)
    heard: list[str] = []
    with pytest.raises(errors.OutOfTime, match="did not end within 3 s"):
        observing.run_here(program, False, 3, heard.append)
    assert heard == ["one"]


@needs_compiler
@pytest.mark.parametrize("command", ["replay", "conform", "conform --random 5"])
def test_a_time_limit_that_is_over_is_no_mistake(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vm, "find", lambda path: vm.Machine(Path("vmlinuz"), "6.1.0-56-amd64", None, None, None))
    monkeypatch.setattr(vm, "digest", lambda machine: "one")
    Path("t.litmus").write_text("litmus t\npage x\nA: write x 1\nexists A.x == 1\n")
    given = ["t.litmus"] if "random" not in command else ["--vmlinuz", "vmlinuz", "--with", "numa"]
    if "--vmlinuz" not in given:
        given += ["--vmlinuz", "vmlinuz"]
    assert main.main([*command.split(), *given, "-k", "v6.1", "--seconds", "1e-9"]) == errors.INCONCLUSIVE
    out, err = capsys.readouterr()
    assert "1e-09 s" in out + err


@needs_compiler
def test_what_was_seen_before_an_interrupt_or_a_limit_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = vm.Machine(Path("vmlinuz"), "6.1.0-56-amd64", None, None, None)
    monkeypatch.setattr(vm, "find", lambda path: machine)
    for name in ("one", "two"):
        (tmp_path / f"{name}.litmus").write_text(f"litmus {name}\npage x\nA: write x 1\nexists A.x == 1\n")
    said = ('{"release": "6.1.0-56-amd64"}', '{"test": "one"}',
            '{"verdict": "observed", "condition": true, "refused": 0, "blocked": 0}', '{"test": "two"}')
    ended = iter(("interrupt", "timeout"))

    def boot(*_: object, on_line: Callable[[str], None], **__: object) -> vm.Boot:
        for line in said:
            on_line(line)
        if next(ended) == "interrupt":
            raise KeyboardInterrupt
        return vm.Boot(said, None, "timeout", "not done after 5 s", "", 5.0, "tcg")

    monkeypatch.setattr(vm, "boot", boot)
    given = ["conform", *map(str, tmp_path.glob("*.litmus")), "--vmlinuz", "vmlinuz", "--json"]
    for reason in ("interrupted before", observing.UNFINISHED):
        assert main.main(given) == errors.INCONCLUSIVE
        found = {row["litmus"]: row for row in json.loads(capsys.readouterr().out)["results"]}
        assert (found["one"]["status"], found["two"]["status"]) == (AGREE, NOT_OBSERVABLE)
        assert found["two"]["reason"] == reason


# Real kernels


HUGE = "page x huge 2\nA: write x 1"
MERGED = "page x\npage y\nA: write x 1\nA: write y 1\n*: ksm x y"
ARMED = "page x uffd\npage y\nA: write x 1\nA: uffd-wp x"
ON_EACH_KERNEL = {
    f"{HUGE}\nA: fork C\n*: pageout x.0\nexists C.x.1 == 1 and C.x.0 == 1": [],
    f"{HUGE}\nA: r = pin x.0 longterm\nA: fork C\n*: pageout x.1\nexists r sees 1": [4],
    f"{HUGE}\n*: split x\n*: collapse x\nexists A.x == 1": [],
    f"{MERGED}\n*: pageout x\nexists A.y == 1": [],
    f"{MERGED}\nA: fork C\n*: pageout x\nexists A.y == 1": [],
    f"{ARMED}\nA: mremap x y\nA: force-write x 1\nexists A.y == 1": [4],
    f"{ARMED}\nA: munmap x\nA: force-write x 1\nexists A.y == 0": [4],
    f"{ARMED}\nA: mprotect x ro\nA: r = pin x write\nexists A.x == 1": [4],
    "page x\npage y\n*: ksm x y\nexists A.x == 0": [1],
    "page x zero\npage y zero\n*: ksm x y\nexists A.x == 0": [1],
    "page x zero\n*: migrate x\nexists A.x == 0": [1],
    "page x zero\n*: pageout x\nexists A.x == 0": [1],
    "page x uffd rdonly\nA: r = pin x write longterm\n*: extra-ref x\nexists A.x == 0": [1, 2],
    "page x\nA: r = get x write\nA: write x 1\n*: drop-extra x\nexists r sees 1": [3],
    "page x\n*: numa x\nexists A.x == 0": [1],
    "page x huge 2\nA: uffd-wp x.0\nexists huge A.x": [1],
    "page x file\nA: read x\n*: ksm x x\nexists A.x == 0": [2],
    "page x\nA: write x 1\n*: ksm x x\nexists A.x == 1": [],
    "page x\nA: write x 1\nA: fork C\n*: numa x\nexists C.x == 1": [3],
    "page x\nA: write x 1\n*: numa x\n*: migrate x\n*: numa x\nexists writable A.x": [],
    f"{HUGE}\nA: r = get x.1\n*: numa x.0\nexists writable A.x.1": [],
    "page x\nA: numa x\n*: split x\nexists not present A.x": [1, 2],
    "page x\nA: write x 1\n*: pageout x\n*: numa x\nA: pageout x\nexists swapped A.x": [3, 4],
    "page x file\n*: numa x\nA: pageout x\nexists not present A.x": [1, 2],
    f"{HUGE}\n*: pageout x.0\nA: write x.0 1\nA: r = pin x.1\n*: numa x\nexists A.x.1 == 1": [5],
    f"{HUGE}\nA: clear-soft-dirty\nexists not writable A.x and not writable A.x.1": [],
    "page x huge 2 zero\nA: numa x.1\nexists huge A.x": [1],
    "page x huge 2 zero\nexists not writable A.x.0 and not writable A.x.1": [],
    "page x huge 2 zero\n*: extra-ref x\n*: drop-extra x.1\nexists A.x == 0": [1],
    "page x huge 2 zero\npage y zero\nA: r = vmsplice x.1\nexists A.x.0 is r and A.y is A.x.1": [],
    "page x\npage y\nA: read x\n*: extra-ref x\n*: extra-ref x\nA: mremap x y\n*: drop-extra y\nexists A.y == 0": [3],
}
"""Tests to the operations that are refused; all others are done, and the condition comes true."""
LOST = (
    "page x\nA: write x 1\n*: pageout x writing{}\nA: write x 2\nA: r = pin x write\n*: writeback-end x\n*: pageout x\n"
    "A: read x\nA: write x 3\nexists r sees 2"
)
"""A page swapped in by a write while it is written out stays in the swap cache (5.10), where no pin is asked for."""


@real_kernels
def test_what_is_seen_is_what_the_kernel_does(image: Path) -> None:
    """Reclaim takes what it can take and keeps off all else; who refused a write is told; so is what maps no page."""
    tests = [replace(written(text), name=f"t{number}") for number, text in enumerate(ON_EACH_KERNEL)]
    [seen] = observing.observe(tests, [image])
    expected = [Outcome(frozenset(refused), NOTHING, True) for refused in ON_EACH_KERNEL.values()]
    assert [(s.outcome, s.reason) for s in seen] == [(e, "") for e in expected]


@real_kernels
def test_a_callers_word_is_what_it_is_on_the_kernel_that_is_asked(image: Path) -> None:
    """Direct I/O took FOLL_GET up to 6.4, which fork does not see; nobody names the kernel."""
    tests = [replace(written(text), name=f"t{number}") for number, text in enumerate((
        "page x\nA: write x 1\nA: r = dio x write\nA: fork C\nA: write x 2\nexists A.x is r",
        "page x\nA: write x 1\nA: fork C\nA: mprotect x ro\nA: r = rdma x\nexists C.x is r",
    ))]
    [seen] = observing.observe(tests, [image])
    sees = tuple(map(int, seen[0].release.split(".")[:2])) >= (6, 5)
    assert [s.outcome for s in seen] == [Outcome(NOTHING, NOTHING, sees), Outcome(NOTHING, NOTHING, False)]


ADDRESSES = (
    "page x\nA: write x 1\nA: fork C\nexists present A.x and not exclusive A.x and not swapped A.x",
    "page x\nA: write x 1\n*: pageout x\nexists swapped A.x and not present A.x",
    "page x\nA: write x 1\n*: pageout x\nA: write x 2\nexists exclusive A.x and not swapped A.x",
    "page x\nA: write x 1\nA: r = pin x\nA: fork C\nexists exclusive A.x and exclusive C.x and not A.x is C.x",
    "page x\nA: read x\nexists zero A.x and present A.x and not exclusive A.x",
    f"{HUGE}\nexists huge A.x and not zero A.x", f"{HUGE}\nA: mprotect x.1 ro\nexists not huge A.x.0 and present A.x",
    "page x huge 2 zero\nexists huge A.x and zero A.x", f"{MERGED}\nexists ksm A.x and ksm A.y",
    f"{MERGED}\nA: write x 2\nexists ksm A.y and not ksm A.x",
    f"{ARMED}\n*: pageout x\nexists uffd-wp A.x and swapped A.x",
    "page x file uffd\nA: uffd-wp x\nexists uffd-wp A.x and not present A.x and not swapped A.x",
    "page x file\nA: uffd-continue x\nexists present A.x and not writable A.x",
    "page x file uffd\nA: uffd-continue x\nA: dontneed x\nA: read x\nexists present A.x",
    "page x\npage y huge 2\n*: pageout x\nexists refused 1 and huge A.y",
)


@real_kernels
def test_what_an_address_is_is_what_pagemap_and_kpageflags_say(image: Path) -> None:
    """As the model has it, but for what a kernel does not show: 6.12 calls every anonymous page one of KSM, 5.10 does
    not register files with userfaultfd and shows uffd-wp to the probe alone."""
    tests = [replace(written(text), name=f"t{number}") for number, text in enumerate(ADDRESSES)]
    found = conform.conform(tests, list(observing.observe(tests, [image])))
    assert [(each.litmus, each.reason) for each in found if each.status == DISAGREE] == []
    assert sum(each.status == AGREE for each in found) >= len(tests) - 4


@real_kernels
def test_what_nobody_may_access_is_not_said_to_be_gone(image: Path) -> None:
    """From 6.1 to 6.4 follow_page finds nothing in PROT_NONE, so that neither smaps nor move_pages does (474098edac26,
    d74943a2f3cd): not observable there. On the others a huge page stays one, and a page moves."""
    texts = (
        "page x huge 2\nA: mprotect x none\nexists huge A.x.0",
        "page x\nA: write x 1\nA: mprotect x none\nA: migrate x\nexists soft-dirty A.x",
        "page x zero\nA: mprotect x none\nexists not huge A.x",
    )
    tests = [replace(written(text), name=f"t{number}") for number, text in enumerate(texts)]
    [seen] = observing.observe(tests, [image])
    hidden = observing.kernel_for(seen[0].release) == "v6.1"
    expected = ["smaps counts no PMD", "move_pages does not find", None] if hidden else [None] * 3
    for found, reason in zip(seen, expected, strict=True):
        assert (found.outcome is None) == (reason is not None), found
        assert reason in found.reason if reason else found.outcome == Outcome(NOTHING, NOTHING, True)


@real_kernels
def test_the_writing_of_a_page_goes_on_until_it_is_told_to_end(image: Path) -> None:
    tests = [replace(written(LOST.format(more)), name=f"t{more.strip()}") for more in ("", " stable")]
    [[fast, stable]] = observing.observe(tests, [image])
    lost = observing.kernel_for(fast.release) == "debian-5.10"
    assert fast.outcome == Outcome(frozenset() if lost else frozenset({6}), NOTHING, lost)
    assert stable.outcome == Outcome(frozenset({5, 6}), NOTHING, False)


@real_kernels
def test_a_real_kernel_does_what_the_model_says(image: Path) -> None:
    """Every test of the suite that can be seen agrees; held against another kernel's rules, many do not."""
    tests = whole_suite()
    observed = list(observing.observe(tests, [image]))
    found = conform.conform(tests, observed)
    assert [each for each in found if each.status == DISAGREE] == []
    seen = sum(each.status == AGREE for each in found)
    assert seen > (380 if (image.parent / "gup_probe.ko").exists() else 150)
    other = "v6.12" if found[0].kernel == "debian-5.10" else "v5.9"
    assert sum(each.status == DISAGREE for each in conform.conform(tests, observed, other)) > 50
