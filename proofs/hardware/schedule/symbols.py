"""Functions of a kernel image by name and by address: /proc/kallsyms, as the kernel itself says it in one boot.

The machine's kernels are not relocated (`nokaslr`), so that what one boot says is so in the next; it is kept in the
user's cache, named by the image's hash.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from proofs import store
from proofs.errors import NotObservable
from proofs.hardware import vmlinuz as image

_USER = 1 << 47
_TEXT = frozenset("tTwW")
_PART = re.compile(r"\.(cold|part)\b")  # of a function, not its beginning


class Symbols:
    """Text symbols of a kernel. `pairs`: address and name of each."""

    def __init__(self, pairs: Iterable[tuple[int, str]]) -> None:
        ordered = sorted(pairs)
        self._end = next((address for address, name in ordered if name == "_etext"), _USER << 17)
        self.addresses = [address for address, _ in ordered]
        self.names = [name for _, name in ordered]
        self._by_name = {name: address for address, name in reversed(ordered)}
        for address, name in ordered:
            if not _PART.search(name):
                self._by_name.setdefault(name.split(".")[0], address)  # without what the compiler added, as .isra.0

    def first(self, *names: str) -> int:
        """The address of the first of these functions that there is. Raises NotObservable if there is none."""
        for name in names:
            if name in self._by_name:
                return self._by_name[name]
        raise NotObservable(f"the kernel has no symbol {' or '.join(names)}")

    def name_at(self, address: int) -> str:
        """The function in which that address is; `user` in user space."""
        if address < _USER:
            return "user"
        at = bisect.bisect_right(self.addresses, address) - 1
        return self.names[at] if at >= 0 else hex(address)

    def function_at(self, address: int) -> str:
        """As `name_at`, without what the compiler added."""
        return self.name_at(address).split(".")[0]

    def returns(self, words: Iterable[int]) -> Iterator[tuple[int, str]]:
        """Those words of a stack that can be return addresses, the innermost first, and in which functions they lie."""
        for word in words:
            at = bisect.bisect_right(self.addresses, word) - 1
            if at >= 0 and word < self._end and word != self.addresses[at]:
                yield word, self.names[at]


def parsed(text: str) -> list[tuple[int, str]]:
    """Address and name of the text symbols in /proc/kallsyms, modules left out. Raises NotObservable without any."""
    pairs = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in _TEXT and (address := int(words[0], 16)) >= _USER:
            pairs.append((address, words[2]))
    if not pairs:
        raise NotObservable("the kernel does not say its symbols (/proc/kallsyms)")
    return pairs


def _place(vmlinuz: Path, folder: Path) -> tuple[Path, str]:
    key = hashlib.sha256(image.contents(vmlinuz)).hexdigest()
    return folder / f"symbols-{key[:16]}.json", key


def kept(vmlinuz: Path, folder: Path) -> Symbols | None:
    """What an earlier boot of that image said, if it is there and whole."""
    path, key = _place(vmlinuz, folder)
    try:
        return Symbols((int(address), str(name)) for address, name in store.kept(path, key))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(vmlinuz: Path, folder: Path, pairs: list[tuple[int, str]]) -> None:
    """Keep it for the next time; where there is no room, it is asked again."""
    path, key = _place(vmlinuz, folder)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        store.keep(path, key, pairs)
