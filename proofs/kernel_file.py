"""Finding kernels by name, among the model's own or in a user's file."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import sys
import traceback
from collections.abc import Collection, Iterable
from pathlib import Path

from model.features import FEATURES
from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError, System
from model.restrictions import BARE, BASES, SWITCHES, bare, restricted


def nearest(wanted: str, names: Iterable[str]) -> str:
    """`; did you mean X?`, or the list of names."""
    known = list(names)
    close = difflib.get_close_matches(wanted, known, 1, 0.4)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


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
    path, separator, name = spec.rpartition(":")
    if separator and path.endswith(".py"):
        return _from_file(Path(path), name)
    for kernel in (*KERNELS, *FURTHER):
        if kernel.name == spec:
            return kernel
    if spec.endswith(".py"):
        raise ModelError(f"{spec}: say which kernel of the file, as {spec}:NAME")
    raise ModelError(f"no kernel {spec!r}{nearest(spec, [*(k.name for k in (*KERNELS, *FURTHER)), *BASES])}")


def built(spec: str, without: Iterable[str] = ()) -> System:
    """The transition system of a kernel as `find_kernel` has it, with its features, without the rules named.

    Raises ModelError.
    """
    system = find_kernel(spec).system(features_of(spec)[1])
    return system.without(without).settled() if without else system


@functools.lru_cache(256)
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


def _from_file(path: Path, name: str) -> Kernel:
    if not path.is_file():
        raise ModelError(f"no file {path}")
    loader = importlib.util.spec_from_file_location(f"kernel_file_{path.stem}", path)
    assert loader is not None
    assert loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.modules[loader.name] = module
    try:
        loader.loader.exec_module(module)
    except SyntaxError as error:
        raise ModelError(f"{path}:{error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        text = str(error).splitlines()[0] if str(error) else ""
        raise ModelError(f"{where}: {type(error).__name__}: {text}") from error
    kernel = getattr(module, name, None)
    if not isinstance(kernel, Kernel):
        kernels = [k for k, v in vars(module).items() if isinstance(v, Kernel)]
        raise ModelError(f"{path} has no kernel {name!r}{nearest(name, kernels) if kernels else ''}")
    return kernel
