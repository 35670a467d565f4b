"""What one run keeps for the next: a file that says what it is of, is whole or not there, not believed if changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from proofs import json_text


def user_cache() -> Path:
    """The folder for what is kept for all runs of a user: XDG_CACHE_HOME, else ~/.cache. It may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cow-proofs"


def keep(path: Path, key: str, content: Any) -> None:
    """Write what is to be found there under that key, all of it or nothing. Raises OSError."""
    write(path, json.dumps({"of": key, "content": content, "digest": _digest(key, content)}))


def write(path: Path, text: str) -> None:
    """Make it a file with that text; what was there stays if that cannot be written to its end. Raises OSError.

    Several processes may write the same file at once.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise OSError(error.errno, error.strerror, f"cannot keep {path}") from error


def kept(path: Path, key: str) -> Any:
    """What was kept there under that key. Raises OSError, ValueError, KeyError or TypeError if nothing readable was."""
    found = json_text.read(path)
    if found["of"] != key or found["digest"] != _digest(key, found["content"]):
        raise ValueError(f"{path} is of something else, or was changed")
    return found["content"]


def _digest(key: str, content: Any) -> str:
    # In the order it has: numbers that are keys are texts when they are read, which sort otherwise.
    return hashlib.sha256(json.dumps([key, content]).encode()).hexdigest()
