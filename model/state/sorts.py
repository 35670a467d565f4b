"""Sorts, and the constants of which every state speaks.

They are unbounded in a proof, finite in a scope; dependencies run Pin -> Proc, Page -> Slot, Block -> Frame -> Folio:
`Proc` an mm, `Page` a virtual page, `Block` the virtual pages of one PMD, `Frame` a struct page, `Folio` one that is
large, `Pin` one reference taken by get_user_pages (FOLL_GET or FOLL_PIN), `Slot` a swap slot, `Value` the content of a
page.
"""

from __future__ import annotations

import z3

from model.logic import Sort, Term

Proc: Sort = z3.DeclareSort("Proc")
Page: Sort = z3.DeclareSort("Page")
Frame: Sort = z3.DeclareSort("Frame")
Pin: Sort = z3.DeclareSort("Pin")
Slot: Sort = z3.DeclareSort("Slot")
Value: Sort = z3.DeclareSort("Value")
Folio: Sort = z3.DeclareSort("Folio")
Block: Sort = z3.DeclareSort("Block")
Bool: Sort = z3.BoolSort()
SORTS: tuple[Sort, ...] = (Proc, Page, Frame, Pin, Slot, Value, Folio, Block)

FIRST: Term = z3.Const("first", Proc)
"""The process that exists in the initial state, with a writable VMA over every page; litmus tests call it A."""
ZERO: Term = z3.Const("zero", Value)
"""The content of a page before any store."""
CONSTANTS = (FIRST, ZERO)
