"""The help: every command is told with calls of it that parse, and exit codes stand in one place."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from commands import run
from places import ROOT

from proofs import errors
from proofs.cli.app import app
from proofs.cli.examples import EXAMPLES
from proofs.cli.main import GROUPS, load
from proofs.errors import EXIT_CODES


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its name, as one types it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


load([])
COMMANDS = dict(commands(typer.main.get_command(app)))


def test_each_command_is_in_the_file_that_is_loaded_for_it() -> None:
    words = [(group, command) for group, of in GROUPS.items() for command in of]
    found = {name.partition(" ")[0]: command.callback.__module__ for name, command in COMMANDS.items()}
    assert found == {command: f"proofs.cli.{group}" for group, command in words}


def test_the_help_has_the_same_order_whatever_was_loaded_first() -> None:
    script = "from proofs.cli.main import main; main(['list', '--help']); print('====', flush=True); main(['--help'])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    listed = re.findall(r"^  ([a-z-]+)  ", told.stdout.partition("====")[2].partition("Commands")[2], re.M)
    assert listed == [command for of in GROUPS.values() for command in of]


def test_every_command_has_examples() -> None:
    assert COMMANDS.keys() == EXAMPLES.keys()
    assert all(1 <= len(calls) <= 3 for calls in EXAMPLES.values())


@pytest.mark.parametrize(("command", "call"), [(name, call) for name, calls in EXAMPLES.items() for call in calls])
def test_an_example_is_a_call_that_parses(command: str, call: str) -> None:
    words = shlex.split(call)
    assert " ".join(words[:len(command.split())]) == command
    COMMANDS[command].make_context(command, words[len(command.split()):])
    assert len(f"    python -m proofs {call}") <= 78


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_help_ends_with_them_and_with_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *command.split(), "--help")
    assert code == 0
    assert all(f"\n    python -m proofs {call}\n" in out for call in EXAMPLES[command])
    assert " ".join(out.split()).endswith(" ".join(EXIT_CODES.split()))


def test_the_exit_codes_stand_in_one_place() -> None:
    """The README says what each means, for all commands."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Exit codes\n")[2]
    codes = (errors.OK, errors.VIOLATION, errors.USAGE, errors.INCONCLUSIVE, errors.DISAGREEMENT, errors.INTERNAL)
    for code in codes:
        assert re.search(rf"^\| {code} \|", section, re.M), code
