"""What the declarations of a litmus test say of its first state."""

from __future__ import annotations

from model.kernels import Kernel
from model.logic import StateFunction
from model.state import (
    block,
    file,
    file_value,
    hugetlb,
    uffd_async,
    uffd_unpopulated,
    vma_huge,
    vma_resv_owner,
    vma_soft_dirty,
    vma_uffd,
    zone_cma,
    zone_movable,
)
from proofs.derive.interpreter import Layout
from proofs.litmus.language import TRACKED, Litmus, PageDeclaration

Cells = dict[tuple[StateFunction, tuple[int, ...]], int]
"""(state function, index) to value."""


def _registers(page: PageDeclaration, kernel: Kernel) -> bool:
    """The kernel has a userfaultfd with which the page can be registered for write-protection."""
    has = kernel.uffd_markers or "file" not in page.attributes
    unpopulated = kernel.uffd_unpopulated or TRACKED.isdisjoint(page.attributes)
    return has and unpopulated and (kernel.uffd_async or "async" not in page.attributes)


def declared_cells(litmus: Litmus, kernel: Kernel, layout: Layout) -> Cells:
    """The cells that the attributes of the declared pages set, of the first process and of the pages."""
    blocks = litmus.names()["Block"]
    cells: Cells = {}
    if layout.has(vma_soft_dirty):
        cells[vma_soft_dirty, (0,)] = True
    for number, page in enumerate(litmus.pages):
        cells[vma_uffd, (0, number)] = "uffd" in page.attributes and _registers(page, kernel)
        if not TRACKED.isdisjoint(page.attributes):
            cells[uffd_unpopulated, (number,)] = True
        if "async" in page.attributes:
            cells[uffd_async, (number,)] = True
        if "huge" in page.attributes:
            cells[vma_huge, (0, number)] = True
        if "file" in page.attributes:
            cells[file, (number,)] = True
            if layout.has(file_value):
                cells[file_value, (number,)] = litmus.values.index(page.contents)
        if "hugetlb" in page.attributes:
            cells[hugetlb, (number,)] = cells[vma_resv_owner, (0, number)] = True
        for word, zone in (("movable", zone_movable), ("cma", zone_cma)):
            if word in page.attributes:
                cells[zone, (number,)] = True
        if layout.has(block):
            cells[block, (number,)] = blocks.index(page.whole)
    return cells
