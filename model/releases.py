"""Releases of Linux and the rules that each has: the commits that changed a decision between the kernels of kernels.py.

A release between two kernels of the model has the rules of the earlier one and those changes that are placed before it.
Where it is not known exactly when a decision changed, the answer says so. Sources: domain.md sections 0.1, 2.14, 8, 9.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from model.kernels import (
    DEBIAN_5_10,
    FURTHER,
    KERNELS,
    V4_8,
    V4_14,
    V5_7,
    V5_8,
    V5_9,
    V5_9_RC4,
    V5_11,
    V5_12,
    V5_14,
    V5_16,
    V5_17,
    V5_18,
    V5_19,
    V6_0,
    V6_1,
    V6_2,
    V6_4_0,
    V6_12,
    V6_15,
    V6_18,
    V7_2,
    V7_3_RC7,
    Kernel,
    differing,
    sources_of,
)
from model.logic import ModelError

FINAL = 1000
"""Stands for the number of the release candidate of a release itself, so that it is later than each of them."""


class Version(NamedTuple):
    """A release or a release candidate of the mainline."""

    major: int
    minor: int
    candidate: int = FINAL

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + (f"-rc{self.candidate}" if self.candidate != FINAL else "")


class Release(NamedTuple):
    """What a name says. `patch`: of the stable branch. `build`: a distribution's number, as 56 in 6.1.0-56-amd64, which
    then hides the patch."""

    version: Version
    patch: int
    build: int | None


# What follows a `+` has digits, or it would be a restriction.
_NAME = re.compile(
    r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-~]rc(\d+))?(?:-(\d+)(?=$|[-.]))?(?:$|[-~_.].*|\+(?:[^+]*\d[^+]*)?)", re.ASCII
)
_LAST = {3: 19, 4: 20, 5: 19, 6: 19}
"""Major version to its last minor one."""


def read(name: str) -> Release | None:
    """What `v5.15`, `5.10.262`, `6.1.0-56-amd64`, `v7.2-rc3`, `6.12.118+deb13-amd64` say; None for no such name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    major, minor, patch, candidate, build = (int(n) if n else None for n in found.groups())
    assert major is not None
    assert minor is not None
    hidden = build is not None and patch == 0 and candidate is None
    return Release(
        Version(major, minor, FINAL if candidate is None else candidate), patch or 0, build if hidden else None
    )


def version_of(name: str) -> Version:
    """The version in the name of a release."""
    release = read(name)
    assert release is not None, name
    return release.version


# The mainline

V6_1_0 = V6_1.but(
    "v6.1.0", "v6.1 without what 6.1.y took from 6.3",
    {"collapse_rechecks_uffd_wp, migration_keeps_uffd_wp": "dd47ac428c3f, 24bf08c4376b are of 6.3",
     "mremap_clears_uffd_wp": "0cef0bb836e3 is of 6.13", "swap_in_sync": "13ddaf26be32 is of 6.8"},
    collapse_rechecks_uffd_wp=False, migration_keeps_uffd_wp=False, mremap_clears_uffd_wp=False, swap_in_sync="skips",
)
V6_12_0 = V6_12.but(
    "v6.12.0", "v6.12 without what 6.12.y took from later releases",
    {"split_zero_parts": "9658d698a8a8 is of 6.18", "mremap_clears_uffd_wp": "0cef0bb836e3 is of 6.13",
     "uffd_move": "c50f8e6053b0 is of 6.14, 0ea148a79919 of 6.16", "move_soft_dirty": "75cb1cca2c88 is of 6.16",
     "uffd_move_gives_up": "a fix of 7.3-rc8 or later"},
    split_zero_parts="map-bare", mremap_clears_uffd_wp=False, uffd_move="blind", move_soft_dirty=False,
    uffd_move_gives_up=False,
)
MAINLINE: tuple[tuple[Version, Kernel], ...] = tuple((version_of(name), kernel) for name, kernel in (
    ("4.8", V4_8), ("4.14", V4_14), ("5.7", V5_7), ("5.8", V5_8), ("5.9-rc4", V5_9_RC4), ("5.9", V5_9), ("5.11", V5_11),
    ("5.12", V5_12), ("5.14", V5_14), ("5.16", V5_16), ("5.17", V5_17), ("5.18", V5_18), ("5.19", V5_19),
    ("6.0", V6_0), ("6.1", V6_1_0), ("6.2", V6_2), ("6.4", V6_4_0), ("6.12", V6_12_0), ("6.15", V6_15),
    ("6.18", V6_18), ("7.2", V7_2), ("7.3-rc7", V7_3_RC7),
))
"""Releases of which the model has the rules, in their order."""


@dataclass(frozen=True)
class ReleaseChange:
    """When a decision changed, between two kernels of MAINLINE: the first release, or candidate, that has it."""

    decision: str
    since: str
    commit: str


CHANGES: tuple[ReleaseChange, ...] = (
    ReleaseChange("force_proof", "4.9", "19be0eaffa3a"),
    ReleaseChange("migrate_large", "4.14", "616b8371539a"),
    ReleaseChange("touch_dirties_pmd", "4.15", "a8f97366452e"),
    ReleaseChange("swap_in_sync", "4.15", "0bcac06f27d7"),
    *(ReleaseChange(decision, "5.9-rc4", "09854ba94c6a, a308c71bf1e6, 1a0cf26323c8") for decision in (
        "reuse", "reuse_frees_swap_cache", "read_gup", "read_gup_nonanon", "read_gup_writes", "unshare", "trylock",
        "reuse_ksm",
    )),
    ReleaseChange("fork_copies", "5.9-rc8", "70e806e4e645"),
    ReleaseChange("fork_seqcount", "5.11-rc1", "57efa1fe5957"),
    ReleaseChange("soft_dirty_lock", "5.11", "29a951dfb3c3"),
    ReleaseChange("soft_dirty_pinned", "5.11", "9348b73c2e1b"),
    ReleaseChange("swap_out_pinned", "5.11", "feb889fb40fa"),
    ReleaseChange("hugetlb_fork_copies", "5.13", "4eae4efa2c29"),
    ReleaseChange("hugetlb_copy_writable", "5.13", "4eae4efa2c29"),
    ReleaseChange("longterm_migrates", "5.13", "d1e153fea2a8"),
    ReleaseChange("dontunmap_unlinks", "5.13", "1583aa278f52"),
    ReleaseChange("copy_frees_swap_cache", "5.14", "f4c4a3f48480"),
    ReleaseChange("early_copy_keeps_uffd_wp", "5.14", "8f34f1eac382"),
    ReleaseChange("uffd_continue_dirty", "5.16", "9ae0f87d009c"),
    ReleaseChange("mremap_looks_first", "5.16", "550a7d60bd5e"),
    ReleaseChange("uffd_restores", "6.3", "931298e103c2"),
    ReleaseChange("migration_keeps_uffd_wp", "6.3", "24bf08c4376b"),
    ReleaseChange("collapse_rechecks_uffd_wp", "6.3", "dd47ac428c3f"),
    ReleaseChange("uffd_across_vmas", "6.4", "a1b92a3f14"),
    ReleaseChange("uffd_unpopulated", "6.4", "2bad466cc9d9"),
    ReleaseChange("split_keeps_dirty", "6.4", "reverts 624a2c94f5b7"),
    ReleaseChange("fork_excludes_faults", "6.4", "faults under per-VMA locks"),
    ReleaseChange("fork_excludes_faults", "6.5", "fb49c455323f"),
    ReleaseChange("follows_inaccessible", "6.5", "d74943a2f3cd"),
    ReleaseChange("uffd_async", "6.7", "d61ea1cb0095"),
    ReleaseChange("uffd_move", "6.8", "adef440691ba"),
    ReleaseChange("swap_in_sync", "6.8", "13ddaf26be32"),
    ReleaseChange("migrate_large", "6.9", "7262f208ca68"),
    ReleaseChange("uffd_prepares_first", "6.9", "867a43a34ff8"),
    ReleaseChange("swap_in_upgrades", "6.11", "c18160dba5ff"),
    ReleaseChange("split_zero_parts", "6.12", "b1f202060afe"),
    ReleaseChange("huge_zero_fresh", "6.13", "1ced09e0331f"),
    ReleaseChange("huge_zero_unshare", "6.13", "1ced09e0331f"),
    ReleaseChange("mremap_clears_uffd_wp", "6.13", "0cef0bb836e3"),
    ReleaseChange("guard_regions", "6.13", "662df3e5c376"),
    ReleaseChange("dontneed_frees_tables", "6.14", "6375e95f381e"),
    ReleaseChange("uffd_move", "6.14", "c50f8e6053b0"),
    ReleaseChange("reuse_large", "6.15", "1da190f4d0a6"),
    ReleaseChange("guard_files", "6.15", "f807123d578d"),
    ReleaseChange("uffd_move", "6.16", "0ea148a79919"),
    ReleaseChange("move_soft_dirty", "6.16", "75cb1cca2c88"),
    ReleaseChange("protect_batches", "6.17", "modify_prot_start_ptes"),
    ReleaseChange("split_zero_parts", "6.18", "9658d698a8a8"),
)
"""Changes in releases between those of MAINLINE, and candidates."""


@dataclass(frozen=True)
class Doubt:
    """A decision that changed at some time after one release and by another: names of the values before and after."""

    decision: str
    after: str
    by: str
    values: tuple[str, str]


DOUBTS: tuple[Doubt, ...] = (
    Doubt("lazyfree_splits", "6.0", "6.12", ("page_mapcount_is_one", "mapped_in_one_mm")),
    Doubt("numa_hints", "6.2", "6.12", ("page_count_is_one_of_any", "unpinned_in_one_mm")),
    Doubt("migration_dirty", "6.6", "6.12", ("soft-dirty", "keep")),
    Doubt("reuse_large", "6.8", "6.12", ("None", "exclusive_only")),
    # Read in 6.12.118 alone: the release itself, and those on both sides, may have them or not.
    *(Doubt(decision, after, by, values) for decision in ("ksm_keeps_soft_dirty", "lazyfree_spares_ksm")
      for after, by, values in (("6.2", "6.13", ("False", "True")), ("6.12", "7.2", ("True", "False")))),
    Doubt("lazyfree_stays", "6.12", "6.15", ("False", "True")),
    *(Doubt("ksm_walks", after, by, values) for after, by, values in (
        ("6.4", "6.12", ("False", "True")), ("6.12", "6.15", ("True", "False")), ("6.15", "7.2", ("False", "True")),
    )),
    Doubt("dofork_of_special", "6.12", "7.2", ("True", "False")),
    Doubt("collapse_read_only", "6.12", "6.18", ("False", "True")),
    Doubt("swap_in_reuse", "6.18", "7.2", ("swap_in_by_exclusive", "swap_in_by_exclusive_only")),
    Doubt("swap_in_frees", "6.18", "7.2", ("swap_in_by_page_count", "swap_in_by_page_count_read_only")),
    Doubt("swap_in_counts", "6.18", "7.2", ("True", "False")),
    Doubt("swap_in_sync", "6.18", "7.2", ("guards", "frees")),
    Doubt("guard_files", "6.18", "7.2", ("anon-vma", "flag")),
    Doubt("copy_fills_markers", "6.18", "7.2", ("True", "False")),
    Doubt("numa_hints_huge", "6.12", "7.2", ("always", "unpinned_in_one_mm")),
    Doubt("hugetlb_copy_writable", "6.12", "7.2", ("True", "False")),
)
"""For releases strictly between the two. Those of stable branches are below."""


# Stable branches

@dataclass(frozen=True)
class Branch:
    """A stable branch whose rules were read in one of its releases. `builds`: a distribution's first build made of it.
    `since`: decision to the first release of the branch that has it, where that is known."""

    patch: int
    kernel: Kernel
    build: int | None
    since: dict[str, int]


BRANCHES: dict[tuple[int, int], Branch] = {
    (5, 10): Branch(262, DEBIAN_5_10, 46, {}),
    (6, 1): Branch(192, V6_1, 56, {"collapse_rechecks_uffd_wp": 26}),
    (6, 12): Branch(118, V6_12, None, {}),
    (7, 2): Branch(13, V7_2, None, {}),
}


@dataclass(frozen=True)
class Backport:
    """A commit of a later release that stable branches took, too, as old as `oldest`; not known is which and when."""

    decisions: tuple[str, ...]
    of: str
    oldest: str
    commit: str


BACKPORTS: tuple[Backport, ...] = (
    Backport(("force_proof",), "4.9", "4.8", "19be0eaffa3a"),
    Backport(("touch_dirties_pmd",), "4.15", "4.8", "a8f97366452e"),
    Backport(("read_gup", "read_gup_nonanon", "read_gup_writes", "unshare"), "5.8", "4.8", "17839856fd58"),
    Backport(("split_locks_page",), "5.8", "4.8", "c444eb564fb1"),
    Backport(("fork_seqcount",), "5.11", "5.9", "57efa1fe5957"),
    Backport(("soft_dirty_lock",), "5.11", "5.9", "29a951dfb3c3"),
    Backport(("soft_dirty_pinned",), "5.11", "5.9", "9348b73c2e1b"),
    Backport(("swap_out_pinned",), "5.11", "5.9", "feb889fb40fa"),
    Backport(("wp_flushes_uffd",), "5.12", "5.9", "6ce64428d620"),
    Backport(("early_copy_keeps_uffd_wp",), "5.14", "5.9", "8f34f1eac382"),
    Backport(("numa_hints",), "5.17", "4.8", "80d47f5de5e3"),
    Backport(("discard_counts",), "5.18", "4.8", "6c8e2a256915"),
    Backport(("force_proof",), "6.0", "5.19", "5535be309971"),
    Backport(("collapse_rechecks_uffd_wp",), "6.3", "5.7", "dd47ac428c3f"),
    Backport(("migration_keeps_uffd_wp",), "6.3", "5.7", "24bf08c4376b"),
    Backport(("fork_excludes_faults",), "6.5", "6.4", "fb49c455323f"),
    Backport(("uffd_move",), "6.14", "6.8", "c50f8e6053b0"),
    Backport(("uffd_move",), "6.16", "6.8", "0ea148a79919"),
    Backport(("move_soft_dirty",), "6.16", "6.8", "75cb1cca2c88"),
    Backport(("split_zero_parts",), "6.18", "6.12", "9658d698a8a8"),
    Backport(("swap_in_sync",), "6.8", "6.1", "13ddaf26be32"),
)


# Finding

Changed = dict[str, tuple[Any, str]]
"""Decision to its value, and since when."""
Doubts = dict[str, tuple[str, str]]
"""Decision to the name of what else it may be, and why that is not known."""


@dataclass(frozen=True)
class ReleaseKernel:
    """The kernel whose rules a release has. `why`: for people. `doubts`: decisions of which it is not known on which
    side of a change the release is; the kernel has one of the two values."""

    kernel: Kernel
    why: str
    doubts: Doubts

    def text(self) -> str:
        """All of it, in one line."""
        reasons: dict[str, list[str]] = {}
        for decision, (other, reason) in self.doubts.items():
            reasons.setdefault(reason, []).append(f"{decision} = {_shown(getattr(self.kernel, decision))} or {other}")
        doubts = "; ".join(f"{', '.join(decisions)} ({reason})" for reason, decisions in reasons.items())
        return f"the rules of {self.kernel.name}: {self.why}" + (f"; in doubt: {doubts}" if doubts else "")


def known() -> str:
    """The range of releases of which the model has rules."""
    return f"{MAINLINE[0][0]} to {MAINLINE[-1][0]}"


@functools.cache
def find(name: str) -> ReleaseKernel | None:
    """The kernel whose rules the release of that name has; None if the name is that of no release.

    `v6.1` and `6.1` are the model's kernel, which has the rules of 6.1.192; `6.1.0` is the release without backports.
    Raises ModelError, with the range that is known, for a release outside it.
    """
    release = read(name)
    if release is None:
        return None
    version = release.version
    if version.minor > _LAST.get(version.major, version.minor):
        raise ModelError(f"there was no Linux {version}; the model has the rules of {known()}")
    # A release is looked up where only a candidate of it was read.
    if version < MAINLINE[0][0] or version[:2] > MAINLINE[-1][0][:2]:
        raise ModelError(f"no rules are known of Linux {version}; the model has those of {known()}")
    exact = next((k for k in (*KERNELS, *FURTHER) if k.name == f"v{name.removeprefix('v')}"), None)
    if exact is not None:
        branch = BRANCHES.get(version[:2])
        why = f"as read in {version}.{branch.patch}" if branch else exact.about
        return ReleaseKernel(exact, why, _doubts(version, exact))
    changed, doubts = _of_mainline(version)
    if release.patch or release.build is not None:
        return _of_branch(name, release, changed, doubts)
    return _found(version, changed, doubts)


def release_of(kernel: Kernel) -> Version | None:
    """The release whose rules the kernel has; of one that is a difference from another, that of the other, back to one
    of the model. None if it comes from none."""
    by_name = {k.name: version for version, k in MAINLINE}
    by_name |= {branch.kernel.name: Version(*version) for version, branch in BRANCHES.items()}
    known = {k.name: k for k in (*KERNELS, *FURTHER)}
    name = kernel.name
    while name not in by_name:
        if (release := read(name)) is not None:
            return release.version
        if name != kernel.name and name not in known:
            return None
        base = known[name].base if name in known else kernel.base
        if not base:
            return None
        name = base
    return by_name[name]


def _earlier(version: Version) -> tuple[Version, Kernel]:
    return max((each for each in MAINLINE if each[0] <= version), key=lambda each: each[0])


def _later(version: Version) -> tuple[Version, Kernel] | None:
    return next((each for each in MAINLINE if each[0] > version), None)


def _place(decision: str, before: Version, later: tuple[Version, Kernel]) -> tuple[Version, str, bool]:
    """When the decision changed between the two, by which commit, and whether that is said of it alone."""
    found = next((c for c in CHANGES if c.decision == decision and before < version_of(c.since) <= later[0]), None)
    if found is not None:
        return version_of(found.since), found.commit, True
    commit = sources_of(later[1]).get(decision, "")
    if commit == sources_of(_earlier(before)[1]).get(decision):
        # What is cited for the value before says nothing of the change.
        commit = ""
    return later[0], commit.partition(" (")[0], False


class Placed(NamedTuple):
    """When a decision changed: the first release that surely has the new value, by which commit (empty if that is not
    known), and the last one that surely has the old value, if there are any between the two."""

    since: Version
    commit: str
    after: Version | None


def placed(decision: str, before: Version, later: tuple[Version, Kernel]) -> Placed:
    """When a decision changed between two releases that follow each other in MAINLINE."""
    since, commit, exact = _place(decision, before, later)
    own = sources_of(later[1]).get(decision, "")
    doubts = (d for d in DOUBTS if d.decision == decision and version_of(d.by) == since)
    return Placed(
        # A change of many decisions names all of its commits, the kernel that of each.
        since, own if own and own in commit else commit,
        before if not exact and since.candidate != FINAL else next((version_of(d.after) for d in doubts), None),
    )


def preceding(version: Version) -> Version:
    """The release before that one, or the candidate before that candidate."""
    if version.candidate not in (1, FINAL):
        return version._replace(candidate=version.candidate - 1)
    minor = version.minor - 1 if version.minor else _LAST[version.major - 1]
    return Version(version.major if version.minor else version.major - 1, minor)


def _of_mainline(version: Version) -> tuple[Changed, Doubts]:
    """What changed since the last kernel before; and what is in doubt."""
    (before, earlier), later = _earlier(version), _later(version)
    changed: Changed = {}
    doubts: Doubts = {}
    for decision in differing(earlier, later[1]) if later is not None else ():
        assert later is not None
        since, commit, placed = _place(decision, before, later)
        # Most changes come in the merge window; whether one did is known only where a candidate is named.
        candidate = version[:2] == since[:2] and version.candidate != FINAL
        unsure = candidate and not (placed and since.candidate != FINAL)
        if since <= version or unsure:
            changed[decision] = getattr(later[1], decision), f"{commit}, {since}" if commit else str(since)
        if unsure:
            doubts[decision] = _shown(getattr(earlier, decision)), f"changed by {since}, it is not known with which -rc"
    return changed, {**doubts, **_doubts(version, _with(earlier, "", changed))}


def _doubts(version: Version, kernel: Kernel) -> Doubts:
    """What DOUBTS say of a release of which the kernel is taken to be."""
    return {
        doubt.decision: (next(v for v in doubt.values if v != _shown(getattr(kernel, doubt.decision))),
                         f"changed after {doubt.after} and by {doubt.by}, it is not known when")
        for doubt in DOUBTS if version_of(doubt.after) < version < version_of(doubt.by)
    }


def _of_branch(name: str, release: Release, changed: Changed, doubts: Doubts) -> ReleaseKernel:
    """What a stable release or a distribution's has, from what its mainline release has."""
    version = release.version
    base = _with(_earlier(version)[1], "", changed)
    branch = BRANCHES.get(version[:2])
    if branch is None:
        for backport in BACKPORTS:
            if version_of(backport.oldest) <= version < version_of(backport.of):
                there = find(f"{backport.of}.0")
                assert there is not None
                for decision in backport.decisions:
                    if decision in differing(base, there.kernel):
                        doubts[decision] = (_shown(getattr(there.kernel, decision)), (
                            f"{backport.commit} of {backport.of} is in some stable kernels too"))
        return _found(version, changed, doubts, f"what {name} took from later releases is not known")
    was_read = f"read in {version}.{branch.patch}"
    if release.patch >= branch.patch or (
        release.build is not None and branch.build is not None and release.build >= branch.build
    ):
        return ReleaseKernel(branch.kernel, was_read, {})
    for decision in differing(base, branch.kernel):
        since = branch.since.get(decision)
        if since is None or release.build is not None:
            changed[decision] = getattr(branch.kernel, decision), was_read
            doubts[decision] = (
                _shown(getattr(base, decision)),
                f"{version}.y took it by {version}.{branch.patch}, it is not known whether {name} has it",
            )
        elif release.patch >= since:
            changed[decision] = getattr(branch.kernel, decision), f"{version}.{since}"
    return _found(version, changed, doubts, f"the branch was {was_read}", release.patch)


def _with(kernel: Kernel, name: str, changed: Changed) -> Kernel:
    return kernel.but(
        name, f"{kernel.name}, and what changed by then", {d: source for d, (_, source) in changed.items()},
        **{d: value for d, (value, _) in changed.items()},
    )


def _found(version: Version, changed: Changed, doubts: Doubts, more: str = "", patch: int = 0) -> ReleaseKernel:
    """The kernel of the model that has those rules, or one made for the release."""
    (before, earlier), later = _earlier(version), _later(version)
    plain = f"v{version}"
    taken = any(k.name == plain for k in (*KERNELS, *FURTHER))
    made = _with(earlier, f"{plain}.{patch}" if patch or taken else plain, changed)
    others = (earlier, *([later[1]] if later else ()), *KERNELS, *FURTHER)
    same = next((k for k in others if not differing(made, k)), None)
    if same is None:
        why = f"{earlier.name}, but " + ", ".join(
            f"{d} = {_shown(value)} ({source})" for d, (value, source) in changed.items()
        )
    elif later is None and version > before:
        why = f"read in {before}, what came after it is not known"
    elif same is earlier and later is not None and version > before:
        places = ((_place(d, before, later), d) for d in differing(earlier, later[1]))
        why = f"nothing is known to have changed since {before}, next are " + ", ".join(
            f"{d} ({commit + ', ' if commit else ''}{since})" for (since, commit, _), d in sorted(places)
        )
    else:
        why = same.about
    return ReleaseKernel(same or made, "; ".join(filter(None, (why, more))), doubts)


def _shown(value: Any) -> str:
    return str(getattr(value, "__name__", value))
