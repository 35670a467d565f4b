"""Releases of Linux, by the names that people give them, and the rules that each has."""

from __future__ import annotations

import itertools

import pytest

from model import KERNELS, ModelError, releases
from model.kernels import FURTHER, differing
from model.releases import BACKPORTS, BRANCHES, CHANGES, DOUBTS, FINAL, MAINLINE, Version, find
from proofs.naming.specs import find_kernel, resolved, spec_of, system_of

ALL = (*KERNELS, *FURTHER)

# Written down from the timeline of docs/domain.md, section 0.1, before the model was asked.
RULES = {
    "v4.8": "v4.8", "4.14": "v4.14", "v4.15": "v5.7", "v5.4": "v5.7", "v5.8": "v5.8", "v5.9-rc3": "v5.8",
    "v5.9-rc5": "v5.9-rc4", "v5.9-rc7": "v5.9-rc4", "v5.9-rc8": "v5.9", "v5.10": "v5.9", "5.10.262": "debian-5.10",
    "5.10.300": "debian-5.10", "5.10.0-46-amd64": "debian-5.10", "v5.12": "v5.12", "v5.15": "v5.14",
    "5.15.0-91-generic": "v5.14", "v5.16": "v5.16", "5.19.17": "v5.19", "6.1.0-56-amd64": "v6.1", "6.1.192": "v6.1",
    "v6.2": "v6.2", "6.4.0": "v6.4.0", "6.12.118+deb13-amd64": "v6.12", "6.15.1": "v6.15", "6.18.2": "v6.18",
    "v7.1": "v6.18", "v7.2-rc3": "v7.2", "7.2.13+deb14-amd64": "v7.2", "7.3-amd64": "v7.3-rc7",
}
CHANGED = {
    "v4.9": ("v4.8", {"force_proof"}),
    "v5.13": ("v5.12", {"hugetlb_fork_copies", "hugetlb_copy_writable", "longterm_migrates", "dontunmap_unlinks"}),
    "v6.1.0": ("v6.1", {
        "collapse_rechecks_uffd_wp", "migration_keeps_uffd_wp", "mremap_clears_uffd_wp", "swap_in_sync",
    }),
    "6.1.20": ("v6.1", {"collapse_rechecks_uffd_wp"}),
    "v6.3": ("v6.2", {"uffd_restores", "collapse_rechecks_uffd_wp", "migration_keeps_uffd_wp"}),
    "v6.6": ("v6.4.0", {"fork_excludes_faults", "follows_inaccessible"}),
    "v6.9": ("v6.4.0", {
        "fork_excludes_faults", "follows_inaccessible", "migrate_large", "uffd_move", "swap_in_sync",
        "uffd_prepares_first", "uffd_async",
    }),
    "v6.11": ("v6.4.0", {
        "fork_excludes_faults", "follows_inaccessible", "migrate_large", "swap_in_upgrades", "uffd_move",
        "swap_in_sync", "uffd_prepares_first", "uffd_async",
    }),
    "v6.12.0": ("v6.12", {
        "split_zero_parts", "uffd_move", "move_soft_dirty", "mremap_clears_uffd_wp", "uffd_move_gives_up",
    }),
    "v6.14": ("v6.12.0", {
        "huge_zero_fresh", "huge_zero_unshare", "dontneed_frees_tables", "uffd_move", "mremap_clears_uffd_wp",
        "guard_regions",
    }),
    "6.17": ("v6.15", {"uffd_move", "move_soft_dirty", "protect_batches"}),
}
"""Release to a kernel and the decisions in which it differs from that one; no kernel of the model has its rules."""

IN_DOUBT = {
    "5.10.262": set(), "v5.15": set(), "v5.10": set(), "v7.2": set(), "6.1.0-56-amd64": set(),
    "5.10.5": {
        "soft_dirty_pinned", "swap_out_pinned", "numa_hints", "collapse_rechecks_uffd_wp", "discard_counts",
        "soft_dirty_lock", "wp_flushes_uffd", "fork_seqcount", "early_copy_keeps_uffd_wp", "ksm_walks",
    },
    "5.11.5": {
        "wp_flushes_uffd", "numa_hints", "discard_counts", "collapse_rechecks_uffd_wp", "migration_keeps_uffd_wp",
        "early_copy_keeps_uffd_wp",
    },
    "v5.11-rc3": {"soft_dirty_lock", "soft_dirty_pinned", "swap_out_pinned"},
    "6.4.7": {
        "fork_excludes_faults", "lazyfree_splits", "numa_hints", "ksm_keeps_soft_dirty", "lazyfree_spares_ksm",
        "swap_in_sync",
    },
    "v7.0": {
        "dofork_of_special",
        "swap_in_reuse", "swap_in_frees", "swap_in_counts", "swap_in_sync", "numa_hints_huge", "ksm_keeps_soft_dirty",
        "lazyfree_spares_ksm", "hugetlb_copy_writable", "ksm_walks", "guard_files", "copy_fills_markers",
    },
    "v7.3-rc3": {"swap_in_frees", "register_narrows"},
}


def found(name: str) -> releases.ReleaseKernel:
    release = find(name)
    assert release is not None
    return release


@pytest.mark.parametrize("name", RULES)
def test_a_release_has_the_rules_of_a_kernel(name: str) -> None:
    assert found(name).kernel.name == RULES[name]
    assert find_kernel(name) is found(name).kernel


@pytest.mark.parametrize("name", CHANGED)
def test_a_release_between_two_kernels_has_what_changed_by_then(name: str) -> None:
    base, decisions = CHANGED[name]
    kernel = found(name).kernel
    assert kernel.name == f"v{name.removeprefix('v')}"
    assert set(differing(kernel, find_kernel(base))) == decisions
    assert all(differing(kernel, other) for other in ALL)
    assert spec_of(kernel) == kernel.name
    assert system_of(kernel.name).name == kernel.name


@pytest.mark.parametrize("name", IN_DOUBT)
def test_what_is_not_placed_exactly_is_said_with_both_values(name: str) -> None:
    release = found(name)
    assert set(release.doubts) == IN_DOUBT[name]
    for decision, (other, _) in release.doubts.items():
        value = release.kernel.decisions()[decision]
        assert other != value
        assert other in {kernel.decisions()[decision] for kernel in ALL}
        assert f"{decision} = {value} or {other}" in release.text()


@pytest.mark.parametrize(("name", "complaint"), [
    ("v4.0", "no rules are known of Linux 4.0; the model has those of 4.8 to 7.3-rc7"),
    ("9.1", "no rules are known of Linux 9.1; the model has those of 4.8 to 7.3-rc7"),
    ("7.4-rc1", "no rules are known of Linux 7.4-rc1"), ("2.6.32-754.el6", "no rules are known of Linux 2.6"),
    ("v5.20", "there was no Linux 5.20; the model has the rules of 4.8 to 7.3-rc7"),
])
def test_of_an_unknown_release_the_known_range_is_said(name: str, complaint: str) -> None:
    with pytest.raises(ModelError) as raised:
        find_kernel(name)
    assert str(raised.value).startswith(complaint)


@pytest.mark.parametrize("name", ["FreeBSD", "v5.9x", "v5", "5.9+fork-early-copy", "", "v6.x"])
def test_what_is_no_release_is_none(name: str) -> None:
    assert find(name) is None


@pytest.mark.parametrize(("spec", "name"), [
    ("v5.15@huge,ksm", "v5.14@huge,ksm"), ("bare:5.15+mprotect-refuse", "bare:v5.14+mprotect-refuse"),
    ("bare:6.12.118+deb13-amd64+uffd-wp-skip@huge", "bare:v6.12+uffd-wp-skip@huge"), ("v5.14", "v5.14"),
    ("page-count+uffd-wp-skip", "page-count+uffd-wp-skip"), ("5.15/mine.py:MINE", "5.15/mine.py:MINE"),
])
def test_a_release_may_stand_wherever_a_kernel_is_named(spec: str, name: str) -> None:
    assert resolved(spec)[0] == name
    assert bool(resolved(spec)[1]) == (spec != name)


def version(text: str) -> Version:
    release = releases.read(text)
    assert release is not None
    return release.version


def test_whatever_changed_between_two_kernels_is_placed_or_in_doubt() -> None:
    """Only where a release directly follows another one is nothing to be said of when it changed."""
    finals = [v for v, _ in MAINLINE]
    for (before, earlier), (after, later) in itertools.pairwise(MAINLINE):
        between = [Version(a, b) for a in range(4, 8) for b in range(21) if before < Version(a, b) < after
                   and b <= {4: 20, 5: 19, 6: 19}.get(a, b)]
        for decision in differing(earlier, later) if between else ():
            placed = [c for c in CHANGES if c.decision == decision and before < version(c.since) <= after]
            doubted = [d for d in DOUBTS if d.decision == decision and all(
                version(d.after) < v < version(d.by) for v in between[-1:])]
            assert len(placed) == 1 or doubted, (decision, str(before), str(after))
    assert finals == sorted(finals)


def test_every_entry_of_the_tables_changes_something() -> None:
    gaps = list(itertools.pairwise(MAINLINE))
    for change in CHANGES:
        assert any(
            before < version(change.since) <= after and change.decision in differing(earlier, later)
            for (before, earlier), (after, later) in gaps
        ), change
    values = {d: {k.decisions()[d] for k in ALL} for d in ALL[0].decisions()}
    for doubt in DOUBTS:
        assert set(doubt.values) <= values[doubt.decision]
        assert version(doubt.after) < version(doubt.by)
    for backport in BACKPORTS:
        old, new = found(f"{backport.oldest}.0").kernel, found(f"{backport.of}.0").kernel
        assert set(backport.decisions) <= set(differing(old, new)), backport
    for (major, minor), branch in BRANCHES.items():
        assert found(f"{major}.{minor}.{branch.patch}").kernel is branch.kernel
        assert set(branch.since) <= set(differing(found(f"{major}.{minor}.0").kernel, branch.kernel))


def test_a_decision_that_is_in_doubt_in_one_release_has_one_of_the_two_values_in_its_neighbours() -> None:
    for name in (f"{a}.{b}.0" for a in range(4, 8) for b in range(21) if Version(4, 8) <= Version(a, b, FINAL)):
        try:
            release = found(name)
        except ModelError:
            continue
        for decision, (other, why) in release.doubts.items():
            assert why
            assert {other, release.kernel.decisions()[decision]} <= {k.decisions()[decision] for k in ALL}
