"""Unified diffs, applied to the files that are read; nothing is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.logic import ModelError
from proofs.source.csource import FILES, Tree

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass
class _Hunk:
    line: int
    old: list[bytes] = field(default_factory=list)
    new: list[bytes] = field(default_factory=list)


def parsed(text: bytes, name: str) -> dict[str, list[_Hunk]]:
    """The hunks of a diff by file. Raises ModelError if it is none."""
    found: dict[str, list[_Hunk]] = {}
    file: str | None = None
    old_left = new_left = 0
    for number, line in enumerate(text.split(b"\n"), 1):
        if old_left > 0 or new_left > 0:
            mark, rest = (line[:1] or b" "), line[1:]
            hunk = found[file][-1] if file is not None else _Hunk(0)
            if mark == b"\\":
                continue
            if mark not in b" +-":
                raise ModelError(f"{name}:{number}: a line of a hunk begins with a space, + or -")
            if mark in b" -":
                hunk.old.append(rest)
                old_left -= 1
            if mark in b" +":
                hunk.new.append(rest)
                new_left -= 1
        elif line.startswith((b"--- ", b"+++ ")):
            path = line[4:].split(b"\t")[0].strip().decode("utf-8", "replace")
            if path != "/dev/null":
                file = path.partition("/")[2] if path.startswith(("a/", "b/")) else path
        elif (head := _HUNK.match(line)) is not None:
            if file is None:
                raise ModelError(f"{name}:{number}: a hunk of no file")
            old_left, new_left = (int(head[n]) if head[n] is not None else 1 for n in (2, 4))
            found.setdefault(file, []).append(_Hunk(int(head[1])))
    if not found:
        raise ModelError(f"{name} is no unified diff: it has no hunk")
    return found


def _place(lines: Sequence[bytes], hunk: _Hunk, near: int) -> int | None:
    """Where the hunk's old lines stand, nearest to that line; None if they are nowhere."""
    size = len(hunk.old)
    fits = [n for n in range(len(lines) - size + 1) if lines[n:n + size] == hunk.old]
    return min(fits, key=lambda n: abs(n - near), default=None)


def applied(tree: Tree, path: Path) -> Mapping[str, bytes]:
    """The texts of the files that the diff changes, as far as they are read, by name.

    Raises ModelError, in one line, if the diff cannot be read, does not apply, or changes no file that is read.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    made: dict[str, bytes] = {}
    for file, hunks in parsed(text, str(path)).items():
        if file not in FILES:
            continue
        old = tree.text(file)
        if old is None:
            raise ModelError(f"{path} does not apply: the tree has no {file}")
        lines, moved = old.split(b"\n"), 0
        for number, hunk in enumerate(hunks, 1):
            at = _place(lines, hunk, hunk.line - 1 + moved)
            if at is None:
                already = _place(lines, _Hunk(hunk.line, hunk.new), hunk.line - 1 + moved) is not None and hunk.new
                raise ModelError(f"{path} does not apply: {file}, hunk {number} at line {hunk.line}"
                                 + (" is there already" if already else " fits nowhere"))
            lines[at:at + len(hunk.old)] = hunk.new
            moved += len(hunk.new) - len(hunk.old)
        made[file] = b"\n".join(lines)
    if not made:
        raise ModelError(f"{path} changes no file that is read ({', '.join(FILES[:4])}, ...)")
    return made
