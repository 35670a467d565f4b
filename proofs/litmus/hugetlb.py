"""What a litmus test may do to a hugetlb page, and ask of it: the rest is not in the model, and said at its line."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from model.operations import Operation
from proofs.litmus.language import PageDeclaration

OWN = frozenset({"hugetlb-drain"})
"""Words of operations that are for hugetlb pages alone."""
TOO = frozenset({
    "write", "read", "munmap", "mprotect", "vmsplice", "get", "pin", "drop", "dma", "dio", "rdma", "vfio", "io_uring",
    "process_vm_writev", "populate", "madv-dontfork", "madv-dofork", "madv-wipeonfork", "madv-keeponfork", "extra-ref",
    "drop-extra", "guard-install", "guard-remove",
})
"""Words of those that take one as any page."""
WHY = (
    "hugetlb pages are of one size, anonymous and private; they are not swapped, merged, migrated, moved or watched by "
    "userfaultfd here"
)
OTHERS = frozenset({"huge", "zero", "file", "movable", "cma", "uffd", "unpopulated", "async"})
"""Attributes that it cannot have as well."""
UNTOLD = frozenset({"soft-dirty", "uffd-wp", "written"})
"""What is not tracked of one, or not told by /proc/pid/pagemap."""


def refused(operation: Operation, pages: Iterable[PageDeclaration]) -> str:
    """Why the operation cannot be done on one of these pages; empty if it can."""
    for page in pages:
        if operation.word in OWN:
            if "hugetlb" not in page.attributes:
                return f"{page.name} is no hugetlb page: declare it `page {page.name} hugetlb`"
        elif "hugetlb" in page.attributes and (
            operation.word not in TOO or operation.quick or "force" in operation.flags
        ):
            fast = " fast" * bool(operation.quick)
            return f"`{operation.name}{fast}` of the hugetlb page {page.name} is not in the model: {WHY}"
    return ""


def untold(word: str, pages: Iterable[PageDeclaration]) -> str:
    """Why a condition cannot ask that of one of these pages; empty if it can."""
    for page in pages:
        if "hugetlb" in page.attributes and word in UNTOLD:
            return f"{word!r} cannot be asked of the hugetlb page {page.name}: it is not tracked"
    return ""


def beside(attributes: Collection[str]) -> str:
    """Why one page cannot have all of these attributes; empty if it can, as far as hugetlb goes."""
    others = OTHERS.intersection(attributes) if "hugetlb" in attributes else set()
    return f"a page is `hugetlb` or `{min(others)}`: {WHY}" if others else ""
