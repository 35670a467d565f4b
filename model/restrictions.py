"""Restrictions on what may happen to a pinned page, as switches of a model that has nothing but a reuse rule.

`bare(V5_18)` is 5.18 with its rule for reuse and none of its restrictions; `restricted` turns some of them on. A
restriction only forbids, or copies, or has a reader prepare the page first; a variant also allows something new (it
gives the write bit back, or leaves it where it should go), so that more variants need not keep more promises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from z3 import And, Not, Or

from model.decisions import (
    copies_pinned,
    copies_pinned_exclusive,
    never,
    page_count_is_one_after_swap_cache,
    read_as_mapped,
    read_as_write,
    read_exclusive,
    read_private,
    restores_exclusive,
    restores_exclusive_unprotected,
)
from model.kernels import V5_7, V5_9, V5_19, Kernel
from model.logic import ModelError, Term
from model.state import (
    exclusive,
    has_pinned,
    in_swap_cache,
    mapped_only_by,
    maybe_pinned,
    pte_write,
    soft_dirty_needs_fault,
    uffd_protects,
    vma_write,
)

# Read GUP (p, v, f, foll_pin): see model/kernels.py.

def read_as_write_exclusive(p: Term, v: Term, f: Term, foll_pin: bool) -> Term:
    """As a write GUP; in a read-only VMA, the page must be exclusive. So it is wherever read_exclusive asks for it."""
    return Or(pte_write(p, v), And(Not(vma_write(p, v)), exclusive(f)))


def read_as_write_private(p: Term, v: Term, f: Term, foll_pin: bool) -> Term:
    """As a write GUP, and only a page that no other mapping or swap entry has."""
    return And(read_as_write(p, v, f, foll_pin), read_private(p, v, f, foll_pin))


def unshares_read_only(p: Term, v: Term, f: Term) -> Term:
    """The 5.18 test, for a reader that raises a write fault in a writable VMA and needs no other one there."""
    return And(Not(vma_write(p, v)), page_count_is_one_after_swap_cache(p, v, f))


# W back without a write fault (p, v, f). Un-protecting clears uffd-wp in the same step, so it does not ask for it.

def pinned_alone(p: Term, v: Term, f: Term) -> Term:
    """Maybe pinned by this mm, mapped by this PTE alone, in no swap cache, and no soft-dirty fault needed.

    A writable page that stayed in the swap cache could be unmapped by reclaim (docs/findings.md).
    """
    return And(
        has_pinned(p), maybe_pinned(f), mapped_only_by(p, v, f), Not(in_swap_cache(f)),
        Not(soft_dirty_needs_fault(p, v)),
    )


def restores_pinned(p: Term, v: Term, f: Term) -> Term:
    """`pinned_alone`, and no uffd-wp fault needed."""
    return And(pinned_alone(p, v, f), Not(uffd_protects(p, v)))


BARE = "bare:"
"""What stands before the name of a kernel of which only the reuse rule is meant."""


@dataclass(frozen=True)
class Restriction:
    """A switch of the model. `decisions`: what it sets in a kernel to which those before it have been applied."""

    name: str
    about: str
    source: str
    decisions: Callable[[Kernel], dict[str, Any]]


def _fork_early_copy(kernel: Kernel) -> dict[str, Any]:
    return {"fork_copies": copies_pinned_exclusive if kernel.exclusive_bit else copies_pinned}


def _read_gup_break(kernel: Kernel) -> dict[str, Any]:
    if kernel.exclusive_bit:
        return {"read_gup": read_as_write_exclusive, "read_gup_writes": True, "unshare": unshares_read_only}
    return {"read_gup": read_as_write, "read_gup_writes": True, "unshare": never}


def _read_gup_unshare(kernel: Kernel) -> dict[str, Any]:
    if kernel.exclusive_bit:
        # A reader that broke COW has what this one would ask for.
        if kernel.read_gup_writes:
            return {}
        return {"read_gup": read_exclusive, "unshare": page_count_is_one_after_swap_cache}
    return {"read_gup": read_as_write_private if kernel.read_gup_writes else read_private, "unshare": never}


def _mprotect_skip(kernel: Kernel) -> dict[str, Any]:
    # What is refused does not come to skipping.
    return {} if kernel.mprotect_pinned == "refuse" else {"mprotect_pinned": "skip"}


RESTRICTIONS: tuple[Restriction, ...] = (
    Restriction(
        "fork-early-copy", "fork gives the child its own copy of a pinned page at once", "70e806e4e645, fb3d824d1a46",
        _fork_early_copy,
    ),
    Restriction(
        "mprotect-refuse", "mprotect(PROT_READ) of a pinned writable page fails", "seed mail; domain.md 2.8",
        lambda kernel: {"mprotect_pinned": "refuse"},
    ),
    Restriction(
        "mprotect-other-skip", "an mprotect that leaves or gives VM_WRITE spares pinned writable pages",
        "change_pte_range: pte_modify", lambda kernel: {"mprotect_other_pinned": "skip"},
    ),
    Restriction(
        "soft-dirty-skip", "soft-dirty clear leaves pinned writable pages alone", "9348b73c2e1b",
        lambda kernel: {"soft_dirty_pinned": "skip"},
    ),
    Restriction(
        "uffd-wp-skip", "userfaultfd write-protect leaves pinned writable pages alone", "seed mail; domain.md 2.8",
        lambda kernel: {"uffd_wp_pinned": "skip"},
    ),
    Restriction(
        "uffd-unwp-skip", "userfaultfd un-protect leaves the write bit of pinned pages alone",
        "mwriteprotect_range, change_pte_range: pte_modify", lambda kernel: {"uffd_unwp_pinned": "skip"},
    ),
    Restriction(
        "swap-out-refuse", "reclaim adds no pinned page to the swap cache", "feb889fb40fa",
        lambda kernel: {"swap_out_pinned": "refuse"},
    ),
    Restriction(
        "unmap-refuse", "reclaim keeps pinned pages mapped, be they in the swap cache already or not", "6c287605fd56",
        lambda kernel: {"swap_out_pinned": "refuse", "unmap_pinned": "refuse"},
    ),
    Restriction(
        "writeback-wait", "a write fault waits for the end of writeback, so that it can free the swap cache",
        "reuse_swap_page", lambda kernel: {"fault_waits_for_writeback": True},
    ),
    Restriction(
        "read-gup-break", "a read GUP breaks COW as if it wrote", "17839856fd58", _read_gup_break,
    ),
    Restriction(
        "read-gup-unshare", "a read GUP of a shared page copies it, read-only; with PG_anon_exclusive a FOLL_PIN only",
        "lore 20200811183950.10603-1-peterx@redhat.com; 63e087ffb825 (own tree); c89357e27f20, a7f226604170",
        _read_gup_unshare,
    ),
)
"""In canonical order. More of them are meant to break less; nothing here relies on it."""

VARIANTS: tuple[Restriction, ...] = (
    Restriction(
        "mprotect-restore", "mprotect(RW) gives the write bit back to a page that is exclusive, or pinned here alone",
        "seed mail; 64fe24a3e05e, 6a56ccbcf6c6",
        lambda kernel: {"mprotect_restores": restores_exclusive if kernel.exclusive_bit else restores_pinned},
    ),
    Restriction(
        "uffd-wp-restore", "un-protecting gives the write bit back to a page that is exclusive, or pinned here alone",
        "931298e103c2",
        lambda kernel: {"uffd_restores": restores_exclusive_unprotected if kernel.exclusive_bit else pinned_alone},
    ),
    Restriction(
        "mprotect-skip", "mprotect(PROT_READ) leaves pinned writable pages writable; not if it is to refuse them",
        "seed mail; domain.md 2.8", _mprotect_skip,
    ),
)
"""In canonical order, after the restrictions. They also allow something, so each set of them is a case of its own."""

WITH_FEATURES: dict[str, Restriction] = {
    "ksm": Restriction(
        "ksm-refuse", "KSM leaves pages with references alone", "domain.md (k), F13",
        lambda kernel: {"ksm_referenced": "refuse"},
    ),
    "migration": Restriction(
        "migrate-refuse", "migration leaves pages with references alone", "domain.md (k)",
        lambda kernel: {"migrate_referenced": "refuse"},
    ),
    "huge": Restriction(
        "huge-same-rule", "a THP is reused by the rule for small pages", "3bff7e3f1f16",
        lambda kernel: {"huge_reuse": kernel.reuse},
    ),
}
"""Feature to the restriction of what it brings; offered where the feature is on."""

SWITCHES: dict[str, Restriction] = {
    switch.name: switch for switch in (*RESTRICTIONS, *WITH_FEATURES.values(), *VARIANTS)
}


def bare(kernel: Kernel, name: str = "") -> Kernel:
    """The kernel's reuse rule (also at swap-in), its PG_anon_exclusive and its own rules, without any switch.

    `name`: by default BARE and the kernel's.
    """
    return kernel.but(
        name or BARE + kernel.name, f"only the reuse rule of {kernel.name}",
        fork_copies=never, mprotect_pinned="clear", mprotect_other_pinned="clear", soft_dirty_pinned="clear",
        uffd_wp_pinned="clear", uffd_unwp_pinned="clear", swap_out_pinned="allow", unmap_pinned="allow",
        fault_waits_for_writeback=False, read_gup=read_as_mapped, read_gup_writes=False, unshare=None,
        unshare_writable=False, mprotect_restores=never, uffd_restores=never, ksm_referenced="allow",
        migrate_referenced="allow",
    )


BASES: dict[str, Kernel] = {
    name: bare(kernel, name) for name, kernel in (("page-count", V5_9), ("mapcount", V5_7), ("exclusive", V5_19))
}
"""The reuse rules of the discussion. `page-count` is 09854ba94c6a, where swap-in still decides by mapcount; for the
rule that covers swap-in too, take `bare(V5_18)`."""


def canonical(names: Collection[str]) -> tuple[str, ...]:
    """The switches of those names, each once, restrictions first. Raises ModelError for a name of none."""
    for name in names:
        if name not in SWITCHES:
            raise ModelError(f"no restriction {name!r}; there are {', '.join(SWITCHES)}")
    return tuple(name for name in SWITCHES if name in names)


def spec_of(base: str, names: Collection[str]) -> str:
    """The name by which the restricted kernel is found again: `page-count+fork-early-copy`, `bare:v5.18+...`.

    `base`: a name of BASES, or BARE and the name of a kernel; features (`@ksm`) come last. Raises ModelError for a name
    of no switch.
    """
    kernel, at, features = base.partition("@")
    return "+".join((kernel, *canonical(names))) + at + features


def restricted(base: Kernel, names: Collection[str]) -> Kernel:
    """A bare kernel with those switches on. Raises ModelError for a name of none."""
    kernel, cite = base, {}
    for name in canonical(names):
        kernel = replace(kernel, **SWITCHES[name].decisions(kernel))
        cite[name] = SWITCHES[name].source
    return kernel.but(spec_of(base.name, names), ", ".join((base.about, *cite)), cite) if cite else base
