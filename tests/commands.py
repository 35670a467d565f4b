"""The command line, run in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proofs.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code, and what was printed on standard output and standard error."""
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    """The exit code, and the object that --json prints."""
    code, out, _ = run(capsys, *arguments, "--json")
    return code, json.loads(out)
