"""Tables on a terminal: its width, and colours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from invariants import INVARIANTS
from model.kernels import KERNELS
from proofs.cli import app, progress, traces
from proofs.cli.main import main
from proofs.cli.tables import SHORT

HEADS = [["kernel"], *(i.name.split("-") for i in INVARIANTS)]
SHORTER = [[SHORT.get(word, word) for word in head] for head in HEADS]
ROWS = [[k.name, *["P 13"] * len(INVARIANTS)] for k in KERNELS]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(app, "on_terminal", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return monkeypatch


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    app.print_columns(HEADS, ROWS, SHORTER)
    return capsys.readouterr().out.splitlines()


def shown(lines: list[str]) -> list[str]:
    return [re.sub(r"\x1b\[\d+m", "", line) for line in lines]


@pytest.mark.parametrize(("width", "first", "parts"), [
    (160, "kernel            coherence", 1), (120, "kernel            coher", 1), (80, "kernel            coher", 2),
    (40, "kernel            coher", 5),
])
def test_a_table_fits_the_terminal(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, first: str, parts: int
) -> None:
    """The default table: with its names, with shorter ones, then in parts that each have the kernels."""
    terminal.setenv("COLUMNS", str(width))
    lines = shown(printed(capsys))
    assert max(map(len, lines)) <= width
    assert lines[0].startswith(first)
    assert sum(line.startswith("v5.19 ") for line in lines) == parts
    assert sum(line.count("P 13") for line in lines) == len(ROWS) * len(INVARIANTS)


def test_elsewhere_it_is_as_wide_as_it_is_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys)
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) > 120


@pytest.mark.parametrize("asked", [[], ["-k", "v7.2"]])
def test_a_list_fits_the_terminal_too(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    terminal.setenv("COLUMNS", "80")
    assert main(["list", *asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert f"{'':20}cache, so that only its entry's bit decides [from v6.18]" in lines


def test_a_line_is_broken_between_words_and_only_on_a_terminal(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.setenv("COLUMNS", "20")
    app.print_prose("write-protection of pinned pages", "  ")
    assert capsys.readouterr().out == "write-protection of\n  pinned pages\n"
    terminal.setattr(app, "on_terminal", lambda: False)
    app.print_prose("write-protection of pinned pages", "  ")
    assert capsys.readouterr().out == "write-protection of pinned pages\n"


@pytest.mark.parametrize("width", [50, 80, 120, 200])
def test_a_trace_is_shown_as_wide_as_the_terminal(
    terminal: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    """No wider than the terminal, nor narrower than can be read, and elsewhere as it always is."""
    (test := tmp_path / "t.litmus").write_text("litmus t\n" + ("page x\n" "A: write x 1\nA: r = pin x write\n"
                                               "A: fork C\nA: munmap x\nC: write x 2\nexists C.x == 2\n"))
    assert main(["litmus", str(test), "-k", "v5.9", "-o", str(tmp_path)]) == 0
    trace = tmp_path / "litmus" / "t.v5.9.trace.json"
    terminal.setattr(traces, "on_terminal", lambda: True)
    terminal.setenv("COLUMNS", str(width))
    capsys.readouterr()
    assert main(["show", str(trace)]) == 0
    lines = capsys.readouterr().out.splitlines()
    longest = max(map(len, lines))
    assert longest == max(width, 60)
    assert any(line.endswith(" - A: no VMA") for line in lines)
    assert not any(re.search(r"\b[RW]\.[RW]\b| x A: no VMA", line) for line in lines)
    terminal.setattr(traces, "on_terminal", lambda: False)
    assert main(["show", str(trace)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) == 100


@pytest.mark.parametrize(("text", "colour"), [
    ("V 4", 31), ("Broken", 31), ("Broken (vacuous)", 31), ("P 13", 32), ("Holds", 32), ("E", 36), ("B 9", 33),
    ("?", 33), ("Allowed", None), ("Forbidden", None), ("n/a", None), ("Eight", None),
])
def test_verdicts_have_colours_where_one_is_better_than_the_other(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, colour: int | None
) -> None:
    app.print_columns([["kernel"], ["a"], ["b"]], [["v5.9", text, text]])
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.count("\x1b[0m") == (0 if colour is None else 2)
    assert colour is None or f"\x1b[{colour}m{text}\x1b[0m" in line
    terminal.setenv("NO_COLOR", "1")
    app.print_columns([["kernel"], ["a"]], [["v5.9", text]])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(("every", "lines"), [(0.0, ["checking: 1 of 3 done", "proving: 2 of 3 done"]), (3600.0, [])])
def test_long_work_says_how_far_it_has_come_where_no_terminal_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], every: float, lines: list[str]
) -> None:
    """A log gets a line now and then, none of what is soon done, and none at the end."""
    monkeypatch.setattr(progress, "EVERY", every)
    with progress.progress_bar() as bar:
        task = bar.add_task("checking", total=3)
        bar.advance(task)
        bar.update(task, description="proving", completed=2)
        bar.advance(task)
    told = capsys.readouterr()
    assert told.err.splitlines() == [f"proofs: {line}" for line in lines]
    assert not told.out
