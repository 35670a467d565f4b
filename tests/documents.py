"""Documents whose outputs are those of the commands: reading their blocks, running them, writing them anew.

In a document, `<!-- run -->` stands before a fenced block of commands, each a line that begins with `$ `, and what they
print; `<!-- run 12 -->` shows that many lines of it and an ellipsis. `<!-- file NAME -->` stands before a block that is
the text of a file the commands use. `python tests/documents.py docs/tutorial.md` writes the outputs anew.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
import sys
import tempfile
import unittest.mock
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proofs.cli import progress
from proofs.cli.main import main

_BLOCK = re.compile(r"^<!-- (?P<mark>[^\n]*?) -->\n+```(?P<language>\w*)\n(?P<text>.*?)^```$", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """A marked block: the words of its mark, its text, and where in the document that is."""

    mark: tuple[str, ...]
    text: str
    begin: int
    end: int


def blocks(document: str, word: str) -> list[Block]:
    """The blocks whose mark begins with the word."""
    found = (Block(tuple(m["mark"].split()), m["text"], *m.span("text")) for m in _BLOCK.finditer(document))
    return [block for block in found if block.mark[0] == word]


def block(document: str, word: str) -> str:
    """The text of the only block with that mark."""
    (one,) = blocks(document, word)
    return one.text


def performed(document: str, folder: Path) -> str:
    """The document with every file written and every command run in the folder, one after the other, anew."""
    made, done = "", 0
    for each in sorted((*blocks(document, "file"), *blocks(document, "run")), key=lambda b: b.begin):
        if each.mark[0] == "file":
            (folder / each.mark[1]).write_text(each.text, encoding="utf-8")
            continue
        made += document[done:each.begin] + _answered(each, folder)
        done = each.end
    return made + document[done:]


def _answered(each: Block, folder: Path) -> str:
    most = int(each.mark[1]) if len(each.mark) > 1 else None
    answers = []
    for command in re.findall(r"^\$ (.*)$", each.text, re.M):
        lines = _output(command, folder).splitlines()
        if most is not None and len(lines) > most:
            lines = [*lines[:most], "..."]
        answers.append("\n".join([f"$ {command}", *lines]) + "\n")
    return "\n".join(answers)


def _output(command: str, folder: Path) -> str:
    """What `python -m proofs ...` prints there, errors too."""
    words = shlex.split(command)
    if words[:3] != ["python", "-m", "proofs"]:
        raise ValueError(f"only this program is run, not {command}")
    out = io.StringIO()
    # How far it has come depends on the machine.
    silent = unittest.mock.patch.object(progress, "EVERY", math.inf)
    with silent, _inside(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        main(words[3:])
    return out.getvalue()


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(name)
            path.write_text(performed(path.read_text(encoding="utf-8"), Path(temporary)), encoding="utf-8")
