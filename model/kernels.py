"""The kernels, each a record of decisions and a difference from another one, with the commits that made it.

Decisions are in decisions.py; the rules ask the kernel for them. To try a rule of your own, write
`MINE = V5_9.but("mine", "what it does", reuse=my_predicate)` in a file and name it as `file.py:MINE`.
Sources: domain.md sections 0.1, 2 and 8; commit ids as given there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from model import accessed, hugetlb, lapses, locks, longterm
from model.all_rules import ALL_RULES
from model.blame import defect, is_models, nearest, place_of

# All predicates, also those of which no kernel here is made: who writes one finds them beside the kernels.
from model.decisions import (
    DECISIONS,
    PREDICATES,
    WORDS_ALLOWED,
    Decisions,
    Predicate,
    always,
    as_it_was,
    copies_pinned,
    copies_pinned_exclusive,
    exclusive_only,
    exclusive_or_alone,
    exclusive_or_page_count,
    mapcount_is_one,
    mapped_in_one_mm,
    never,
    not_exclusive,
    not_for_long,
    page_count_is_one,
    page_count_is_one_after_swap_cache,
    page_count_is_one_of_any,
    page_mapcount_is_one,
    read_as_mapped,
    read_as_write,
    read_exclusive,
    read_private,
    restores_dirty_exclusive,
    restores_exclusive,
    restores_exclusive_unprotected,
    reused_by_mapcount,
    swap_in_by_exclusive,
    swap_in_by_exclusive_only,
    swap_in_by_mapcount,
    swap_in_by_page_count,
    swap_in_by_page_count_read_only,
    unpinned_in_one_mm,
    value_text,
    writable_if_exclusive,
)
from model.features import FEATURES, SPLIT
from model.logic import ModelError, Rule, RuleTemplate, System, Term, not_writing
from model.operations import Operation
from model.state import BY_NAME, CONSTANTS, FUNCTIONS, Bool, fresh
from model.user_rules import arguments_of, check_decision, check_operation, check_rule


@dataclass(frozen=True)
class Kernel(Decisions):
    """A named record of decisions, with a transition system.

    own_rules                         further rules, written as in model/fault.py
    own_operations                    operations of litmus tests that take them, as `Operation("repair", ("v",),
                                      goal=("repair",))`
    lemmas                            closed formulas that proofs may use, `forall(Pin, Frame, lambda k, f: ...)`;
                                      each must be proved inductive as everything else
    lapses                            what the rules take for granted, and this kernel does not do: names of lapses.py
    """

    own_rules: tuple[RuleTemplate, ...] = field(default=(), repr=False)
    own_operations: tuple[Operation, ...] = field(default=(), repr=False)
    lemmas: tuple[Term, ...] = field(default=(), repr=False)
    lapses: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for f in fields(self):
            self._check_kind(f.name, str(f.type), getattr(self, f.name))
        for name, allowed in WORDS_ALLOWED.items():
            _one_of(self.name, name, getattr(self, name), allowed)
        for lemma in self.lemmas:
            if wrong := defect(lemma, Bool, BY_NAME, CONSTANTS):
                raise ModelError(f"kernel {self.name}: a lemma {wrong}")
        for lapse in self.lapses:
            if lapse not in lapses.LAPSES:
                raise ModelError(f"kernel {self.name}: no lapse {lapse!r}{nearest(lapse, lapses.LAPSES)}")
        taken = {template.name for template in ALL_RULES}
        for template in self.own_rules:
            if template.name in taken:
                raise ModelError(f"kernel {self.name}: there is a rule {template.name!r} already; say another name")
            taken.add(template.name)
            for feature in (*template.features, *template.split):
                if feature not in FEATURES:
                    raise ModelError(f"rule {template.name}: no feature {feature!r}{nearest(feature, FEATURES)}")
        rules = {template.name: template for template in (*ALL_RULES, *self.own_rules)}
        for number, operation in enumerate(self.own_operations):
            check_operation(self.name, operation, rules, self.own_operations[:number])

    def _check_kind(self, name: str, kind: str, value: Any) -> None:
        """Raises ModelError if that is no value for the field."""
        if kind.startswith("Predicate"):
            arguments = ", ".join(n for n, _ in arguments_of(name))
            wanted, fits = f"a function ({arguments})", callable(value) or (value is None and "None" in kind)
        elif kind == "bool":
            wanted, fits = "True or False", isinstance(value, bool)
        elif kind.startswith("tuple[RuleTemplate"):
            wanted = "a tuple of rules, as (my_rule,)"
            fits = isinstance(value, tuple) and all(isinstance(v, RuleTemplate) for v in value)
        elif kind.startswith("tuple[Operation"):
            wanted = 'a tuple of operations, as (Operation("repair", ("v",), goal=("repair",)),)'
            fits = isinstance(value, tuple) and all(isinstance(v, Operation) for v in value)
        elif kind.startswith("tuple[str,"):
            wanted = "a tuple of names, as ('name',)"
            fits = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
        elif kind.startswith("tuple[Term"):
            wanted, fits = "a tuple of closed formulas, as (forall(...),)", isinstance(value, tuple)
        elif kind == "str":
            wanted, fits = "a text", isinstance(value, str)
        else:
            return
        if not fits:
            raise ModelError(f"kernel {self.name}: {name} is {wanted}, not {value!r}")

    def but(self, name: str, about: str, cite: Mapping[str, str] | None = None, **decisions: Any) -> Kernel:
        """This kernel with other decisions. `cite`: decision (or any other change) to commit or other source.

        Raises ModelError for an unknown decision or a value that it cannot have.
        """
        known = {f.name for f in fields(Kernel)} - {"name", "about", "base", "cite"}
        for decision in decisions:
            if decision not in known:
                raise ModelError(f"kernel {name}: no decision {decision!r}{nearest(decision, sorted(known))}")
        return replace(
            self, name=name, about=about, base=self.name, cite=tuple((cite or {}).items()), **decisions
        )

    @property
    def unusual_rules(self) -> frozenset[str]:
        """Names of the rules that are not as the model has them: its own, and those that its lapses change.

        What holds of the model's rules because they were checked, as that no cell matters unwritten, is not known of
        these.
        """
        changed = frozenset(name for lapse in self.lapses for name in lapses.LAPSES[lapse].rules)
        return changed.union(template.name for template in self.own_rules)

    def plain(self, keep: Collection[str] = ()) -> Kernel:
        """The kernel without its own rules, but those of these names, and without operations that would lack one."""
        rules = tuple(template for template in self.own_rules if template.name in keep)
        dropped = {template.name for template in self.own_rules} - {template.name for template in rules}
        operations = tuple(o for o in self.own_operations if not dropped.intersection(o.rules))
        return replace(self, own_rules=rules, own_operations=operations)

    def decisions(self) -> dict[str, str]:
        """Decision to a short text of its value: the predicate's name, or the value itself."""
        return {name: value_text(getattr(self, name)) for name in DECISIONS}

    def system(self, features: Collection[str] = ()) -> System:
        """The transition system of this kernel with those features; its decisions and what is then false are folded.

        Raises ModelError for an unknown feature, or, with its line, if a decision or rule of the user's own fails or
        gives no term of the model's.
        """
        for feature in features:
            if feature not in FEATURES:
                raise ModelError(f"no feature {feature!r}; there are {', '.join(FEATURES)}")
        self.check()
        rules: list[Rule] = []
        split = frozenset(f for f in features if f in SPLIT)
        deciding = replace(self, **lapses.decided(self.lapses, lambda name: getattr(self, name)))
        for template in (*ALL_RULES, *self.own_rules):
            if not template.features <= frozenset(features):
                continue
            rules += _built(deciding, template, split if template.split & split else frozenset())[1]
        rules = hugetlb.spared(lapses.applied(self.lapses, rules), features, self.own_rules)
        rules = accessed.followed(longterm.placed(self, rules, features), features)
        lacking = {f.name: f for f in FUNCTIONS if not f.asked_with(features)}
        rules = [not_writing(r, lacking) for r in rules]
        return System(self.name, FUNCTIONS, tuple(rules), CONSTANTS).settled()

    def own_decisions(self) -> dict[str, Any]:
        """The decisions that are functions of a user's, by name."""
        values = {name: getattr(self, name) for name in DECISIONS if name in PREDICATES}
        return {name: value for name, value in values.items() if value is not None and not is_models(value)}

    def place_of(self, decide: Any) -> str:
        """Where one of these, or the body of a rule, stands; the kernel's name if that is not known."""
        return place_of(decide) or f"kernel {self.name}"

    def check(self) -> None:
        """Raises ModelError, with the line, if a decision or rule of the user's own makes no sense."""
        for name, decide in self.own_decisions().items():
            check_decision(name, decide, self.place_of(decide))
        for template in self.own_rules:
            check_rule(self, template, self.place_of(template.body))


class _Asked:
    """A kernel that remembers for which of its decisions it was asked."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.decisions: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        self.decisions[name] = getattr(self._kernel, name)
        return self.decisions[name]


_known: dict[tuple[RuleTemplate, frozenset[str]], list[tuple[dict[str, Any], tuple[Rule, ...]]]] = {}
_MOST_KNOWN = 64


def _built(kernel: Kernel, template: RuleTemplate, split: frozenset[str]) -> tuple[dict[str, Any], tuple[Rule, ...]]:
    """The rules of one template, built once for all kernels that decide alike what it asks for; and what that is."""
    known = _known.setdefault((template, split), [])
    for decisions, rules in known:
        if all(getattr(kernel, name) is value for name, value in decisions.items()):
            return decisions, rules
    asked = _Asked(kernel)
    rules = tuple(template.build(asked, fresh, split, locks.asks))
    known[:] = [(asked.decisions, rules), *known[:_MOST_KNOWN - 1]]
    return asked.decisions, rules


def differing(a: Decisions, b: Decisions) -> tuple[str, ...]:
    """Names of the decisions in which two kernels differ, in the order of the record."""
    return tuple(name for name in DECISIONS if getattr(a, name) != getattr(b, name))


def own_operations(kernels: Iterable[Kernel]) -> tuple[Operation, ...]:
    """The operations that those kernels declare. Raises ModelError if two say otherwise what one word is."""
    found: dict[tuple[str, frozenset[str]], tuple[Operation, str]] = {}
    for kernel in kernels:
        for operation in kernel.own_operations:
            other, declares = found.setdefault((operation.word, operation.flags), (operation, kernel.name))
            if other != operation:
                both = f"{declares} and {kernel.name} both declare {operation.name!r}"
                raise ModelError(f"{both}, not alike: ask each alone")
    return tuple(operation for operation, _ in found.values())


def most_alike(kernel: Decisions, among: Iterable[Kernel]) -> Kernel:
    """Of those kernels the one that decides most as this one does; the first of several."""
    return max(among, key=lambda k: sum(getattr(k, d) is getattr(kernel, d) for d in DECISIONS))


def sources_of(kernel: Kernel) -> dict[str, str]:
    """Decision to its source, of the kernel and those of the model that it is made from."""
    base = next((k for k in (*KERNELS, *FURTHER) if k.name == kernel.base), None)
    own = {what.strip(): commit for many, commit in kernel.cite for what in many.split(",")}
    return (sources_of(base) if base is not None else {}) | own


def asked_of(kernel: Kernel, template: RuleTemplate) -> frozenset[str]:
    """The decisions for which the template's rule asks the kernel."""
    return frozenset(_built(kernel, template, frozenset())[0])


def _one_of(kernel: str, decision: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ModelError(f"kernel {kernel}: {decision} is one of {', '.join(allowed)}, not {value!r}")


V5_7 = Kernel(
    "v5.7", "M0: reuse by mapcount and swap count; read GUP takes whatever is mapped", None,
    (("reuse", "c475a8ab625d"), ("longterm_migrates", "9a4e9f3b2d73 (5.2)")),
    reuse=reused_by_mapcount, reuse_frees_swap_cache=always, read_gup=read_as_mapped, fork_copies=never,
    swap_in_reuse=swap_in_by_mapcount, swap_in_frees=swap_in_by_mapcount, reuse_ksm=page_count_is_one,
    huge_copies=True, collapse_shared=False, collapse_compound=False, collapse_cached=reused_by_mapcount,
)
V4_14 = V5_7.but(
    "v4.14", "M0 before the huge Dirty COW fix: a read GUP makes a PMD dirty", {"touch_dirties_pmd": "a8f97366452e"},
    touch_dirties_pmd=True, swap_in_sync="cached",
)
V4_8 = V4_14.but(
    "v4.8", "M0 before the Dirty COW fix: a forced write is retried as a read",
    {"force_proof": "19be0eaffa3a", "migrate_large": "616b8371539a (4.14)"},
    force_proof="retry-as-read", migrate_large="split",
)
THP_5_8: dict[str, Any] = {
    "huge_copies": False, "collapse_shared": True, "collapse_compound": True, "split_locks_page": True,
}
"""What 5.8 changed about huge pages, for all that came after it."""
THP_5_8_COMMITS = {
    "huge_copies": "3917c80280c9", "collapse_shared": "71a2c112a0f6", "collapse_compound": "5503fbf2b0b8",
    "split_locks_page": "c444eb564fb1",
}
V5_8 = V5_7.but(
    "v5.8", "M1: read GUP breaks COW as if it wrote", {"read_gup": "17839856fd58", **THP_5_8_COMMITS},
    read_gup=read_as_write, read_gup_nonanon=never, read_gup_writes=True, unshare=never, **THP_5_8,
)
V5_9_RC4 = V5_7.but(
    "v5.9-rc4", "R0: reuse only when page_count is 1; read GUP as in 5.7 again",
    {"reuse": "09854ba94c6a", "read_gup": "a308c71bf1e6", "reuse_ksm": "1a0cf26323c8", **THP_5_8_COMMITS},
    reuse=page_count_is_one, reuse_frees_swap_cache=never, trylock=True, reuse_ksm=never, **THP_5_8,
)
V5_9 = V5_9_RC4.but(
    "v5.9", "R1: fork copies pages that are maybe pinned", {"fork_copies": "70e806e4e645, f3c64eda3e50"},
    fork_copies=copies_pinned,
)
V5_11 = V5_9.but(
    "v5.11", "R2: soft-dirty clear and reclaim leave pinned pages alone; fork excludes GUP-fast",
    {"soft_dirty_pinned": "9348b73c2e1b", "swap_out_pinned": "feb889fb40fa",
     "fork_seqcount": "57efa1fe5957", "soft_dirty_lock": "29a951dfb3c3"},
    soft_dirty_pinned="skip", swap_out_pinned="refuse", fork_seqcount=True, soft_dirty_lock="write",
)
V5_12 = V5_11.but(
    "v5.12", "R2, and do_wp_page flushes a deferred uffd-wp TLB flush",
    {"wp_flushes_uffd": "6ce64428d620"}, wp_flushes_uffd=True,
)
V5_14 = V5_12.but(
    "v5.14", "R2, and a copy frees the old page's idle swap-cache entry",
    {"copy_frees_swap_cache": "f4c4a3f48480", "early_copy_keeps_uffd_wp": "8f34f1eac382", "dontunmap_unlinks":
     "1583aa278f52", "hugetlb_fork_copies, hugetlb_copy_writable": "4eae4efa2c29", "longterm_migrates": "d1e153fea2a8"},
    copy_frees_swap_cache=True, longterm_migrates="movable", early_copy_keeps_uffd_wp=True, dontunmap_unlinks=True,
    hugetlb_fork_copies=copies_pinned, hugetlb_copy_writable=True,
)
V5_16 = V5_14.but(
    "v5.16", "R2, and UFFDIO_CONTINUE installs page cache pages dirty (CVE-2022-2590)",
    {"uffd_continue_dirty": "9ae0f87d009c", "mremap_looks_first": "550a7d60bd5e"}, uffd_continue_dirty=True,
    mremap_looks_first=True,
)
V5_17 = V5_16.but(
    "v5.17", "R2, and NUMA hinting skips COW pages with other references", {"numa_hints": "80d47f5de5e3"},
    numa_hints=page_count_is_one_of_any,
)
V5_18 = V5_17.but(
    "v5.18", "R3: the page_count rule also at swap-in; the swap cache is dropped before deciding",
    {"reuse": "53a05ad9f21d", "swap_in_reuse": "c145e0b47c77", "huge_reuse": "3bff7e3f1f16",
     "discard_counts": "6c8e2a256915", "split_locks_page": "7f7609175ff2", "collapse_cached": "363106c4cefe"},
    huge_reuse=page_count_is_one_after_swap_cache, discard_counts=True, split_locks_page=False, collapse_cached=always,
    reuse=page_count_is_one_after_swap_cache, reuse_frees_swap_cache=always,
    swap_in_reuse=swap_in_by_page_count, swap_in_frees=swap_in_by_page_count,
)
V5_19 = V5_18.but(
    "v5.19", "X1: PG_anon_exclusive decides; a read-only FOLL_PIN unshares first",
    {"exclusive_bit": "78fbe906cc90, 6c287605fd56", "unshare": "c89357e27f20", "read_gup": "a7f226604170",
     "fork_copies, hugetlb_fork_copies": "fb3d824d1a46", "unmap_pinned": "6c287605fd56",
     "swap_in_reuse": "1493a1913e34", "uffd_markers, copy_protects_read_only, copy_fills_markers":
     "vma_can_userfault, mfill_atomic_install_pte: 5.19, read in 6.1.192"},
    exclusive_bit=True, huge_reuse=exclusive_or_page_count, reuse=exclusive_or_page_count,
    reuse_frees_swap_cache=not_exclusive, read_gup=read_exclusive,
    unshare=page_count_is_one_after_swap_cache, fork_copies=copies_pinned_exclusive,
    hugetlb_fork_copies=copies_pinned_exclusive, swap_in_reuse=swap_in_by_exclusive, swap_in_counts=True,
    unmap_pinned="refuse", uffd_markers=True, copy_protects_read_only=True, copy_fills_markers=True,
)
V6_0 = V5_19.but(
    "v6.0", "X1, and mprotect gives the write bit back to exclusive dirty pages",
    {"mprotect_restores": "64fe24a3e05e", "force_proof": "5535be309971", "unregister_unprotects": "f369b07c8614"},
    mprotect_restores=restores_dirty_exclusive, force_proof="exclusive", unregister_unprotects=True,
)
V6_1 = V6_0.but(
    "v6.1", "X1, and GUP-fast reads PG_anon_exclusive last",
    {"gup_fast_ordered": "088b8aa537c2", "migration_dirty": "2e3468778dbe", "follows_inaccessible": "474098edac26",
     "lazyfree_splits, ksm_walks": "folio_estimated_sharers in madvise_free_pte_range, ksm_next_page_ops of 6.1.192",
     "collapse_rechecks_uffd_wp": "dd47ac428c3f, backport of 6.1.26 (read in Debian's 6.1.192)",
     "migration_keeps_uffd_wp": "24bf08c4376b, backport (mm/huge_memory.c of Debian's 6.1.192)",
     "swap_in_sync": "13ddaf26be32, backport (mm/memory.c of Debian's 6.1.192)",
     "mremap_clears_uffd_wp": "0cef0bb836e3, backport (mm/mremap.c of Debian's 6.1.192)"},
    mremap_clears_uffd_wp=True, gup_fast_ordered=True, lazyfree_splits=mapped_in_one_mm, collapse_rechecks_uffd_wp=True,
    migration_dirty="soft-dirty", migration_keeps_uffd_wp=True, follows_inaccessible=False, ksm_walks=True,
    swap_in_sync="guards",
)
V6_2 = V6_1.but(
    "v6.2", "X2: mprotect no longer asks for dirty; a read-only FOLL_LONGTERM unshares everything",
    {"mprotect_restores, numa_write": "6a56ccbcf6c6", "read_gup_nonanon": "84209e87c696", "ksm_walks": "not by 6.4",
     "collapse_rechecks_uffd_wp": "dd47ac428c3f is in 6.3", "migration_keeps_uffd_wp": "24bf08c4376b is of 6.3",
     "mremap_clears_uffd_wp": "0cef0bb836e3 is of 6.13", "unmerge_unshares": "6cce3314b928",
     "swap_in_sync": "13ddaf26be32 is of 6.8"},
    mprotect_restores=restores_exclusive, read_gup_nonanon=not_for_long, unmerge_unshares=True,
    numa_write=writable_if_exclusive, collapse_rechecks_uffd_wp=False, migration_keeps_uffd_wp=False,
    mremap_clears_uffd_wp=False, ksm_walks=False, swap_in_sync="skips",
)
BY_6_4: dict[str, Any] = dict.fromkeys((
    "migration_keeps_uffd_wp", "collapse_rechecks_uffd_wp", "split_keeps_dirty", "uffd_across_vmas", "uffd_unpopulated",
), True)
"""What 6.3 and 6.4 changed about huge pages, for all that came after them."""
BY_6_4_COMMITS = {
    "migration_keeps_uffd_wp": "24bf08c4376b (6.3)", "collapse_rechecks_uffd_wp": "dd47ac428c3f (6.3)",
    "uffd_across_vmas": "a1b92a3f14", "uffd_unpopulated": "2bad466cc9d9",
    "split_keeps_dirty": "6.4, mm/huge_memory.c: the partial revert 624a2c94f5b7 of 0ccf7f168e17 is reverted",
}
V6_4_0 = V6_2.but(
    "v6.4.0", "X2, un-protecting may map exclusive pages writable, and faults under per-VMA locks run during fork",
    {"uffd_restores": "931298e103c2 (6.3)", "fork_excludes_faults": "domain.md F20", **BY_6_4_COMMITS},
    uffd_restores=restores_exclusive_unprotected, fork_excludes_faults=False, **BY_6_4,
)
V6_12 = V6_2.but(
    "v6.12", "X2, un-protecting and swap-in on read may map exclusive pages writable; large folios only if exclusive",
    {"uffd_restores": "931298e103c2 (6.3)", "swap_in_upgrades": "c18160dba5ff (6.11)", "uffd_async": "d61ea1cb0095",
     "follows_inaccessible": "d74943a2f3cd (6.5)", "ksm_walks": "ksm_next_page_ops, backport (read in 6.12.118)",
     "reuse_large": "domain.md 2.12 [D6.12]", "migrate_large": "7262f208ca68 (6.9)", "swap_in_sync": "13ddaf26be32",
     "migration_dirty": "mm/migrate.c: pte_clear_soft_dirty is in 6.12, not in 6.6",
     "split_zero_parts": "b1f202060afe; 9658d698a8a8, backport (mm/migrate.c of Debian's 6.12.118)",
     "numa_hints": "folio_maybe_dma_pinned, folio_likely_mapped_shared in change_pte_range, read in 6.12.118",
     "ksm_keeps_soft_dirty, lazyfree_spares_ksm, uffd_move_gives_up": "read in 6.12.118 alone",
     "mremap_clears_uffd_wp": "0cef0bb836e3, backport (read in 6.12.118)", "uffd_prepares_first": "867a43a34ff8",
     "uffd_move, move_soft_dirty": "adef440691ba, with c50f8e6053b0 0ea148a79919 75cb1cca2c88", **BY_6_4_COMMITS},
    uffd_restores=restores_exclusive_unprotected, swap_in_upgrades=True, reuse_large=exclusive_only,
    numa_hints=unpinned_in_one_mm, ksm_keeps_soft_dirty=True, lazyfree_spares_ksm=True, move_soft_dirty=True,
    migrate_large="split-partial", migration_dirty="keep", split_zero_parts="map", uffd_move="rechecks", ksm_walks=True,
    mremap_clears_uffd_wp=True, follows_inaccessible=True, swap_in_sync="guards", uffd_prepares_first=True,
    uffd_move_gives_up=True, uffd_async=True, **BY_6_4,
)
V6_15 = V6_12.but(
    "v6.15", "X3: a large folio is reused if all its mappings are one mm's (mm ids)",
    {"reuse_large": "6af8cb80d3a9, 1da190f4d0a6", "huge_zero_fresh, huge_zero_unshare": "1ced09e0331f (6.13)",
     "dontneed_frees_tables": "6375e95f381e (6.14)", "lazyfree_stays": "try_to_unmap_one, read in 7.2.13; 6.15",
     "ksm_keeps_soft_dirty, lazyfree_spares_ksm, uffd_move_gives_up": "not in 7.2.13", "split_zero_parts": "6.18",
     "uffd_move": "c50f8e6053b0 (6.14); 0ea148a79919 is of 6.16", "move_soft_dirty, ksm_walks": "after 6.15",
     "guard_regions": "662df3e5c376, 7c53dfbdb024 (6.13)", "guard_files": "f807123d578d"},
    reuse_large=exclusive_or_alone, huge_zero_fresh=True, huge_zero_unshare="as-write", dontneed_frees_tables=True,
    lazyfree_stays=True, ksm_keeps_soft_dirty=False, lazyfree_spares_ksm=False, split_zero_parts="map-bare",
    guard_files="anon-vma", uffd_move="carries", move_soft_dirty=False, ksm_walks=False, uffd_move_gives_up=False,
    guard_regions=True,
)
V6_18 = V6_15.but(
    "v6.18", "X3, and collapse takes blocks of which no PTE is writable",
    {"collapse_read_only": "SCAN_PAGE_RO is in 6.12, not in 7.2 nor in a running 6.18", "protect_batches": "6.17",
     "split_zero_parts": "9658d698a8a8", "uffd_move": "0ea148a79919 (6.16)", "move_soft_dirty": "75cb1cca2c88 (6.16)"},
    collapse_read_only=True, split_zero_parts="map", uffd_move="rechecks", move_soft_dirty=True, protect_batches=True,
)
V7_2 = V6_18.but(
    "v7.2", "X4: a swapped-in page is mapped before it may leave the swap cache, so that only its entry's bit decides",
    {"swap_in_reuse, swap_in_counts, swap_in_frees, swap_in_sync": "do_swap_page, mm/memory.c, read in 7.2.13",
     "numa_hints_huge, hugetlb_copy_writable, ksm_walks, dofork_of_special, guard_files, copy_fills_markers": "7.2.13"},
    swap_in_reuse=swap_in_by_exclusive_only, swap_in_frees=swap_in_by_page_count_read_only, swap_in_counts=False,
    numa_hints_huge=unpinned_in_one_mm, hugetlb_copy_writable=False, ksm_walks=True, swap_in_sync="frees",
    dofork_of_special=False, guard_files="flag", copy_fills_markers=False,
)
V7_3_RC7 = V7_2.but(
    "v7.3-rc7", "X4, and only an exclusive page leaves the swap cache at a write fault, whoever refers to it",
    {"swap_in_frees, register_narrows": "should_try_to_free_swap, userfaultfd_register, read in 7.3-rc7"},
    swap_in_frees=swap_in_by_exclusive_only, register_narrows=False,
)
DEBIAN_5_10 = V5_12.but(
    "debian-5.10", "R2, as 5.10.y has it with its backports (read in Debian's 5.10.262)",
    {"fork_seqcount, soft_dirty_lock, soft_dirty_pinned, swap_out_pinned, wp_flushes_uffd": "backports, as in 5.12",
     "numa_hints": "80d47f5de5e3, backport (mm/mprotect.c)", "discard_counts": "6c8e2a256915, backport (mm/rmap.c)",
     "collapse_rechecks_uffd_wp, early_copy_keeps_uffd_wp, ksm_walks": "backports"},
    numa_hints=page_count_is_one_of_any, discard_counts=True, collapse_rechecks_uffd_wp=True,
    early_copy_keeps_uffd_wp=True, ksm_walks=True,
)


def break_cow(copy_writable: bool = False) -> Kernel:
    """Peter Xu's FOLL_BREAK_COW, August 2020, on 5.8's mapcount rule: a read GUP of a shared page copies it.

    `copy_writable`: the copy is mapped writable and forgets uffd-wp, the objection to v2; the default is the form the
    discussion asked for. The text of v3 was not available (domain.md 2.3)."""
    return V5_7.but(
        "break-cow" if not copy_writable else "break-cow-v2",
        "PX: reuse by mapcount; read GUP breaks COW without being a write",
        {"read_gup, unshare": "lore 20200811183950.10603-1-peterx@redhat.com", **THP_5_8_COMMITS},
        read_gup=read_private, read_gup_nonanon=never, unshare=never, unshare_writable=copy_writable, **THP_5_8,
    )


def mapcount_unshare(fork_copies: Predicate = copies_pinned) -> Kernel:
    """Andrea Arcangeli's proposal, January 2021: mapcount decides everywhere, a read GUP unshares (domain.md 2.7).

    `fork_copies`: whether fork's early copy was kept is not known; by default it is, as in the tree it was built on.
    """
    kept = fork_copies is copies_pinned
    return V5_11.but(
        "mapcount-unshare" if kept else "mapcount-unshare-fork-shares",
        "AA: reuse by mapcount, read GUP unshares" + ("" if kept else ", fork shares pinned pages"),
        {"unshare": "63e087ffb825 (own tree)"},
        reuse=reused_by_mapcount, reuse_frees_swap_cache=always, trylock=False, read_gup=read_private,
        read_gup_nonanon=not_for_long, unshare=never, fork_copies=fork_copies,
    )


BREAK_COW = break_cow()
MAPCOUNT_UNSHARE = mapcount_unshare()
WRPROTECT_FAIL = V5_12.but(
    "wrprotect-fail", "NW: write-protecting a pinned page fails (mprotect, clear_refs, uffd-wp)",
    {"all three": "seed mail; domain.md 2.8"},
    mprotect_pinned="refuse", soft_dirty_pinned="refuse", uffd_wp_pinned="refuse",
)
WRPROTECT_SKIP = V5_12.but(
    "wrprotect-skip", "NW: write-protecting skips pinned pages (mprotect, clear_refs, uffd-wp)",
    {"all three": "seed mail; domain.md 2.8"}, mprotect_pinned="skip", soft_dirty_pinned="skip", uffd_wp_pinned="skip",
)

KERNELS: tuple[Kernel, ...] = (
    V5_7, V5_8, V5_9_RC4, V5_9, V5_11, V5_12, V5_14, V5_17, V5_18, V5_19, V6_0, V6_2, V6_15, V7_2,
    BREAK_COW, MAPCOUNT_UNSHARE, WRPROTECT_FAIL, WRPROTECT_SKIP,
)
"""Every kernel of the default table, in the order of its rows."""

FURTHER: tuple[Kernel, ...] = (V4_8, V4_14, DEBIAN_5_10, V5_16, V6_1, V6_4_0, V6_12, V6_18, V7_3_RC7)
"""Kernels beside the default table; there each but v6.4.0 would have the terms of one of its rows."""
