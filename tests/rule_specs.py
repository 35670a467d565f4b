"""What single rules do, said for each as a short history and the state it must leave: what litmus answers do not show.

A history is litmus statements for process A with page x (registered with userfaultfd unless `pages` declare others, and
holding 1 unless the page is said to be untouched), then the steps in `then`. After it, `cells` have those
values, the rules in `path` were taken (if given), and the steps in `never` are not enabled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from model.kernels import Kernel
from model.logic import System
from proofs.interpreter import Instance
from proofs.litmus import answer, parse
from proofs.trace import Trace

OLD = ("v5.7", "v5.9", "v5.14", "v5.18")
ALL = (*OLD, "v5.8", "v5.19", "v6.0", "v6.15", "mapcount-unshare", "wrprotect-fail", "wrprotect-skip")
EXCLUSIVE = ("v5.19", "v6.0", "v6.15")


@dataclass(frozen=True)
class Spec:
    """One specification. `never`: (rule, binding by parameter name to element name), for example ("exit", "p=A")."""

    says: str
    history: str
    cells: dict[str, str | bool] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    never: tuple[tuple[str, str], ...] = ()
    kernels: tuple[str, ...] = ALL
    untouched: bool = False
    then: tuple[tuple[str, str], ...] = ()
    pages: tuple[str, ...] = ("page x uffd",)


SPECS = (
    Spec("a store makes the PTE dirty", "*: pageout x; A: read x; A: write x 2", {"pte_dirty(A, x)": True}),
    Spec("a fresh page is mapped dirty, soft-dirty and unprotected", "A: r = get x write",
         {"pte_dirty(A, x)": True, "pte_soft_dirty(A, x)": True, "pte_uffd_wp(A, x)": False,
          "uffd_armed(A, x)": False}, untouched=True),
    Spec("reuse makes the PTE dirty and soft-dirty", "A: clear-soft-dirty; A: r = get x write",
         {"pte_dirty(A, x)": True, "pte_soft_dirty(A, x)": True},
         ("anon-fault", "store", "clear-soft-dirty", "wp-reuse", "get-write")),
    Spec("reuse after a read swap-in makes the PTE dirty", "*: pageout x; A: read x; A: r = get x write",
         {"pte_dirty(A, x)": True, "pte_frame(A, x)": "P"}, kernels=("v5.7", "v5.18", "v5.19", "v6.0")),
    Spec("a copy is mapped writable, dirty and soft-dirty, by one fault", "A: fork C; A: r = get x write",
         {"pte_frame(A, x)": "Q", "pte_frame(C, x)": "P", "pte_dirty(A, x)": True, "pte_soft_dirty(A, x)": True,
          "pte_write(A, x)": True, "pin_frame(r)": "Q"},
         ("anon-fault", "store", "fork", "wp-copy", "get-write")),
    Spec("a copy of a clean page is dirty", "*: pageout x; A: read x; A: fork C; A: r = get x write",
         {"pte_dirty(A, x)": True, "pte_dirty(C, x)": False}),
    Spec("a page that only one process maps is not copied, whoever shared it before", "A: fork C; C: exit",
         never=(("wp-copy", "p=A v=x new=Q"), ("unshare-copy", "p=A v=x new=Q"))),
    Spec("a write swap-in of a private page maps it dirty and soft-dirty",
         "A: clear-soft-dirty; *: pageout x; A: r = get x write",
         {"pte_dirty(A, x)": True, "pte_soft_dirty(A, x)": True, "pte_write(A, x)": True}),
    Spec("a write swap-in of a private page needs one fault and leaves the swap cache",
         "*: pageout x; A: r = get x write",
         {"pte_dirty(A, x)": True, "pte_write(A, x)": True, "cached(s0)": False},
         ("anon-fault", "store", "swap-out", "reclaim-swap-cache", "swap-cache-read", "swap-in-write", "get-write")),
    Spec("a read swap-in maps read-only before 6.15", "*: pageout x; A: read x", {"pte_write(A, x)": False},
         kernels=(*OLD, "v5.19", "v6.0", "v6.2")),
    Spec("... and writable from then on, if the page is exclusive", "*: pageout x; A: read x",
         {"pte_write(A, x)": True, "exclusive(P)": True}, kernels=("v6.15",)),
    Spec("a swap entry remembers exclusiveness also of a page that is in the swap cache already",
         "*: extra-ref x; *: pageout x; A: read x; *: pageout x",
         {"pte_swap_exclusive(A, x)": True, "exclusive(P)": False}, kernels=EXCLUSIVE),
    Spec("swap keeps soft-dirty clear and uffd-wp set", "A: clear-soft-dirty; A: uffd-wp x; *: pageout x; A: read x",
         {"pte_soft_dirty(A, x)": False, "pte_uffd_wp(A, x)": True, "pte_write(A, x)": False,
          "pte_dirty(A, x)": False}),
    Spec("a FOLL_GET is held by the mm that took it, at that address", "A: fork C; C: r = vmsplice x",
         {"pin_live(r)": True, "pin_proc(r)": "C", "pin_page(r)": "x", "pin_frame(r)": "P", "pin_foll_pin(r)": False,
          "pin_write(r)": False, "pin_attached(r)": True, "has_pinned(C)": False},
         kernels=("v5.7", "v5.9", "v5.18", "v6.15"), never=(("get-read", "p=A v=x k=r"), ("get-write", "p=A v=x k=r"))),
    Spec("a FOLL_GET for writing", "A: r = get x write",
         {"pin_write(r)": True, "pin_foll_pin(r)": False, "pin_longterm(r)": False, "pin_attached(r)": True,
          "has_pinned(A)": False},
         never=(("get-write", "p=A v=x k=r"), ("get-read", "p=A v=x k=r"))),
    Spec("a FOLL_PIN for reading", "A: r = pin x",
         {"pin_write(r)": False, "pin_foll_pin(r)": True, "pin_longterm(r)": False, "pin_attached(r)": True,
          "pin_live(r)": True, "has_pinned(A)": True},
         never=(("pin-read", "p=A v=x k=r"), ("pin-read-longterm", "p=A v=x k=r"), ("dma-store", "k=r n=0"))),
    Spec("a FOLL_PIN for writing", "A: r = pin x write",
         {"pin_write(r)": True, "pin_foll_pin(r)": True, "pin_longterm(r)": False, "pin_attached(r)": True,
          "has_pinned(A)": True},
         never=(("pin-write", "p=A v=x k=r"), ("pin-write-longterm", "p=A v=x k=r"))),
    Spec("a FOLL_LONGTERM for reading", "A: r = pin x longterm",
         {"pin_write(r)": False, "pin_foll_pin(r)": True, "pin_longterm(r)": True, "pin_attached(r)": True,
          "has_pinned(A)": True}),
    Spec("a FOLL_LONGTERM for writing", "A: r = pin x write longterm",
         {"pin_write(r)": True, "pin_foll_pin(r)": True, "pin_longterm(r)": True, "pin_attached(r)": True,
          "has_pinned(A)": True}),
    Spec("a write GUP needs VM_WRITE even where the PTE kept its write bit",
         "A: t = pin x write; A: mprotect x ro; A: r = get x write; A: s = pin x write; A: u = pin x write longterm",
         {"pte_write(A, x)": True, "vma_write(A, x)": False, "pin_live(r)": False, "pin_live(s)": False,
          "pin_live(u)": False}, kernels=("wrprotect-skip",)),
    Spec("a dropped reference is gone and cannot be dropped again", "A: r = pin x; A: drop r", {"pin_live(r)": False},
         never=(("unpin", "k=r"), ("dma-store", "k=r n=0"))),
    Spec("unsharing leaves a clean read-only page of its own", "A: fork C; A: r = pin x",
         {"pte_frame(A, x)": "Q", "pte_write(A, x)": False, "pte_dirty(A, x)": False, "pte_soft_dirty(A, x)": True},
         kernels=("v5.19", "v6.15", "mapcount-unshare")),
    Spec("the copy is exclusive at once", "A: fork C; A: r = pin x", {"exclusive(Q)": True, "exclusive(P)": False},
         ("anon-fault", "store", "fork", "unshare-copy", "pin-read"), kernels=EXCLUSIVE),
    Spec("nothing is unshared that is exclusive", "A: clear-soft-dirty", never=(("unshare-reuse", "p=A v=x"),),
         kernels=EXCLUSIVE),
    Spec("nothing becomes exclusive that has a transient reference", "A: fork C; C: exit; *: extra-ref x",
         {"exclusive(P)": False}, never=(("unshare-reuse", "p=A v=x"), ("wp-reuse", "p=A v=x")), kernels=EXCLUSIVE),
    Spec("what becomes exclusive leaves the swap cache",
         "A: fork C; *: extra-ref x; *: pageout x; A: read x; *: drop-extra x; C: exit; A: r = pin x",
         {"exclusive(P)": True, "cached(s0)": False, "pin_frame(r)": "P"}, kernels=EXCLUSIVE),
    Spec("5.8 breaks COW for a reader as a write does: the copy is dirty",
         "*: pageout x; A: read x; A: fork C; A: mprotect x ro; A: r = get x",
         {"pte_dirty(A, x)": True, "pte_write(A, x)": False, "pte_frame(A, x)": "Q"}, kernels=("v5.8",)),
    Spec("unsharing keeps uffd-wp", "A: fork C; A: uffd-wp x; A: r = pin x",
         {"pte_uffd_wp(A, x)": True, "uffd_armed(A, x)": True, "pte_frame(A, x)": "Q"},
         kernels=("v5.19", "v6.15", "mapcount-unshare")),
    Spec("the child has what the parent has, but not has_pinned, userfaultfd and the write bit",
         "A: r = pin x; A: drop r; A: uffd-wp x; A: fork C",
         {"alive(C)": True, "has_pinned(C)": False, "has_pinned(A)": True, "vma(C, x)": True, "vma_write(C, x)": True,
          "vma_uffd(C, x)": False, "uffd_armed(C, x)": False, "pte_uffd_wp(C, x)": False, "pte_uffd_wp(A, x)": True,
          "pte_present(C, x)": True, "pte_frame(C, x)": "P", "pte_dirty(C, x)": True, "pte_soft_dirty(C, x)": True,
          "pte_write(C, x)": False, "pte_write(A, x)": False, "vma_soft_dirty(C)": True}),
    Spec("the child inherits soft-dirty as it is", "A: clear-soft-dirty; A: fork C",
         {"vma_soft_dirty(C)": False, "pte_soft_dirty(C, x)": False, "pte_soft_dirty(A, x)": False}),
    Spec("the child inherits swap entries, exclusive in neither", "*: pageout x; A: fork C",
         {"pte_swap(C, x)": True, "pte_slot(C, x)": "s0", "pte_swap_exclusive(A, x)": False,
          "pte_swap_exclusive(C, x)": False}, kernels=EXCLUSIVE),
    Spec("the child inherits a read-only VMA", "A: mprotect x ro; A: fork C", {"vma_write(C, x)": False}),
    Spec("the early copy is writable, dirty and soft-dirty, and the parent keeps its write bit",
         "A: r = pin x write; A: fork C",
         {"pte_frame(A, x)": "P", "pte_frame(C, x)": "Q", "pte_write(A, x)": True, "pte_write(C, x)": True,
          "pte_dirty(C, x)": True, "pte_soft_dirty(C, x)": True, "frame_value(Q)": "1"},
         kernels=("v5.9", "v5.14", "v5.18", "v5.19", "v6.0", "v6.15", "mapcount-unshare", "wrprotect-fail")),
    Spec("the early copy of a clean read-only page is dirty and soft-dirty, and writable only in a writable VMA",
         "*: pageout x; A: read x; A: clear-soft-dirty; A: r = pin x; A: mprotect x ro; A: fork C",
         {"pte_frame(A, x)": "P", "pte_frame(C, x)": "Q", "pte_write(C, x)": False, "pte_dirty(C, x)": True,
          "pte_soft_dirty(C, x)": True, "pte_soft_dirty(A, x)": False},
         kernels=("v5.9", "v5.14", "v5.18", "v5.19", "v6.0", "mapcount-unshare")),
    Spec("the early copy is exclusive", "A: r = pin x write; A: fork C", {"exclusive(P)": True, "exclusive(Q)": True},
         kernels=EXCLUSIVE),
    Spec("sharing ends exclusiveness", "A: fork C", {"exclusive(P)": False}, kernels=EXCLUSIVE),
    Spec("a name is not given to a second process while a reference of the first is held",
         "A: fork C; C: r = get x; C: exit", {"alive(C)": False, "pin_live(r)": True, "pin_attached(r)": False},
         never=(("fork", "p=A child=C"),), kernels=OLD),
    Spec("the dead do nothing", "A: fork C; A: exit",
         {"alive(A)": False, "vma(A, x)": False, "pte_present(A, x)": False, "pte_present(C, x)": True},
         never=(("exit", "p=A"), ("munmap", "p=A v=x"), ("dontneed", "p=A v=x"), ("clear-soft-dirty", "p=A"),
                ("fork", "p=A child=A"), ("mprotect-rw", "p=A v=x"))),
    Spec("munmap takes VMA and PTE", "A: r = pin x write; A: munmap x",
         {"vma(A, x)": False, "pte_present(A, x)": False, "pin_attached(r)": False, "alive(A)": True},
         never=(("munmap", "p=A v=x"), ("dontneed", "p=A v=x"), ("mprotect-ro", "p=A v=x"), ("mprotect-rw", "p=A v=x"),
                ("uffd-wp", "p=A v=x"), ("uffd-unwp", "p=A v=x"), ("load", "p=A v=x"))),
    Spec("MADV_DONTNEED takes the PTE and leaves the VMA", "A: r = pin x write; A: dontneed x",
         {"vma(A, x)": True, "pte_present(A, x)": False, "pin_attached(r)": False}),
    Spec("MADV_DONTNEED takes a swap entry and, as the last, its slot", "A: r = pin x; *: pageout x; A: dontneed x",
         {"pte_swap(A, x)": False, "cached(s0)": False, "pin_attached(r)": False}, kernels=("v5.7", "v5.9")),
    Spec("userfaultfd operations need a registered VMA", "A: fork C",
         never=(("uffd-wp", "p=C v=x"), ("uffd-unwp", "p=C v=x"))),
    Spec("a writable PTE raises no write fault", "",
         {"pte_write(A, x)": True},
         never=(("wp-reuse", "p=A v=x"), ("wp-copy", "p=A v=x new=Q"), ("wp-copy-spurious", "p=A v=x new=Q"),
                ("userfault-wait", "p=A v=x"), ("unshare-reuse", "p=A v=x"), ("unshare-copy", "p=A v=x new=Q"))),
    Spec("a protected page raises neither reuse nor copy but waits", "A: uffd-wp x; A: fork C",
         {"uffd_armed(A, x)": True},
         never=(("wp-reuse", "p=A v=x"), ("wp-copy", "p=A v=x new=Q"), ("wp-copy-spurious", "p=A v=x new=Q"))),
    Spec("a failed trylock matters only where the count would have allowed reuse",
         "A: r = get x; A: clear-soft-dirty", never=(("wp-copy-spurious", "p=A v=x new=Q"),), kernels=OLD),
    Spec("... where nobody else maps the page", "A: fork C", {"pte_frame(C, x)": "P"},
         never=(("wp-copy-spurious", "p=A v=x new=Q"),)),
    Spec("... where it is not in the swap cache", "A: r = get x; *: pageout x; A: read x; A: drop r",
         {"cached(s0)": True}, never=(("wp-copy-spurious", "p=A v=x new=Q"), ("wp-reuse", "p=A v=x")),
         kernels=("v5.9", "v5.14")),
    Spec("... where there is no transient reference", "A: clear-soft-dirty; *: extra-ref x", {"extra(P)": True},
         never=(("wp-copy-spurious", "p=A v=x new=Q"), ("wp-reuse", "p=A v=x")), kernels=("v5.9", "v5.14", "v5.18")),
    Spec("... where no swap entry leads to it",
         "A: fork C; *: extra-ref x; *: pageout x; A: read x; *: drop-extra x", {"pte_swap(C, x)": True},
         never=(("wp-copy-spurious", "p=A v=x new=Q"), ("wp-reuse", "p=A v=x")), kernels=("v5.18", *EXCLUSIVE)),
    Spec("... and the copy is dirty, and takes a free page alone",
         "*: pageout x; A: read x; *: trylock-fails; A: r = get x write", {"pte_dirty(A, x)": True},
         ("anon-fault", "store", "swap-out", "reclaim-swap-cache", "swap-cache-read", "swap-in-read", "load",
          "wp-copy-spurious", "get-write"), kernels=("v5.18",)),
    Spec("... for which one with a transient reference will not do",
         "*: extra-ref x; A: dontneed x; A: write x 2; A: clear-soft-dirty", {"extra(P)": True},
         never=(("wp-copy-spurious", "p=A v=x new=P"),), kernels=("v5.9", "v5.14", "v5.18")),
    Spec("... and never to an exclusive page", "A: clear-soft-dirty", {"exclusive(P)": True},
         never=(("wp-copy-spurious", "p=A v=x new=Q"), ("wp-copy", "p=A v=x new=Q")), kernels=EXCLUSIVE),
    Spec("a page with a transient reference alone is not free", "*: extra-ref x; A: dontneed x",
         {"extra(P)": True, "pte_present(A, x)": False},
         never=(("anon-fault", "p=A v=x new=P"), ("extra-ref", "f=P"), ("extra-ref", "f=Q"), ("drop-extra", "f=Q"))),
    Spec("nor is it for a copy", "A: fork C; *: extra-ref x; A: dontneed x; C: exit; A: write x 2; A: fork E",
         {"extra(P)": True, "pte_frame(A, x)": "Q"},
         never=(("wp-copy", "p=A v=x new=P"), ("unshare-copy", "p=A v=x new=P"))),
    Spec("nor is it for what comes from swap", "*: extra-ref x; A: dontneed x; A: write x 2; *: pageout x",
         {"extra(P)": True, "pte_swap(A, x)": True, "cached(s0)": False},
         never=(("swap-cache-read", "p=A v=x new=P"),)),
    Spec("a transient reference goes", "*: extra-ref x; *: drop-extra x", {"extra(P)": False},
         never=(("drop-extra", "f=P"),)),
    Spec("a page that nothing refers to but its slot is written out", "*: pageout x",
         {"pte_swap(A, x)": True, "cached(s0)": False, "slot_value(s0)": "1"},
         ("anon-fault", "store", "swap-out", "reclaim-swap-cache"),
         (("swap-in-read", "p=A v=x"), ("reclaim-swap-cache", "s=s0"), ("free-swap-slot", "s=s0"),
          ("swap-out", "f=P s=s0"), ("swap-out", "f=Q s=s0"), ("swap-cache-read", "p=C v=x new=P"))),
    Spec("a transient reference keeps it in the swap cache", "*: extra-ref x; *: pageout x",
         {"cached(s0)": True, "slot_frame(s0)": "P"}, ("anon-fault", "store", "extra-ref", "swap-out"),
         (("reclaim-swap-cache", "s=s0"), ("swap-out-cached", "f=P s=s0"), ("free-swap-slot", "s=s0"),
          ("swap-cache-read", "p=A v=x new=Q"))),
    Spec("a slot that no swap entry names can be freed, a mapped page not reclaimed",
         "*: extra-ref x; *: pageout x; A: read x; *: drop-extra x", {"cached(s0)": True, "pte_swap(A, x)": False},
         never=(("reclaim-swap-cache", "s=s0"), ("swap-out", "f=P s=s0"))),
    Spec("... and leaves the swap cache then", "*: extra-ref x; *: pageout x; A: read x",
         {"cached(s0)": False, "pte_frame(A, x)": "P"}, then=(("free-swap-slot", "s=s0"),)),
    Spec("a slot in use does not take another page",
         "*: extra-ref x; *: pageout x; A: read x; A: fork C; C: r = get x write",
         {"cached(s0)": True, "slot_frame(s0)": "P", "pte_frame(C, x)": "Q"}, never=(("swap-out", "f=Q s=s0"),)),
    Spec("a page read from its slot has the content and is nobody's own", "*: pageout x; A: fork C; C: read x",
         {"pte_frame(C, x)": "P", "frame_value(P)": "1", "cached(s0)": True, "slot_frame(s0)": "P",
          "pte_write(C, x)": False},
         ("anon-fault", "store", "swap-out", "reclaim-swap-cache", "fork", "swap-cache-read", "swap-in-read", "load")),
    Spec("un-protecting ends the promise", "A: uffd-wp x; A: uffd-unwp x",
         {"uffd_armed(A, x)": False, "pte_uffd_wp(A, x)": False}),
    Spec("6.0 gives the write bit back to dirty pages alone",
         "*: pageout x; A: read x; A: mprotect x ro; A: mprotect x rw",
         {"pte_write(A, x)": False, "vma_write(A, x)": True}, kernels=("v6.0", "v5.19")),
    Spec("6.2 also to clean ones", "*: pageout x; A: read x; A: mprotect x ro; A: mprotect x rw",
         {"pte_write(A, x)": True}, kernels=("v6.2", "v6.15")),
    Spec("a dirty exclusive page gets its write bit back", "A: mprotect x ro; A: mprotect x rw",
         {"pte_write(A, x)": True}, kernels=("v6.0", "v6.2", "v6.15")),
    Spec("clearing soft-dirty also clears VM_SOFTDIRTY", "A: clear-soft-dirty",
         {"vma_soft_dirty(A)": False, "pte_soft_dirty(A, x)": False, "pte_write(A, x)": False}),
    Spec("un-protecting takes the write bit of a page that was never protected", "A: uffd-unwp x",
         {"pte_write(A, x)": False, "pte_dirty(A, x)": True}, kernels=(*OLD, "v5.19", "v6.0", "v6.2")),
    Spec("... and from 6.3 gives it back", "A: uffd-unwp x", {"pte_write(A, x)": True}, kernels=("v6.15",)),
    Spec("... but not where soft-dirty tracking needs a fault", "A: clear-soft-dirty; A: uffd-unwp x",
         {"pte_write(A, x)": False}),
    Spec("... nor in a read-only VMA", "A: mprotect x ro; A: uffd-unwp x", {"pte_write(A, x)": False},
         kernels=(*OLD, "v6.15")),
    Spec("mprotect to the flags that are there changes nothing", "A: mprotect x rw", {"pte_write(A, x)": True}),
    Spec("... be they RWX", "A: mprotect x rwx; A: r = get x write; A: mprotect x rwx", {"pte_write(A, x)": True}),
    Spec("an mprotect that changes another flag takes the write bit", "A: mprotect x rwx",
         {"pte_write(A, x)": False, "vma_exec(A, x)": True, "vma_write(A, x)": True}, kernels=(*OLD, "v5.19")),
    Spec("... and from 6.0 gives it back", "A: mprotect x rwx", {"pte_write(A, x)": True, "vma_exec(A, x)": True},
         kernels=("v6.0", "v6.15")),
    Spec("mprotect(PROT_READ) takes VM_EXEC too", "A: mprotect x rwx; A: mprotect x ro",
         {"vma_exec(A, x)": False, "vma_write(A, x)": False, "pte_write(A, x)": False}),
    Spec("fork hands VM_EXEC on", "A: mprotect x rwx; A: fork C", {"vma_exec(C, x)": True, "vma_exec(A, x)": True}),
    Spec("which other flag an mprotect changes does not matter", "A: read x",
         {"pte_write(A, x)": False, "vma_write(A, x)": True}, then=(("mprotect-other", "p=A v=x"),),
         kernels=(*OLD, "v5.19")),
    Spec("a page that reclaim unmaps is written for a while", "*: pageout x writing",
         {"cached(s0)": True, "writeback(s0)": True, "slot_frame(s0)": "P", "pte_swap(A, x)": True},
         ("anon-fault", "store", "swap-out", "writeback-begin"),
         (("reclaim-swap-cache", "s=s0"), ("free-swap-slot", "s=s0"), ("writeback-begin", "s=s0"))),
    Spec("a page with references is not written", "A: r = get x; *: pageout x writing",
         {"cached(s0)": True, "writeback(s0)": False, "pte_swap(A, x)": True}, never=(("writeback-begin", "s=s0"),)),
    Spec("a page that is mapped again is not written", "*: extra-ref x; *: pageout x; A: read x; *: drop-extra x",
         {"cached(s0)": True}, never=(("writeback-begin", "s=s0"),)),
    Spec("a page under writeback that is taken for the process's own stays in the swap cache",
         "*: pageout x writing; A: r = get x write",
         {"cached(s0)": True, "writeback(s0)": True, "pte_write(A, x)": True, "pte_frame(A, x)": "P",
          "pte_dirty(A, x)": True}, kernels=("v5.7", "v5.8", "v5.9", "v5.14", "v5.19", "v6.0", "v6.15")),
    Spec("... 5.18 does not take it, and copies", "*: pageout x writing; A: r = get x write",
         {"cached(s0)": True, "writeback(s0)": True, "pte_frame(A, x)": "Q", "pte_write(A, x)": True},
         kernels=("v5.18",)),
    Spec("... nor does a device that needs stable pages let it", "*: pageout x writing stable; A: r = get x write",
         {"cached(s0)": True, "writeback(s0)": True, "pte_frame(A, x)": "Q", "exclusive(P)": False}),
    Spec("reuse by mapcount does not free the swap cache under writeback",
         "*: pageout x writing; A: read x; A: r = get x write",
         {"cached(s0)": True, "writeback(s0)": True, "pte_frame(A, x)": "P", "pte_write(A, x)": True},
         kernels=("v5.7", "v5.8", "mapcount-unshare")),
    Spec("reclaim leaves a page mapped that is under writeback", "*: pageout x writing; A: read x",
         {"pte_present(A, x)": True}, never=(("swap-out-cached", "f=P s=s0"),)),
    Spec("... until that has ended", "*: pageout x writing; A: read x; *: writeback-end x",
         {"writeback(s0)": False, "cached(s0)": True, "pte_swap(A, x)": True}, then=(("swap-out-cached", "f=P s=s0"),)),
    Spec("munmap does not free the slot of a page under writeback", "*: pageout x writing; A: munmap x",
         {"cached(s0)": True, "writeback(s0)": True}),
    Spec("... the end of the writing does", "*: pageout x writing; A: munmap x", {"cached(s0)": False},
         then=(("writeback-end", "s=s0"),)),
    Spec("a page whose entry is wanted stays in the swap cache when its writing ends", "*: pageout x writing",
         {"cached(s0)": True, "writeback(s0)": False}, then=(("writeback-end", "s=s0"),)),
    Spec("a device needs stable pages until it is replaced", "*: pageout x writing stable; A: munmap x",
         {"stable_writes(s0)": True}, never=(("swap-stable", "s=s0"),)),
    Spec("with swap space half full a read swap-in frees the slot, and a page without references is exclusive",
         "A: fork C; *: pageout x; C: exit", {"exclusive(P)": True, "cached(s0)": False, "pte_frame(A, x)": "P"},
         then=(("swap-cache-read", "p=A v=x new=P"), ("swap-in-read-full", "p=A v=x")),
         kernels=("v5.19", "v6.0", "v6.15")),
    Spec("... not while another swap entry names it", "A: fork C; *: extra-ref x; *: pageout x; *: drop-extra x",
         never=(("swap-in-read-full", "p=A v=x"),), kernels=("v5.19", "v6.0", "v6.15")),
    Spec("... nor with a reference", "A: fork C; A: r = vmsplice x; *: pageout x; C: exit",
         {"cached(s0)": True}, never=(("swap-in-read-full", "p=A v=x"),), kernels=("v5.19", "v6.0", "v6.15")),
    Spec("7.2 looks at the swap entry's bit only", "A: fork C; *: pageout x; C: exit; A: r = get x write",
         path=("anon-fault", "store", "fork", "swap-out", "reclaim-swap-cache", "exit", "swap-cache-read",
               "swap-in-write", "wp-reuse", "get-write"), cells={"cached(s0)": False, "exclusive(P)": True},
         kernels=("v7.2",)),
    Spec("7.3 takes an exclusive page out of the swap cache, whoever refers to it",
         "A: r = get x; *: pageout x; A: write x 2", {"cached(s0)": False, "pte_write(A, x)": True},
         kernels=("v7.3-rc7",)),
    Spec("... and 7.2 does not", "A: r = get x; *: pageout x; A: write x 2",
         {"cached(s0)": True, "pte_write(A, x)": True}, kernels=("v7.2",)),
    Spec("the mappings of a process that has touched nothing may be new", "A: clear-soft-dirty",
         {"vma_soft_dirty(A)": True}, untouched=True, then=(("mmap-soft-dirty", "p=A"),)),
    Spec("... and no others", "A: clear-soft-dirty", never=(("mmap-soft-dirty", "p=A"),)),
)


EVERYWHERE = ("v5.7", "v5.9", "v5.18", "v5.19", "v6.15")

FEATURE_SPECS = (
    Spec("a write to an untouched page of a file maps a copy of the page cache's page", "A: write x 1",
         {"pte_write(A, x)": True, "nonanon(P)": True, "pte_frame(A, x)": "Q", "frame_value(P)": "0"},
         ("file-read", "cow-fault", "store"), kernels=EVERYWHERE, untouched=True, pages=("page x file",)),
    Spec("a read of an untouched page maps the zero page, which nobody may write", "A: read x",
         {"pte_write(A, x)": False, "nonanon(P)": True}, ("map-backing", "load"), kernels=EVERYWHERE, untouched=True),
    Spec("a forced write takes a THP of its own whole", "A: force-write x.0 1",
         {"pte_huge(A, x.0)": True, "pte_write(A, x.0)": False, "pte_dirty(A, x.1)": True, "frame_value(Q)": "1",
          "frame_value(R)": "0"},
         ("force-huge-reuse", "force-store"), kernels=("v5.7", "v5.9"), untouched=True,
         pages=("page x huge 2 rdonly",)),
    Spec("... and from 6.0 by its mark alone", "A: force-write x.0 1", {"pte_huge(A, x.0)": True}, ("force-store",),
         kernels=("v6.0", "v6.15"), untouched=True, pages=("page x huge 2 rdonly",)),
    Spec("there is nothing to force where nothing is mapped", "A: munmap x; A: force-write x 2",
         path=("anon-fault", "store", "munmap", "force-store-refused"), kernels=EVERYWHERE),
    Spec("MADV_FREE leaves shared pages alone", "A: fork C; A: madv-free x", {"lazyfree(P)": False},
         ("anon-fault", "store", "fork", "madv-free-nothing"), kernels=EVERYWHERE),
    Spec("MADV_FREE needs a VMA", "A: munmap x; A: madv-free x",
         path=("anon-fault", "store", "munmap", "madv-free-refused"), kernels=EVERYWHERE),
    Spec("a store ends what MADV_FREE began: reclaim finds the page dirty, keeps it, and it is an ordinary one again",
         "A: madv-free x; A: write x 2; *: pageout x", {"lazyfree(P)": False, "pte_present(A, x)": True},
         kernels=EVERYWHERE),
    Spec("un-merging needs a VMA", "A: munmap x; A: unmerge x",
         path=("anon-fault", "store", "munmap", "unmerge-refused"), kernels=EVERYWHERE),
    Spec("mremap needs a VMA", "A: munmap x; A: mremap x y", path=("anon-fault", "store", "munmap", "mremap-refused"),
         kernels=EVERYWHERE, pages=("page x", "page y")),
    Spec("a reference follows the page that mremap moves", "A: r = pin x write; A: mremap x y",
         {"pin_page(r)": "y", "pin_attached(r)": True, "vma(A, x)": False, "pte_frame(A, y)": "P"},
         kernels=EVERYWHERE, pages=("page x", "page y")),
    Spec("mprotect of a THP leaves its PMD whole, and flushes at the end", "A: mprotect x ro",
         {"pte_huge(A, x.1)": True, "pte_write(A, x.1)": False, "stale(A, x.0)": False},
         ("mprotect-ro-range.change", "mprotect-ro-range.flush"), kernels=EVERYWHERE, untouched=True,
         pages=("page x huge 2", "split tlb")),
    Spec("so does a userfaultfd write-protect", "A: uffd-wp x", {"pte_huge(A, x.0)": True, "pte_uffd_wp(A, x.1)": True},
         ("uffd-wp-range.change", "uffd-wp-range.flush"), kernels=EVERYWHERE, untouched=True,
         pages=("page x huge 2 uffd", "split tlb")),
    Spec("a range with a hole cannot be made writable", "A: munmap x.0; A: mprotect x rw",
         {"pte_huge(A, x.1)": False, "large(Q)": True},
         ("split-pmd", "munmap", "mprotect-rw-range-refused"), kernels=EVERYWHERE, untouched=True,
         pages=("page x huge 2",)),
    Spec("nor un-protected", "A: munmap x.0; A: uffd-unwp x", path=("split-pmd", "munmap", "uffd-unwp-range-refused"),
         kernels=EVERYWHERE, untouched=True, pages=("page x huge 2 uffd",)),
    Spec("migration moves a page with its bits, and the swap cache follows", "A: clear-soft-dirty; *: migrate x",
         {"pte_frame(A, x)": "Q", "pte_soft_dirty(A, x)": False, "frame_value(Q)": "1"}, kernels=EVERYWHERE),
    Spec("KSM merges what is equal, read-only, and a KSM page is nobody's own", "A: write y 1; *: ksm x y",
         {"ksm(P)": True, "pte_frame(A, y)": "P", "pte_write(A, x)": False, "exclusive(P)": False},
         kernels=EVERYWHERE, pages=("page x", "page y")),
)
"""What rules of features do; the system is built with those that the history needs."""


def failures(spec: Spec, kernel: Kernel, system: System | None = None) -> Iterator[str]:
    """What is not as specified on that kernel, with that system as its rules (by default, as it is)."""
    statements = [s.strip() for s in spec.history.split(";") if s.strip()]
    first = [] if spec.untouched else ["A: write x 1"]
    text = "\n".join(["litmus spec", *spec.pages, *first, *statements, "exists not blocked 1"])
    test = parse(text, "spec")
    trace = answer(test, kernel, system or kernel.system(test.features)).trace
    if trace is None:
        yield "the history cannot happen"
        return
    for rule, binding in spec.then:
        step = instance(trace, rule, binding)
        if step is None or not trace.interpreter.enabled(step, trace.states[-1]):
            yield f"{rule}({binding}) is not enabled"
            return
        trace = replace(trace, states=(*trace.states, trace.interpreter.step(step, trace.states[-1])))
    taken = tuple(step.rule.name for step in trace.steps)
    if spec.path and taken != spec.path:
        yield f"took {', '.join(taken)}"
    for cell, wanted in spec.cells.items():
        found = value(trace, cell)
        if found is not None and found != wanted:
            yield f"{cell} is {found}"
    for rule, binding in spec.never:
        step = instance(trace, rule, binding)
        if step is not None and trace.interpreter.enabled(step, trace.states[-1]):
            yield f"{rule}({binding}) is enabled"


def value(trace: Trace, cell: str) -> str | bool | None:
    """The value of `function(element, ...)` in the last state; None where the kernel lacks the function."""
    name, *elements = re.findall(r"[\w.]+", cell)
    function = next((f for f in trace.system.functions if f.name == name), None)
    if function is None:
        return None
    index = tuple(trace.names[s.name()].index(e) for s, e in zip(function.domain, elements, strict=True))
    found = trace.states[-1][trace.interpreter.layout.position[name][index]]
    return bool(found) if function.is_bool else trace.element(function.range.name(), found)


def instance(trace: Trace, rule_name: str, binding: str) -> Instance | None:
    """The step; None for a rule that the kernel lacks or an element beyond the scope."""
    rule = next((r for r in trace.system.rules if r.name == rule_name), None)
    if rule is None:
        return None
    given = dict(part.split("=") for part in binding.split())
    chosen = []
    for param in rule.params:
        names = trace.names[param.sort.name()]
        if param.over is not None:
            chosen.append((param.name, tuple(len(names) - 1 for _ in trace.names[param.over.name()])))
        elif given[param.name] not in names:
            return None
        else:
            chosen.append((param.name, names.index(given[param.name])))
    return Instance(rule, tuple(chosen))
