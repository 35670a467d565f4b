"""Finding kernels and invariants by name, among the model's own or in a user's file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import multiprocessing
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import model.kernels
from invariants import FURTHER as FURTHER_INVARIANTS
from invariants import INVARIANTS, Invariant
from model.blame import blamed, is_ours, nearest, short_path
from model.features import FEATURES, SPLIT
from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError, System, functions_in, kind_text
from model.restrictions import BARE, BASES, SWITCHES, bare, restricted
from proofs import wellformed


def features_of(spec: str) -> tuple[str, tuple[str, ...]]:
    """(kernel, features) of `v5.9@huge,zero`, the features in canonical order. Raises ModelError for an unknown one."""
    kernel, separator, rest = spec.rpartition("@")
    # An `@` in the path of a file starts no features.
    if not separator or "/" in rest or ".py" in rest:
        return spec, ()
    names = [name.strip() for name in rest.split(",")]
    for name in names:
        if name not in FEATURES:
            raise ModelError(f"no feature {name!r}{nearest(name, FEATURES)}")
    return kernel, tuple(name for name in FEATURES if name in names)


def with_features(spec: str, features: Collection[str]) -> str:
    """The spec with those features beside its own. Raises ModelError for one there is not."""
    kernel, own = features_of(spec)
    names = [*own, *features]
    return features_spec(kernel, features_of(f"{kernel}@{','.join(names)}")[1] if names else ())


def features_spec(kernel: str, features: Collection[str]) -> str:
    """`v5.9@huge,zero` for the kernel and features."""
    return f"{kernel}@{','.join(features)}" if features else kernel


def find_kernel(spec: str) -> Kernel:
    """The kernel called `spec`, or for `file.py:NAME` the Kernel of that name in that file. Features do not count.

    `bare:SPEC` is the reuse rule of the kernel SPEC alone, as are the names of BASES; either with restrictions as in
    `page-count+fork-early-copy+mprotect-refuse`, in any order.

    Raises ModelError if there is none or the file fails; the message names the line.
    """
    spec, _ = features_of(spec)
    if spec.startswith(BARE) or spec.partition("+")[0] in BASES:
        return _restricted(spec)
    if (file := file_of(spec)) is not None:
        return _kernel_in(file, spec.rpartition(".py")[2].removeprefix(":"))
    for kernel in (*KERNELS, *FURTHER):
        if kernel.name == spec:
            return kernel
    raise ModelError(f"no kernel {spec!r}{nearest(spec, [*(k.name for k in (*KERNELS, *FURTHER)), *BASES])}")


def built(spec: str, without: Iterable[str] = ()) -> System:
    """The transition system of a kernel as `find_kernel` has it, with its features, without the rules named.

    Raises ModelError.
    """
    kernel, features = find_kernel(spec), features_of(spec)[1]
    system = kernel.system(features)
    if multiprocessing.parent_process() is None:
        wellformed.check_kernel(kernel, system, features)
    return system.without(without).settled() if without else system


@functools.lru_cache(2048)
def system_of(spec: str, without: tuple[str, ...] = ()) -> System:
    """As `built`, and kept."""
    return built(spec, without)


def _restricted(spec: str) -> Kernel:
    # A `+` in the path of a file starts no restriction.
    path, separator, rest = spec.rpartition(".py:")
    base, *names = rest.split("+")
    for name in names:
        if name not in SWITCHES:
            raise ModelError(f"no restriction {name!r}{nearest(name, SWITCHES)}")
    base = path + separator + base
    return restricted(BASES[base] if base in BASES else bare(find_kernel(base.removeprefix(BARE))), names)


def find_invariants(name: str) -> list[Invariant]:
    """The invariant of that name, or those of which `name` is the first words, as `coherence`; for `file.py:NAME` the
    Invariant of that name in that file, for `file.py` all that are there.

    A user's own goes by `file.py:NAME` wherever an invariant has a name. Raises ModelError if there is none or it makes
    no sense; the message names the line.
    """
    if (file := file_of(name)) is None:
        known = (*INVARIANTS, *FURTHER_INVARIANTS)
        found = [i for i in known if i.name == name] or [i for i in known if i.name.startswith(name + "-")]
        if not found:
            raise ModelError(f"no invariant {name!r}{nearest(name, [i.name for i in known])}")
        return found
    chosen = _values(file, Invariant, name.rpartition(".py")[2].removeprefix(":"))
    for each in chosen.values():
        each.check(str(file))
    return [dataclasses.replace(each, name=f"{file}:{n}") for n, each in chosen.items()]


def find_invariant(name: str) -> Invariant:
    """The one invariant of that name, as `find_invariants` has it. Raises ModelError if there are several, or none."""
    found = find_invariants(name)
    if len(found) > 1:
        raise ModelError(f"{name!r} is several invariants: {', '.join(i.name for i in found)}")
    return found[0]


def formula_of(name: str) -> Any:
    """The formula of the invariant of that name, None if there is none. Raises ModelError if a file has not got it."""
    known = name in {i.name for i in (*INVARIANTS, *FURTHER_INVARIANTS)} or file_of(name) is not None
    return find_invariant(name).formula if known else None


def file_name(spec: str) -> str:
    """A kernel's or an invariant's name as part of a file's."""
    return spec.replace("/", "_").replace(":", "_")


def check_spoken(stated: Invariant, spec: str, without: tuple[str, ...] = ()) -> None:
    """Raises ModelError if the invariant speaks of what that kernel, with its features, has not got, or, being of a
    user's file, of what has no meaning there."""
    system = system_of(spec, without)
    spoken = functions_in(stated.formula) | functions_in(stated.premise)
    if not spoken:
        raise ModelError(f"{stated.name} speaks of no state function: it says nothing of any state")
    lacking = functions_in(system.reduced(stated.formula)) | functions_in(system.reduced(stated.premise))
    for name in sorted(lacking - {f.name for f in system.functions}):
        base, had = features_of(spec)
        bring = [f for f in FEATURES if f not in had and name in
                 {g.name for g in system_of(with_features(base, (*had, f)), without).functions}]
        raise ModelError(
            f"{stated.name} speaks of {name}, which {spec} has only with the feature {' or '.join(bring)}: say "
            f"--{'split' if bring[0] in SPLIT else 'with'} {bring[0]}, or features=({bring[0]!r},) in the invariant"
            if bring else f"{stated.name} speaks of {name}, which {spec} has not got"
        )
    if file_of(stated.name) is not None:
        wellformed.check_claim(stated, system)


# Users' files

_being_read: list[Path] = []


def spec_of(value: Kernel | Invariant) -> str:
    """The name by which the kernel or invariant is found again: the model's, or `file.py:NAME` of one in a file.

    Raises ModelError if it has none, or its file is being read just now.
    """
    if _being_read:
        raise ModelError("this runs whenever the file is read; put it under `if __name__ == \"__main__\":`")
    if value in (*KERNELS, *FURTHER, *INVARIANTS, *FURTHER_INVARIANTS) or file_of(value.name) is not None:
        return value.name
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        for name, other in list(vars(module).items()) if file.endswith(".py") and not is_ours(file) else ():
            if other is value:
                return f"{short_path(file)}:{name}"
    raise ModelError(f"{value.name} has no name in any file: say MINE = ... at the top level of a file")


def file_of(spec: str) -> Path | None:
    """The file of `file.py:NAME`, None for the name of something of the model's own."""
    path, separator, name = spec.rpartition(".py")
    return Path(path + separator) if separator and name[:1] in ("", ":") else None


def _kernel_in(path: Path, name: str) -> Kernel:
    kernels = _values(path, Kernel, name)
    if not name:
        raise ModelError(f"{path}: say which kernel of the file, as {path}:{next(iter(kernels))}")
    kernel: Kernel = kernels[name]
    kernel.check()
    return kernel


def _values(path: Path, kind: type, name: str) -> dict[str, Any]:
    """The value of that type to which the file gives the name; without one, all of its own. Raises ModelError."""
    what = kind.__name__.lower()
    module = vars(_loaded(path))
    imported = vars(model.kernels)
    found = {n: v for n, v in module.items() if isinstance(v, kind) and (imported.get(n) is not v or n == name)}
    if not found:
        raise ModelError(f"{path} has no {what}: nothing there is called NAME = {_MADE[what]}")
    if name in module and name not in found:
        raise ModelError(f"{path}: {name} is no {what} but {kind_text(module[name])}")
    if name and name not in found:
        raise ModelError(f"{path} has no {what} {name!r}{nearest(name, found)}")
    return {name: found[name]} if name else found


_MADE = {"kernel": "V5_9.but(...)", "invariant": "Invariant(...)"}


def _loaded(path: Path) -> ModuleType:
    try:
        told = path.stat()
    except OSError as error:
        raise ModelError(f"no file {path}") from error
    if not path.is_file():
        raise ModelError(f"{path} is no file")
    return _executed(path, told.st_mtime_ns, told.st_size)


@functools.lru_cache(64)
def _executed(path: Path, changed: int, size: int) -> ModuleType:
    """The file's module, executed once for each state of the file. Raises ModelError."""
    loader = importlib.util.spec_from_file_location(f"kernel_file_{path.stem}", path)
    assert loader is not None
    assert loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.modules[loader.name] = module
    _being_read.append(path)
    try:
        with _beside(path), blamed("", str(path)):
            loader.loader.exec_module(module)
    finally:
        _being_read.pop()
    return module


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[None]:
    """The file may import what lies beside it."""
    folder = str(path.parent.absolute())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
