"""Mutated input of every kind is answered or refused in one line; tests/fuzz.py does it longer, by hand."""

from __future__ import annotations

from pathlib import Path

import fuzz
import pytest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    fuzz.prepared(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_no_input_is_an_internal_error(kind: str, made: Path) -> None:
    codes, failures = fuzz.fuzz(kind, 1, 300, 9, made)
    assert not failures
    assert codes.total() > 5
    assert codes[fuzz.USAGE]


@pytest.mark.slow
def test_what_is_not_mutated_is_taken(made: Path, tmp_path: Path) -> None:
    for kind, files in (("traces", "traces/**/*.trace.json"), ("certificates", "certificates/*/*.json")):
        folder = tmp_path / kind
        (folder / "certificates").mkdir(parents=True)
        (folder / "certificates" / "obligations").symlink_to(made / "obligations")
        for file in sorted(made.glob(files))[:3]:
            name = file.relative_to(made).as_posix()
            given = {name: file.read_text(encoding="utf-8")}
            assert fuzz.ended((["show", f"{{{name}}}"], given), folder, kind) == (0, "", ""), name
