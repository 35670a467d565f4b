"""Every rule of the model, in the order in which systems have them."""

from __future__ import annotations

from model import (
    accessed,
    fault,
    force,
    fork,
    guard,
    gup,
    huge,
    hugetlb,
    longterm,
    merge,
    migration,
    protect,
    reclaim,
    swapin,
    tracking,
    unmap,
    userfaultfd,
)
from model.logic import RuleTemplate

ALL_RULES: tuple[RuleTemplate, ...] = (
    *fault.RULES, *gup.RULES, *fork.RULES, *unmap.RULES, *protect.RULES, *reclaim.RULES, *huge.RULES, *merge.RULES,
    *migration.RULES, *force.RULES, *userfaultfd.RULES, *hugetlb.RULES, *longterm.RULES, *swapin.RULES,
    *tracking.RULES, *accessed.RULES, *guard.RULES,
)
