"""Unified diffs, applied to the files that are read; nothing is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.logic import ModelError
from proofs.source.csource import FILES, Tree

_HUNK = re.compile(rb"^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_NOTHING = "/dev/null"
_SEPARATES = (b"--- ", b"+++ ", b"-- ")
"""What may follow a hunk and begins as a line of one: the next file, or the signature of a mail."""


@dataclass
class _Hunk:
    """Lines that stand for others, the first of which is at `line`, counted from 1."""

    line: int
    old: list[bytes] = field(default_factory=list)
    new: list[bytes] = field(default_factory=list)


@dataclass
class _Change:
    """What a diff does to one file: `made` or `gone` as a whole, and hunks."""

    made: bool = False
    gone: bool = False
    hunks: list[_Hunk] = field(default_factory=list)


def _file(line: bytes) -> str:
    """The file of a `---` or `+++` line, as the tree has it: without quotes, date, and the first folder of `diff`'s."""
    path = line[4:].split(b"\t")[0].strip().strip(b'"').decode("utf-8", "replace")
    inner = path.partition("/")[2]
    return inner if inner in FILES or (path not in (*FILES, _NOTHING) and path[:2] in ("a/", "b/")) else path


class _Parser:
    """Reads a diff line by line."""

    def __init__(self, name: str) -> None:
        self.name, self.number = name, 0
        self.found: dict[str, _Change] = {}
        self.old, self.file = _NOTHING, ""
        self.hunk: _Hunk | None = None
        self.left = [0, 0]

    def wrong(self, what: str) -> ModelError:
        return ModelError(f"{self.name}:{self.number}: {what}")

    def read(self, text: bytes) -> dict[str, _Change]:
        for self.number, line in enumerate(text.split(b"\n"), 1):
            if any(self.left):
                self.within(line)
            else:
                self.between(line)
        if any(self.left):
            raise self.wrong("the diff ends within a hunk: it is cut short")
        if not any(change.hunks for change in self.found.values()):
            raise ModelError(f"{self.name} is no unified diff: it has no hunk")
        return self.found

    def within(self, line: bytes) -> None:
        """A line of a hunk."""
        mark, rest = (line[:1] or b" "), line[1:]
        if mark == b"\\":
            return
        sides = {b" ": (0, 1), b"-": (0,), b"+": (1,)}.get(mark)
        if sides is None:
            raise self.wrong("a line of a hunk begins with a space, + or -")
        assert self.hunk is not None
        for side in sides:
            (self.hunk.old, self.hunk.new)[side].append(rest)
            self.left[side] -= 1
        if min(self.left) < 0:
            raise self.wrong("the hunk has other lines than its head says")

    def between(self, line: bytes) -> None:
        """A line of no hunk: what it is about, or words."""
        if line.startswith(b"--- "):
            self.old, self.file = _file(line), ""
        elif line.startswith(b"+++ "):
            self.begin(_file(line))
        elif line.startswith(b"rename from "):
            self.renamed(_file(b"--- " + line[12:]))
        elif (head := _HUNK.match(line)) is not None:
            if not self.file:
                raise self.wrong("a hunk of no file")
            self.left = [int(head[n]) if head[n] is not None else 1 for n in (2, 4)]
            # What takes nothing away stands after the line that it names.
            self.hunk = _Hunk(int(head[1]) + (not self.left[0]))
            self.found[self.file].hunks.append(self.hunk)
            return
        elif line.startswith((b"@@ -", b"@@@")):
            raise self.wrong("the head of a hunk is `@@ -LINE,LINES +LINE,LINES @@`")
        elif self.hunk is not None and line[:1] in (b"+", b"-") and not line.startswith(_SEPARATES) and line != b"--":
            raise self.wrong("the hunk has more lines than its head says")
        if not line.startswith(b"\\"):
            self.hunk = None

    def begin(self, new: str) -> None:
        """The changes of a file, which may have been changed before."""
        if _NOTHING not in (self.old, new) and self.old != new:
            self.renamed(self.old)
        self.file = self.old if new == _NOTHING else new
        change = self.found.setdefault(self.file, _Change())
        change.made, change.gone = change.made or self.old == _NOTHING, new == _NOTHING

    def renamed(self, file: str) -> None:
        if file in FILES:
            raise self.wrong(f"it renames {file}, which is read under that name only")


def _changes(path: Path) -> dict[str, _Change]:
    """What a diff changes, by file. Raises ModelError if it cannot be read, or is none."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    return _Parser(str(path)).read(text)


def left_alone(path: Path) -> list[str]:
    """The files that a diff changes and that nothing is read of. Raises ModelError as `applied`."""
    return [file for file in _changes(path) if file not in FILES]


def _place(lines: Sequence[bytes], hunk: _Hunk, near: int) -> int | None:
    """Where the hunk's old lines stand, nearest to that line; None if they are nowhere."""
    size = len(hunk.old)
    fits = [n for n in range(len(lines) - size + 1) if lines[n:n + size] == hunk.old]
    return min(fits, key=lambda n: abs(n - near), default=None)


def applied(tree: Tree, path: Path) -> Mapping[str, bytes | None]:
    """The texts of the files that the diff changes, as far as they are read, by name; None for one that is gone then.

    Raises ModelError, in one line, if the diff cannot be read, does not apply, or changes no file that is read.
    """
    found = {file: change for file, change in _changes(path).items() if file in FILES}
    made = {file: _applied(tree.text(file), change, file, path) for file, change in found.items()}
    if not made:
        raise ModelError(f"{path} changes no file that is read ({', '.join(FILES[:4])}, ...)")
    return made


def _applied(old: bytes | None, change: _Change, file: str, path: Path) -> bytes | None:
    if old is None and not change.made:
        raise ModelError(f"{path} does not apply: the tree has no {file}")
    if old is not None and change.made:
        raise ModelError(f"{path} does not apply: the tree has a {file} already")
    lines, moved = (old or b"").split(b"\n"), 0
    for number, hunk in enumerate(change.hunks, 1):
        at = _place(lines, hunk, hunk.line - 1 + moved)
        if at is None:
            already = _place(lines, _Hunk(hunk.line, hunk.new), hunk.line - 1 + moved) is not None and hunk.new
            raise ModelError(f"{path} does not apply: {file}, hunk {number} at line {hunk.line}"
                             + (" is there already" if already else " fits nowhere"))
        lines[at:at + len(hunk.old)] = hunk.new
        moved += len(hunk.new) - len(hunk.old)
    text = b"\n".join(lines)
    if change.gone and text:
        raise ModelError(f"{path} does not apply: it takes {file} away, of which something is left")
    return None if change.gone else text
