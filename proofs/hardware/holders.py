"""What holds a reference in the programs made of litmus tests."""

from __future__ import annotations

from proofs.litmus.language import Statement


def held_by(statement: Statement, movable: bool) -> str:
    """What holds the reference that this statement takes: `pipe`, `ring` (for long: not short where it is `movable`) or
    `probe`."""
    word, flags = statement.operation.word, statement.operation.flags
    if "force" in flags:
        return "probe"
    if "write" not in flags:
        return "pipe" if word in ("vmsplice", "get") else "probe"
    return "ring" if word == "pin" and ("longterm" in flags or not movable) else "probe"
