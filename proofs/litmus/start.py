"""What the declarations of a litmus test say of its first state."""

from __future__ import annotations

from model.kernels import Kernel
from model.logic import StateFunction
from model.state import (
    block,
    file,
    file_value,
    hugetlb,
    vma_huge,
    vma_resv_owner,
    vma_soft_dirty,
    vma_uffd,
    zone_cma,
    zone_movable,
)
from proofs.derive.interpreter import Layout
from proofs.litmus.language import Litmus

Cells = dict[tuple[StateFunction, tuple[int, ...]], int]
"""(state function, index) to value."""


def declared_cells(litmus: Litmus, kernel: Kernel, layout: Layout) -> Cells:
    """The cells that the attributes of the declared pages set, of the first process and of the pages."""
    blocks = litmus.names()["Block"]
    cells: Cells = {}
    if layout.has(vma_soft_dirty):
        cells[vma_soft_dirty, (0,)] = True
    for number, page in enumerate(litmus.pages):
        registers = "file" not in page.attributes or kernel.uffd_markers
        cells[vma_uffd, (0, number)] = "uffd" in page.attributes and registers
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
