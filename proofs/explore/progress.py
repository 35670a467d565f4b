"""How far an exploration is, how large it will become, and keeping it on disk so that it can go on later."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from proofs import store

FITTED = 5
"""Ratios of neighbouring levels that an estimate looks at."""


@dataclass(frozen=True)
class Progress:
    """How far an exploration is.

    `levels`: states of the levels begun; `states` found, `expanded` of them; `seconds` that took. `memory`: bytes
    in use; `expected`: states in all, None if it is too early to say; bytes that those `need`, and that are `allowed`.
    """

    levels: tuple[int, ...]
    states: int
    expanded: int
    seconds: float
    memory: int
    expected: int | None = None
    need: int | None = None
    allowed: int | None = None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all expected states are expanded, at the pace so far."""
        if self.expected is None or not self.expanded:
            return None
        return max(0, self.expected - self.expanded) * self.seconds / self.expanded

    def __str__(self) -> str:
        found = f"{self.states / 1e6:.1f}"
        if self.expected is None or self.seconds_left is None or self.need is None:
            return f"{found} M states, {in_bytes(self.memory)}"
        line = f"{found} of ~{self.expected / 1e6:.2g} M states, "
        line += f"~{_time(self.seconds_left)} left, ~{in_bytes(self.need)}"
        if self.allowed is not None and self.need > self.allowed:
            line += f": more than the {in_bytes(self.allowed)} of --memory"
        return line


def expected_states(levels: Sequence[int]) -> int | None:
    """How many states there will be, from the sizes of the levels found whole; None if it is too early to say.

    The logarithm of the ratio of a level to the one before falls about along a line. Of our models a fiftieth of the
    states gives the whole within a factor of three, mostly too low, and a third of them within a quarter.
    """
    ratios = [math.log(after / before) for before, after in itertools.pairwise(levels)][-FITTED:]
    if len(ratios) < FITTED:
        return None
    middle = (FITTED - 1) / 2
    spread = sum((i - middle) ** 2 for i in range(FITTED))
    mean = sum(ratios) / FITTED
    slope = sum((i - middle) * (r - mean) for i, r in enumerate(ratios)) / spread
    if slope >= -0.005:
        return None
    total, level, place = float(sum(levels)), float(levels[-1]), FITTED
    while level >= 1:
        level *= math.exp(mean + slope * (place - middle))
        total += level
        place += 1
    return round(total)


def round_number(number: int) -> int:
    """To two digits: an estimate claims no more."""
    return int(float(f"{number:.1e}"))


def in_bytes(number: int) -> str:
    """An amount of memory as people read it."""
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MiB"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes > 9 else f"{minutes} min {rest} s" if minutes else f"{rest} s"


@dataclass(frozen=True)
class Standing:
    """Where an exploration stands, besides the states found, which are in the order of their levels.

    `expanded`: so many of them, the first ones, have been. `broken`: claim's number to the level of its first
    violation; `first`: its packed state by words, or ones. `fired`: by rule instance; `seen`: by claim.
    """

    states: int
    levels: list[int]
    expanded: int
    broken: dict[int, int]
    first: list[list[int]]
    fired: list[int]
    seen: list[int]
    seconds: float
    digest: str = ""
    """Hash of the states' bytes; a checkpoint fills it in."""


class Checkpoint:
    """An unfinished exploration in a folder: a file of states, which only grows, and a small one that says how many of
    them count and where it stands.

    `text`: whatever the exploration depends on; another text is another checkpoint, whatever its files are called.
    `every`: seconds between two.
    """

    def __init__(self, folder: Path, text: str, words: int, every: float = 60.0) -> None:
        self._of = hashlib.sha256(text.encode()).hexdigest()
        name = self._of[:24]
        self.folder = folder
        self.every = every
        self.words = words
        self._states = folder / f"{name}.states"
        self._standing = folder / f"{name}.json"
        self._kept = 0
        self._digest = hashlib.sha256()

    def load(self) -> tuple[np.ndarray[Any, Any], Standing] | None:
        """The states, one row of words each, and where it stands; None if nothing was kept that can be read and says
        that it is of this."""
        try:
            row = store.kept(self._standing, self._of)
            standing = Standing(**{**row, "broken": {int(k): v for k, v in row["broken"].items()}})
            states = np.fromfile(self._states, "<u8", standing.states * self.words).reshape(-1, self.words)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        digest = hashlib.sha256(states.tobytes())
        if len(states) < standing.states or digest.hexdigest() != standing.digest:
            return None
        self._kept, self._digest = standing.states, digest
        return states, standing

    def save(self, queue: np.ndarray[Any, Any], standing: Standing) -> None:
        """Keep it. `queue`: word w of state n is queue[w, n]. Raises OSError if it cannot be written."""
        pieces = range(self._kept, standing.states, 1 << 22)
        self.append((queue[:, a : min(standing.states, a + (1 << 22))].T for a in pieces), standing)

    def append(self, pieces: Iterable[np.ndarray[Any, Any]], standing: Standing) -> None:
        """Keep it, given only the states that were not kept before, one row of words each. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._states.open("r+b" if self._kept else "wb") as file:
            file.truncate(8 * self.words * self._kept)
            file.seek(0, os.SEEK_END)
            for piece in pieces:
                written = np.ascontiguousarray(piece, "<u8").tobytes()
                file.write(written)
                self._digest.update(written)
            file.flush()
            os.fsync(file.fileno())
        store.keep(self._standing, self._of, asdict(replace(standing, digest=self._digest.hexdigest())))
        self._kept = standing.states

    def discard(self) -> None:
        """It is finished."""
        self._standing.unlink(missing_ok=True)
        self._states.unlink(missing_ok=True)
        self._kept, self._digest = 0, hashlib.sha256()
