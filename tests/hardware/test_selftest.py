"""Litmus tests as a kernel selftest: proofs/hardware/selftest.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from real_kernels import real_kernels

from model.logic import ModelError
from proofs.cli.main import main
from proofs.data import SUITE
from proofs.errors import NotObservable
from proofs.hardware import reproducer, selftest, vm
from proofs.litmus import matrix, parser
from proofs.litmus.execution import Outcome

needs_make = pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("make") is None, reason="no C compiler (Debian packages gcc, make)"
)
NOTHING: frozenset[int] = frozenset()
KEPT = "A: write x 1\nexists A.x == 1"


def made(*texts: str, expected: tuple[bool, ...]) -> selftest.Selftest:
    """A selftest of tests t0, t1, ..., the conditions of which are to be so."""
    tests = [parser.parse(f"litmus t{n}\npage x\n{text}", "t.litmus") for n, text in enumerate(texts)]
    outcomes = {
        test.name: [Outcome(NOTHING, NOTHING, condition)] for test, condition in zip(tests, expected, strict=True)
    }
    return selftest.selftest(tests, "v7.2", outcomes, "0")


def written(folder: Path, it: selftest.Selftest) -> Path:
    folder.mkdir()
    for name, text in it.files.items():
        (folder / name).write_text(text)
    return folder


def ktap(folder: Path) -> tuple[int, list[str]]:
    """The exit status of the program and its lines but for comments, once `make` has built it."""
    subprocess.run(["make", "-C", str(folder), "CFLAGS+=-Werror"], check=True, capture_output=True)
    done = subprocess.run([folder / selftest.PROGRAM], capture_output=True, text=True, check=False)
    return done.returncode, [line for line in done.stdout.splitlines() if not line.startswith("#")]


@needs_make
def test_each_test_has_a_line_of_ktap(tmp_path: Path) -> None:
    both = made(KEPT, "A: write x 1\nexists A.x == 2", expected=(True, False))
    assert ktap(written(tmp_path / "both", both)) == (0, ["TAP version 13", "1..2", "ok 1 t0", "ok 2 t1"])


@needs_make
def test_one_that_ends_otherwise_fails(tmp_path: Path) -> None:
    both = made(KEPT, KEPT, expected=(True, False))
    assert ktap(written(tmp_path / "both", both)) == (1, ["TAP version 13", "1..2", "ok 1 t0", "not ok 2 t1"])


@needs_make
def test_one_that_cannot_be_done_here_is_skipped_with_the_reason(tmp_path: Path) -> None:
    """Where /dev/gup_probe is, it is done; nobody has it but a virtual machine of ours."""
    it = made("A: write x 1\nA: r = get x write\nexists A.x is r", expected=(True,))
    code, lines = ktap(written(tmp_path / "probe", it))
    assert code == 4
    assert re.fullmatch(r"ok 1 t0 # SKIP .*gup_probe.*", lines[2])


@needs_make
def test_in_a_kernel_tree_it_is_built_as_lib_mk_says(tmp_path: Path) -> None:
    (tmp_path / "lib.mk").write_text("all:\n\t@echo lib.mk builds $(TEST_GEN_PROGS)\n")
    folder = written(tmp_path / "cow", made(KEPT, expected=(True,)))
    said = subprocess.run(["make", "-s", "-C", str(folder)], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["lib.mk builds cow_pins"]
    assert not (folder / selftest.PROGRAM).exists()


def test_options_are_named_with_the_tests_that_need_them() -> None:
    it = made("A: write x 1\n*: pageout x\nexists A.x == 1", KEPT, expected=(True, True))
    config = it.files["config"].splitlines()
    assert config[config.index("CONFIG_SWAP=y") - 1] == "# for 1: t0"
    assert it.files["settings"] == "timeout=45\n"


def test_every_option_stands_for_a_section_that_tests_of_the_suite_use() -> None:
    used: set[str] = set()
    for row in matrix.read_suite().rows:
        with suppress(NotObservable):
            used |= set(reproducer.sections_of(parser.parse(row.text, row.name)))
    assert set(selftest.OPTIONS) <= used


def test_the_header_says_what_is_expected_and_what_is_left_out() -> None:
    it = made(KEPT, "A: write x 1 || A: read x\nexists A.x == 1", expected=(True, True))
    head = it.files["cow_pins.c"].partition("*/")[0]
    assert " * t0: condition true\n" in head
    assert " * Not in here:\n * t1: operations at the same time" in head
    assert it.tests == 1
    assert max(map(len, head.splitlines())) <= 80


def test_nothing_is_written_of_tests_that_no_program_can_do() -> None:
    with pytest.raises(ModelError, match="t0: operations at the same time"):
        made("A: write x 1 || A: read x\nexists A.x == 1", expected=(True,))


def test_it_expects_what_the_kernel_of_the_model_does(tmp_path: Path) -> None:
    """F8: a page that is pinned and protected for a while is copied at the next write from 5.9 on, up to 5.18."""
    for kernel, condition in (("v5.9", "true"), ("v6.1", "false")):
        folder = tmp_path / kernel
        assert main(["selftest", "-k", kernel, "-o", str(folder), str(SUITE / "F8-mprotect-pin.litmus")]) == 0
        assert f" * F8-mprotect-pin: condition {condition}\n" in (folder / "cow_pins.c").read_text()


@real_kernels
def test_on_a_real_kernel_nothing_fails(image: Path, tmp_path: Path) -> None:
    tests = [str(path) for path in sorted(SUITE.glob("F[358]*.litmus"))]
    machine = vm.find(image)
    assert main(["selftest", "-k", machine.release, "-o", str(tmp_path / "cow"), *tests]) == 0
    with vm.compiled((tmp_path / "cow" / "cow_pins.c").read_text(), "cow_pins") as program:
        done = vm.boot(machine, program, ["--allow-host-settings"], seconds=300)
    results = [line for line in done.lines if re.match(r"(not )?ok ", line)]
    assert len(results) >= 10
    assert [line for line in results if line.startswith("not ok")] == []
    assert sum("# SKIP" not in line for line in results) >= 8
