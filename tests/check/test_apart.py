"""Runs with other questions in one folder: none takes or overwrites what another kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run, run_json

from proofs.check import scopes


def test_a_trace_is_not_written_over_one_of_another_scope(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("check", "-k", "v5.9", "-i", "write-bit", "--engine", "explore", "-o", tmp_path)
    ways = ((), ("--scope", "2,1,2,1,1"))
    kept: dict[str, str] = {}
    for way in ways:
        code, data = run_json(capsys, *asked, *way)
        [cell] = data["results"]
        assert (code, cell["verdict"]) == (1, "VIOLATED")
        assert cell["trace"] not in kept
        kept[cell["trace"]] = Path(cell["trace"]).read_text()
    assert list(kept) == [
        str(tmp_path / folder / "write-bit.trace.json")
        for folder in ("v5.9", "v5.9.scope-2,1,2,1,1")
    ]
    assert {path: Path(path).read_text() for path in kept} == kept
    # Asked again, each is told its own, and its scope is that of the file.
    for way, path in zip(ways, kept, strict=True):
        assert run_json(capsys, *asked, *way)[1]["results"][0]["trace"] == path
        assert run(capsys, "show", path)[0] == 0


@pytest.mark.parametrize(("sizes", "huge", "said"), [
    ((3, 1, 3, 1, 1), False, ".scope-3,1,3,1,1"), ((2, 1, 3, 1, 1, 2, 1), False, ".scope-2,1,3,1,1"),
    ((2, 1, 3, 1, 1, 2, 1), True, ".scope-2,1,3,1,1,2,1"),
])
def test_what_tells_traces_apart_is_in_their_folder_s_name(sizes: tuple[int, ...], huge: bool, said: str) -> None:
    assert scopes.apart(scopes.scope_of(*sizes), huge) == said
