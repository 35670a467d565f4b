"""The fork-heavy workload of the discussion."""

from __future__ import annotations

from dataclasses import dataclass

from model.costs import LOCKS
from proofs.cost.meters import COPIES, METERS
from proofs.cost.tables import CostTable

# The fork-heavy workload of the discussion.

SUBPAGES, PAGE_BYTES = 512, 4096
"""HPAGE_PMD_NR and PAGE_SIZE of x86-64."""


@dataclass(frozen=True)
class Total:
    """What the workload costs in all: `faults`, and `counts` by meter. `locked`: how many different page locks those
    acquisitions are spread over."""

    faults: int
    counts: dict[str, int]
    locked: int


def workload(found: CostTable, processes: int, size: int, thp: bool) -> Total:
    """`processes` children of a process that has filled `size` bytes and waits; each writes all of them once.

    `thp`: huge pages wherever they fit; what is left at the end is small pages.
    """
    pages = -(-size // PAGE_BYTES)
    blocks, rest = divmod(pages, SUBPAGES) if thp else (0, pages)
    parts = [("write small", rest)]
    copied_whole = found.shared["write THP"][COPIES].subpages > 0
    parts += [("write THP", blocks), ("write sub-page", 0 if copied_whole else blocks * (SUBPAGES - 1))]
    counts = {
        meter: processes * sum(times * found.shared[name][meter].at(SUBPAGES) for name, times in parts)
        for meter in METERS
    }
    # PG_locked of a sub-page is its head's (trylock_page looks at compound_head).
    return Total(processes * sum(times for _, times in parts), counts, blocks + rest if counts[LOCKS] else 0)
