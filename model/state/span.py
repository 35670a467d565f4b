"""What an operation covers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import z3
from z3 import And, Implies, Not

from model.logic import Term, Update, each, exists, forall
from model.state.counters import mapped_huge
from model.state.functions import block
from model.state.sorts import Page


@dataclass(frozen=True)
class Span:
    """The virtual pages that an operation covers: `page` alone, or `whole`, all of its block."""

    page: Term
    whole: bool = False

    def covers(self, w: Term) -> Term:
        """w is one of them."""
        return block(w) == block(self.page) if self.whole else w == self.page

    def each(self, body: Callable[[Term], list[Update]], when: Callable[[Term], Term] | None = None) -> list[Update]:
        """Those updates for each of them (for which `when` holds)."""
        if self.whole:
            return each(Page, body, when=lambda w: And(self.covers(w), when(w) if when else True))
        return [replace(u, when=And(when(self.page), u.when)) if when else u for u in body(self.page)]

    def every(self, holds: Callable[[Term], Term]) -> Term:
        """It holds of each of them."""
        return forall(Page, lambda w: Implies(self.covers(w), holds(w))) if self.whole else holds(self.page)

    def some(self, holds: Callable[[Term], Term]) -> Term:
        """It holds of one of them."""
        return exists(Page, lambda w: And(self.covers(w), holds(w))) if self.whole else holds(self.page)

    def in_ptes(self, p: Term) -> Term:
        """What it covers can be changed without splitting a PMD of p."""
        return z3.BoolVal(True) if self.whole else Not(mapped_huge(p, self.page))
