"""Users' files as modules: each is executed once for each state of its text, with the modules that lie beside it.

Two files that import a `helper` each get their own: what a file imports, and no library is, belongs to it alone. While
it is read, or imports something later on, those modules stand in `sys.modules`; otherwise they do not.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from model.blame import blamed, is_ours
from model.logic import ModelError

LOG = "COW_PROOFS_READ"
"""The environment variable that names a file in which every process notes what it reads of users' files."""
LIBRARIES = {"site-packages", "dist-packages"}
"""Folders of libraries: what lies there is one for all, be it ours or not."""
Stamp = tuple[int, int]
"""The time of a file's last change, and its size."""

_serial = count(1)
_known: dict[Path, UserFile] = {}
_being_read: list[UserFile] = []
_active: list[UserFile] = []
_lock = threading.RLock()


class Enough(BaseException):
    """What a file is read for has been made: the rest of it is what it does when it is run."""


def stamp(path: Path) -> Stamp | None:
    """None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def begin() -> None:
    """Say that a check begins. If that is a line of a user's file that is only read, reading it ends there."""
    if _being_read:
        raise Enough


def loaded(path: Path) -> UserFile:
    """The file, executed anew if it or a module of its own has changed. Raises ModelError, with the line."""
    whole = Path(os.path.abspath(path))
    with _lock:
        known = _known.get(whole)
        if known is None or not known.unchanged():
            if not path.exists():
                raise ModelError(f"no file {path}")
            if not path.is_file():
                raise ModelError(f"{path} is no file")
            known = UserFile(whole)
            known.execute(str(path))
            _known[whole] = known
    return known


class UserFile:
    """One user's file. `serial`: another number for each time that it is executed. `read`: the files that were."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.serial = next(_serial)
        self.read: dict[Path, Stamp | None] = {}
        self._folders = [str(path.parent)]
        self._modules: dict[str, ModuleType] = {}
        self._finder = _Finder(self)
        self.builtins = {**vars(builtins), "__import__": self._import}

    def unchanged(self) -> bool:
        """Its text and that of its modules is what was read."""
        return all(stamp(path) == then for path, then in self.read.items())

    def digest(self) -> str:
        """Hash of its text and that of its modules."""
        texts = hashlib.sha256()
        for path in sorted(path for path, then in self.read.items() if then is not None):
            texts.update(hashlib.sha256(path.read_bytes()).digest())
        return texts.hexdigest()

    def execute(self, shown: str) -> None:
        """Make the module. `shown`: how messages name the file. Raises ModelError."""
        # A name of its own: two files may be called alike, and what a class is of is looked up by it.
        name = f"kernel_file_{self.path.stem}_{hashlib.sha256(str(self.path).encode()).hexdigest()[:12]}"
        spec = spec_from_file_location(name, self.path, loader=_Loader(name, str(self.path), self))
        assert spec is not None
        assert spec.loader is not None
        self.module = sys.modules[name] = module_from_spec(spec)
        importlib.invalidate_caches()
        _being_read.append(self)
        try:
            with self._beside(), blamed("", shown), contextlib.suppress(Enough):
                spec.loader.exec_module(self.module)
        finally:
            _being_read.pop()

    def note(self, path: Path, seen: bool = True) -> None:
        """The file was read, or (`seen` false) looked for in vain."""
        if path in self.read:
            return
        self.read[path] = stamp(path) if seen else None
        if log := os.environ.get(LOG):
            with contextlib.suppress(OSError), open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps([str(path), self.read[path]]) + "\n")

    def _import(
        self, name: str, given: Any = None, local: Any = None, names: Sequence[str] | None = (), level: int = 0
    ) -> ModuleType:
        """`import` in the file and in its modules, be it in a function that is called later."""
        with self._beside():
            try:
                return builtins.__import__(name, given, local, names or (), level)
            except ModuleNotFoundError as error:
                # Whoever waits for a change waits for that file too.
                wanted = (error.name or name).replace(".", "/")
                for folder in self._folders:
                    self.note(Path(folder, f"{wanted}.py"), seen=False)
                raise

    @contextlib.contextmanager
    def _beside(self) -> Iterator[None]:
        """Meanwhile `import` finds what lies beside the file, and what it has imported, and nothing of another's."""
        with _lock:
            if _active and _active[-1] is self:
                yield
                return
            hidden = {
                name: module for name, module in sys.modules.items()
                if name in self._modules or (not _is_shared(module) and self._has(name))
            }
            for name in hidden:
                del sys.modules[name]
            before, path = {*sys.modules}, [*sys.path]
            sys.modules.update(self._modules)
            sys.path[:0] = self._folders
            sys.meta_path.insert(0, self._finder)
            _active.append(self)
            try:
                yield
            finally:
                _active.pop()
                sys.meta_path.remove(self._finder)
                self._folders += [p for p in sys.path if p not in (*path, *self._folders)]
                sys.path[:] = path
                for name in [n for n in sys.modules if n not in before and not _is_shared(sys.modules[n])]:
                    self._modules[name] = sys.modules.pop(name)
                sys.modules.update(hidden)

    def _has(self, name: str) -> bool:
        """A module of that name lies beside the file."""
        top = name.partition(".")[0]
        return top != "__main__" and PathFinder.find_spec(top, self._folders) is not None


class _Loader(SourceFileLoader):
    """Loads a user's file or a module of its own, whose imports are those of that file."""

    def __init__(self, name: str, path: str, own: UserFile) -> None:
        super().__init__(name, path)
        self.own = own

    def path_stats(self, path: str) -> Any:
        # Compiled text is kept by seconds and size: an edit within a second would not be seen.
        raise OSError("nothing is taken from __pycache__")

    def get_data(self, path: str) -> bytes:
        self.own.note(Path(os.path.abspath(path)))
        return super().get_data(path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self.own.builtins
        super().exec_module(module)


class _Finder:
    """Finds modules of a user's, and gives them the loader above."""

    def __init__(self, own: UserFile) -> None:
        self.own = own

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in sys.builtin_module_names:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or type(spec.loader) is not SourceFileLoader or _is_library(spec.origin):
            return None
        spec.loader = _Loader(name, spec.origin, self.own)
        return spec


def _is_library(file: str) -> bool:
    return is_ours(file) or not LIBRARIES.isdisjoint(Path(file).parts)


def _is_shared(module: ModuleType) -> bool:
    """It is of this program, of a library or of Python, or is no module that a file made."""
    places = [getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)]
    own = getattr(getattr(module, "__spec__", None), "loader", None)
    main_file = isinstance(own, _Loader) and own.own.path == Path(own.path)
    return main_file or places[0] is None or _is_library(str(places[0]))
