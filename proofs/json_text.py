"""JSON that somebody else may have written, or cut short."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

DEEPEST = 100
"""So deep may brackets be nested: Python's reader, and whatever walks what it reads, calls itself for each."""


def parsed(text: str | bytes) -> Any:
    """What the text says. Raises ValueError."""
    text = text if isinstance(text, str) else text.decode()
    brackets = (found for found in re.findall(r'"(?:[^"\\]|\\.)*"|[][{}]', text) if found[0] != '"')
    if max(itertools.accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0) > DEEPEST:
        raise ValueError(f"brackets are nested more than {DEEPEST} deep")
    return json.loads(text)


def read(path: Path) -> Any:
    """What the file says. Raises OSError, ValueError."""
    return parsed(path.read_text(encoding="utf-8"))
