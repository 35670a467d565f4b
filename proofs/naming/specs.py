"""Finding kernels and invariants by name, among the model's own or in a user's file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import multiprocessing
import re
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import z3

import model.kernels
from invariants import FURTHER as FURTHER_INVARIANTS
from invariants import INVARIANTS, Invariant
from model import releases
from model.all_rules import ALL_RULES
from model.blame import is_ours, nearest, short_path
from model.features import FEATURES, SPLIT
from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError, System, functions_in, kind_text
from model.restrictions import BARE, BASES, SWITCHES, bare, restricted
from proofs.naming import steady, user_files, wellformed

LONGEST = 200
"""Characters of a name that a file's name has; what follows is hashed."""


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

    A release of Linux, as `v5.15` or `6.1.0-56-amd64`, stands for the kernel whose rules it has (`resolved`).
    `bare:SPEC` is the reuse rule of the kernel SPEC alone, as are the names of BASES; either with restrictions as in
    `page-count+fork-early-copy+mprotect-refuse`, in any order.

    Raises ModelError if there is none or the file fails; the message names the line.
    """
    spec, _ = features_of(spec)
    if spec.startswith(BARE) or spec.partition("+")[0] in BASES:
        return _restricted(spec)
    if of_session(spec):
        made: Kernel = _made_here(Kernel, spec)
        made.check()
        steady.check_decisions(made)
        return made
    if (file := file_of(spec)) is not None:
        return _kernel_in(file, spec.rpartition(".py")[2].removeprefix(":"))
    for kernel in (*KERNELS, *FURTHER):
        if kernel.name == spec:
            return kernel
    if (found := releases.find(spec)) is not None:
        return found.kernel
    raise ModelError(f"no kernel {spec!r}{nearest(spec, [*(k.name for k in (*KERNELS, *FURTHER)), *BASES])}")


def resolved(spec: str) -> tuple[str, str]:
    """(the spec with the model's name of the kernel in place of a release's, what release that is and why).

    The second is empty if the spec names no release but a kernel. Raises ModelError for a release that is not known.
    """
    kernel, features = features_of(spec)
    before = BARE if kernel.startswith(BARE) else ""
    name, switches = kernel.removeprefix(BARE), list[str]()
    while name.rpartition("+")[2] in SWITCHES:
        name, _, last = name.rpartition("+")
        switches.insert(0, last)
    if name in {k.name for k in (*KERNELS, *FURTHER)} or file_in(name) is not None:
        return spec, ""
    found = releases.find(name)
    if found is None:
        return spec, ""
    return features_spec(before + "+".join((found.kernel.name, *switches)), features), f"{name}: {found.text()}"


def built(spec: str, without: Iterable[str] = ()) -> System:
    """The transition system of a kernel as `find_kernel` has it, with its features, without the rules named.

    Raises ModelError.
    """
    if without:
        return system_of(spec).without(without).settled()
    kernel, features = find_kernel(spec), features_of(spec)[1]
    system = system_with(kernel, frozenset(features))
    steady.check_system(kernel, features, system)
    if multiprocessing.parent_process() is None and (file_in(spec) is not None or of_session(spec)):
        wellformed.check_kernel(kernel, system, features)
    return system


def system_of(spec: str, without: tuple[str, ...] = ()) -> System:
    """As `built`, and kept as long as the kernel's file does not change."""
    return _system_of(spec, without, state_of(spec))


_MOST_SYSTEMS = 2048
_systems: dict[tuple[int, frozenset[str]], tuple[Kernel, System]] = {}


@functools.lru_cache(_MOST_SYSTEMS)
def _system_of(spec: str, without: tuple[str, ...], state: int) -> System:
    return built(spec, without)


def system_with(kernel: Kernel, features: frozenset[str]) -> System:
    """The system of a kernel that need have no spec, built once for the object and those features."""
    key = (id(kernel), features)
    if key not in _systems:
        if len(_systems) == _MOST_SYSTEMS:
            _systems.clear()
        # The kernel is kept beside its system, so that its id stays its own.
        _systems[key] = (kernel, kernel.system(features))
    return _systems[key][1]


@dataclass(frozen=True)
class TermDigests:
    """What one process built of a kernel, less the rules `without`, and of invariants: digests, for others to compare
    with what they build. `claims`: by the invariants' names."""

    kernel: str
    without: tuple[str, ...]
    system: str
    claims: tuple[tuple[str, str], ...]

    def compare(self) -> None:
        """Raises ModelError if this process builds other terms."""
        here = terms_of(self.kernel, [name for name, _ in self.claims], self.without)
        others = [name for (name, a), (_, b) in zip(self.claims, here.claims, strict=True) if a != b]
        for name in [self.kernel] * (here.system != self.system) + others:
            raise ModelError(
                f"{name} gives other terms in another process: its file must make the same ones whenever it is read, "
                "whatever the time, chance, the process or its environment, and must not change meanwhile"
            )


def terms_of(spec: str, names: Iterable[str], without: tuple[str, ...] = ()) -> TermDigests:
    """What this process builds of the kernel and of the invariants of those names. Raises ModelError."""
    claims = tuple((name, claim_digest(find_invariant(name))) for name in names)
    return TermDigests(spec, without, _digest_of(spec, without, state_of(spec)), claims)


@functools.lru_cache(_MOST_SYSTEMS)
def _digest_of(spec: str, without: tuple[str, ...], state: int) -> str:
    return system_of(spec, without).digest()


def claim_digest(stated: Invariant) -> str:
    """Short hash of the terms of what the invariant says, and of when it says something."""
    text = f"{stated.formula.sexpr()}\n{stated.premise.sexpr()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    if of_session(name):
        made: Invariant = _made_here(Invariant, name)
        made.check("this session")
        steady.check_invariant(made, "this session")
        return [dataclasses.replace(made, name=name)]
    if (file := file_of(name)) is None:
        known = (*INVARIANTS, *FURTHER_INVARIANTS)
        found = [i for i in known if i.name == name] or [i for i in known if i.name.startswith(name + "-")]
        if not found:
            raise ModelError(f"no invariant {name!r}{nearest(name, [i.name for i in known])}")
        return found
    chosen = _values(file, Invariant, name.rpartition(".py")[2].removeprefix(":"))
    for each in chosen.values():
        each.check(str(file))
        steady.check_invariant(each, str(file))
    return [dataclasses.replace(each, name=f"{file}:{n}") for n, each in chosen.items()]


def find_invariant(name: str) -> Invariant:
    """The one invariant of that name, as `find_invariants` has it. Raises ModelError if there are several, or none."""
    found = find_invariants(name)
    if len(found) > 1:
        raise ModelError(f"{name!r} is several invariants: {', '.join(i.name for i in found)}")
    return found[0]


def formula_of(name: str) -> Any:
    """The formula of the invariant of that name, None if there is none. Raises ModelError if a file has not got it."""
    known = name in {i.name for i in (*INVARIANTS, *FURTHER_INVARIANTS)} or is_own(name)
    return find_invariant(name).formula if known else None


def file_name(text: str, kept: str = "A-Za-z0-9_.@+,-") -> str:
    """The text, as a kernel's or an invariant's name, as part of a file's: itself if it is short and of characters that
    are `kept`, else what is like it and a hash of it, so that no two texts have one name."""
    plain = re.sub(f"[^{kept}]+", "_", text)[:LONGEST]
    return text if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def check_spoken(stated: Invariant, spec: str, without: tuple[str, ...] = ()) -> None:
    """Raises ModelError if the invariant speaks of what that kernel, with its features, has not got, or, being of a
    user's file, of what has no meaning there."""
    system = system_of(spec, without)
    spoken = functions_in(stated.formula) | functions_in(stated.premise)
    if not spoken:
        raise ModelError(f"{stated.name} speaks of no state function: it says nothing of any state")
    lacking = functions_in(system.reduced(stated.formula)) | functions_in(system.reduced(stated.premise))
    if is_own(stated.name) and z3.is_true(z3.simplify(system.reduced(stated.formula))):
        # That it holds would say nothing; the model's own claims bring what they speak of.
        lacking |= spoken
    for name in sorted(lacking - {f.name for f in system.functions}):
        kernel, had = find_kernel(spec), features_of(spec)[1]
        bring = [f for f in FEATURES if f not in had and name in _functions_of(kernel, (*had, f), without)]
        raise ModelError(
            f"{stated.name} speaks of {name}, which {spec} has only with the feature {' or '.join(bring)}: say "
            f"--{'split' if bring[0] in SPLIT else 'with'} {bring[0]}, or features=({bring[0]!r},) in the invariant"
            if bring else f"{stated.name} speaks of {name}, which {spec} has not got"
        )
    if is_own(stated.name):
        wellformed.check_claim(stated, system)


def _functions_of(kernel: Kernel, features: Collection[str], without: Collection[str]) -> set[str]:
    """Names of the state functions of that system, of which only they are looked at: its rules are not."""
    system = system_with(kernel, frozenset(features))
    return {f.name for f in (system.without(without).settled() if without else system).functions}


def idle_splits(spec: str) -> dict[str, tuple[str, ...]]:
    """Sub-steps that the spec asks for and that split nothing, to the features of which one brings something: a verdict
    of `v7.2@migrate` speaks of no migration."""
    on = frozenset(features_of(spec)[1])
    idle: dict[str, tuple[str, ...]] = {}
    for split in sorted(on & SPLIT.keys()):
        needs = {frozenset(template.features - SPLIT.keys()) for template in ALL_RULES if split in template.split}
        if needs and not any(need <= on for need in needs):
            idle[split] = tuple(sorted({name for need in needs for name in need}))
    return idle


# Users' files

def spec_of(value: Kernel | Invariant) -> str:
    """The name by which the kernel or invariant is found again: the model's, `file.py:NAME` of one in a file, or
    `session:name` of any other, by which this process alone finds it."""
    if value in (*KERNELS, *FURTHER, *INVARIANTS, *FURTHER_INVARIANTS) or _found_as(value):
        return value.name
    if isinstance(value, Kernel) and (release := releases.find(value.name)) is not None and release.kernel == value:
        return value.name
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        for name, other in list(vars(module).items()) if file.endswith(".py") and not is_ours(file) else ():
            if other is value:
                return f"{short_path(file)}:{name}"
    # What a name would otherwise be taken to say, of features or a file, is no part of it.
    odd = re.search(r"[^\w.,-]|\.py", value.name)
    name = SESSION + (file_name(value.name, "A-Za-z0-9_,-") if odd else value.name)
    if _session.get((type(value), name), (None, 0))[0] is not value:
        _session[type(value), name] = value, next(_serial)
    return name


def _found_as(value: Kernel | Invariant) -> bool:
    """It is the invariant that `find_invariants` gives for its name, which says where it is. A kernel keeps its own
    name, which may be that of another one's place."""
    if isinstance(value, Kernel) or not is_own(value.name):
        return False
    with contextlib.suppress(ModelError):
        return find_invariants(value.name) == [value]
    return False


SESSION = "session:"
_session: dict[tuple[type, str], tuple[Kernel | Invariant, int]] = {}
"""What was made in this process and is in no file, by its kind and name; and a number that is another one each time."""
_serial = itertools.count(1)


def of_session(name: str) -> bool:
    """The name is one that this process alone knows."""
    return name.removeprefix(BARE).startswith(SESSION)


def is_own(name: str) -> bool:
    """The name is that of something of a user's, in a file or of this session."""
    return file_of(name) is not None or of_session(name)


def _made_here(kind: type, name: str) -> Any:
    found = _session.get((kind, name))
    if found is None:
        raise ModelError(f"{name} is of another session: a file keeps a {kind.__name__.lower()}, and its name there")
    return found[0]


def file_in(spec: str) -> Path | None:
    """The user's file in the spec of a kernel or an invariant, whatever stands around it; None if there is none."""
    found = re.match(r"(?:bare:)?(.*\.py)(?=$|[:@+])", spec)
    return Path(found[1]) if found else None


def variable_of(kernel: Kernel) -> str:
    """The name by which model.kernels has the kernel. Raises ModelError if it has none."""
    for name, value in vars(model.kernels).items():
        if value is kernel:
            return name
    raise ModelError(f"model.kernels has no name for {kernel.name}")


def state_of(spec: str) -> int:
    """A number that is another one once the user's file in the spec has changed, or what this session calls so; 0 if
    there is neither."""
    if of_session(spec):
        return _session.get((Kernel, features_of(spec)[0]), (None, 0))[1]
    file = file_in(spec)
    return user_files.loaded(file).serial if file is not None else 0


def files_digest(specs: Iterable[str]) -> str:
    """Hash of the text of the users' files among the specs, and of what those import of the users' own."""
    files = (file_in(spec) for spec in specs)
    return " ".join(user_files.loaded(file).digest() for file in files if file is not None)


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
    steady.check_decisions(kernel)
    return kernel


def _values(path: Path, kind: type, name: str) -> dict[str, Any]:
    """The value of that type to which the file gives the name; without one, all of its own. Raises ModelError."""
    what = kind.__name__.lower()
    module = vars(user_files.loaded(path).module)
    imported = vars(model.kernels)
    # A class made from ours could answer for itself, whatever its decisions are.
    found = {n: v for n, v in module.items() if type(v) is kind and (imported.get(n) is not v or n == name)}
    if not found:
        raise ModelError(f"{path} has no {what}: nothing there is called NAME = {_MADE[what]}")
    if name in module and name not in found:
        raise ModelError(f"{path}: {name} is no {what} but {kind_text(module[name])}")
    if name and name not in found:
        raise ModelError(f"{path} has no {what} {name!r}{nearest(name, found)}")
    return {name: found[name]} if name else found


_MADE = {"kernel": "V5_9.but(...)", "invariant": "Invariant(...)"}
