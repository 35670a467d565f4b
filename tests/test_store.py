"""What one run keeps for the next: found again under its key, and otherwise not believed."""

from __future__ import annotations

import concurrent.futures
import json
import os
from pathlib import Path

import pytest

from proofs import store

CONTENT = [{"verdict": "PROVED", "clauses": 5}, {"verdict": "VIOLATED", "steps": [["fork", [["p", 0]]]]}]


def test_what_was_kept_is_found_under_its_key_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    store.keep(path, "key", CONTENT)
    assert store.kept(path, "key") == CONTENT
    with pytest.raises(ValueError, match="something else"):
        store.kept(path, "other")


def test_numbers_as_keys_are_found_as_json_has_them(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    store.keep(path, "key", {10: 1, 9: (2, 3)})
    assert store.kept(path, "key") == {"10": 1, "9": [2, 3]}


def test_what_somebody_changed_is_not_found(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    store.keep(path, "key", CONTENT)
    changed = json.loads(path.read_text())
    changed["content"][0]["clauses"] = 4
    path.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="was changed"):
        store.kept(path, "key")


def test_a_file_cut_short_is_not_found(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    store.keep(path, "key", CONTENT)
    for length in (0, 1, len(path.read_text()) // 2, len(path.read_text()) - 1):
        store.keep(path, "key", CONTENT)
        path.write_text(path.read_text()[:length])
        with pytest.raises(json.JSONDecodeError):
            store.kept(path, "key")


def test_what_was_there_stays_whole_where_nothing_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    store.keep(path, "key", CONTENT)
    (tmp_path / f"a.json.{os.getpid()}.part").mkdir()
    with pytest.raises(OSError, match="cannot keep"):
        store.keep(path, "key", [])
    assert store.kept(path, "key") == CONTENT


def _keep_often(path: Path) -> None:
    for number in range(300):
        store.keep(path, "key", [number] * 1000)


def test_processes_that_keep_the_same_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """They wrote one half-made file, which the first to be ready took away from the others."""
    path = tmp_path / "a.json"
    store.keep(path, "key", [])
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        both = [pool.submit(_keep_often, path) for _ in range(2)]
        while not all(each.done() for each in both):
            store.kept(path, "key")
        assert [each.result() for each in both] == [None, None]
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
