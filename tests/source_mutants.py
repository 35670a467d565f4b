"""Edits of C as a developer might make them by mistake, and whether reading the source notices each.

    python tests/source_mutants.py TREE [--most 50] [--verbose]

Edited are functions that are read on all paths. An edit is `noticed` if some decision is another one or no longer read,
and `proved equal` if every decision that the function takes part in is proved to be what it was, in all that is asked.
An edit that does not parse is no edit. No text of a kernel is kept: edits are made from the syntax tree.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.decisions import value_text
from proofs.source.csource import CFunction, Node, Tree, defect, text_of
from proofs.source.expressions import ASSERTS
from proofs.source.findings import NOT_READ, READ, DecisionFinding
from proofs.source.granted import GRANTED
from proofs.source.survey import ASKED
from proofs.source.vocabulary import EFFECTS, RENAMED

MEANT = {
    *(name.partition("(")[0] for name in EFFECTS), "ptep_set_wrprotect", "wrprotect_ptes", "pmdp_set_wrprotect",
    "pte_is_pinned", "folio_set_dirty", "folio_free_swap", "free_swap_cache", "flush_tlb_page", "ptep_clear_flush",
    "ptep_clear_flush_notify", "set_ptes", "set_pmd_at", "smp_mb", "smp_rmb", "smp_mb__after_atomic",
}
"""Calls that somebody might forget."""
UNSAID = {READ: "another rule", NOT_READ: "not read"}
SPOILED = {"==": "!=", "!=": "==", "<": "<=", ">": ">=", "<=": "<", ">=": ">", "&&": "||", "||": "&&"}


@dataclass(frozen=True)
class Edit:
    """A change of a file: its bytes from `begin` to `end` become `text`. what: in words, with the line."""

    function: str
    file: str
    begin: int
    end: int
    text: bytes
    what: str

    def of(self, old: bytes) -> bytes:
        """The file's text after it."""
        return old[:self.begin] + self.text + old[self.end:]


def edits(function: CFunction) -> Iterator[Edit]:
    """All edits of a function."""
    def edit(node: Node, text: str, what: str) -> Edit:
        return Edit(function.name, function.file, node.start_byte, node.end_byte, text.encode(),
                    f"{what} at {function.place(node)}")

    for node in _nodes(function.body):
        if node.type == "binary_expression":
            operator = node.child_by_field_name("operator")
            left, right = (node.child_by_field_name(side) for side in ("left", "right"))
            if text_of(operator) in SPOILED:
                spoiled = SPOILED[text_of(operator)]
                yield edit(operator, spoiled, f"{text_of(operator)} made {spoiled}")
            if text_of(operator) in ("&&", "||"):
                yield edit(node, text_of(left), f"`{_short(right)}` dropped from a condition")
                yield edit(node, text_of(right), f"`{_short(left)}` dropped from a condition")
        elif node.type == "unary_expression" and text_of(node).startswith("!"):
            yield edit(node, text_of(node.child_by_field_name("argument")), f"`{_short(node)}` without its !")
        elif node.type == "number_literal" and text_of(node) in ("1", "2", "3"):
            yield edit(node, str(int(text_of(node)) + 1), f"{text_of(node)} made {int(text_of(node)) + 1}")
        elif node.type == "return_statement" and text_of(node) in ("return true;", "return false;"):
            other = "return false;" if "true" in text_of(node) else "return true;"
            yield edit(node, other, f"`{text_of(node)}` made `{other}`")
        elif node.type == "if_statement" and node.child_by_field_name("alternative") is None:
            inner = node.child_by_field_name("consequence")
            if inner.type in ("return_statement", "goto_statement", "expression_statement"):
                yield edit(node, ";", f"`if ({_short(node.child_by_field_name('condition'))}) {_short(inner)}` lost")
        elif node.type == "expression_statement" and node.named_children and _counts(node):
            yield edit(node, ";", f"`{_short(node)}` forgotten")


def _nodes(node: Node) -> Iterator[Node]:
    """The nodes below, but for assertions."""
    yield node
    for child in node.named_children:
        if child.type != "call_expression" or not ASSERTS.fullmatch(text_of(child.child_by_field_name("function"))):
            yield from _nodes(child)


def _counts(statement: Node) -> bool:
    """The statement is a call that means something, or an assignment: no lock, no counter, no assertion."""
    inner = statement.named_children[0]
    if inner.type == "assignment_expression":
        return True
    return inner.type == "call_expression" and RENAMED.get(
        name := text_of(inner.child_by_field_name("function")), name) in MEANT


def _short(node: Node) -> str:
    text = " ".join(text_of(node).split())
    return text if len(text) <= 50 else f"{text[:47]}..."


@dataclass(frozen=True)
class Outcome:
    """What became of an edit: the decisions that it changed, each with what is said of it now."""

    edit: Edit
    changed: tuple[str, ...]


def _told(finding: DecisionFinding) -> tuple[object, ...]:
    return finding.how, tuple(map(value_text, finding.values)), finding.words, finding.why and finding.how


def outcomes(root: Path, most: int, seed: int = 0) -> Iterator[Outcome]:
    """So many edits, chosen by chance among all, spread over the functions that are read on all paths."""
    tree = Tree(root)
    asked = {**ASKED, **{each.decision: each for each in GRANTED}}
    before = {name: finding for name, each in asked.items() if (finding := each.ask(tree)).how == READ}
    by_function: dict[str, list[Edit]] = {}
    for name in sorted({line.split()[0] for finding in before.values() for line in finding.where}):
        function = tree.find(name)
        if function is not None and defect(function.node) is None:
            by_function[name] = list(edits(function))
    chosen, chance = [], random.Random(seed)
    for each in by_function.values():
        chance.shuffle(each)
    while len(chosen) < most and any(by_function.values()):
        chosen += [each.pop() for each in by_function.values() if each]
    for edit in chosen[:most]:
        old = tree.text(edit.file)
        assert old is not None
        edited = Tree(root, replaced={edit.file: edit.of(old)})
        found = edited.find(edit.function)
        if found is None or defect(found.node) is not None:
            continue
        changed = []
        for name, finding in before.items():
            if any(line.split()[0] == edit.function for line in finding.where):
                after = asked[name].ask(edited)
                if _told(after) != _told(finding):
                    shown = ", ".join(map(value_text, after.values)) or after.words
                    shown = shown or f"{UNSAID[after.how]}: {after.why}"
                    changed.append(f"{name}: {shown}")
        yield Outcome(edit, tuple(changed))


def main() -> None:
    """Print what became of each edit, and the sums."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("tree", type=Path)
    given.add_argument("--most", type=int, default=50)
    given.add_argument("--seed", type=int, default=0)
    asked = given.parse_args()
    noticed = equal = unread = 0
    for outcome in outcomes(asked.tree, asked.most, asked.seed):
        if outcome.changed:
            noticed += 1
            unread += all("not read" in line for line in outcome.changed)
            print(f"noticed       {outcome.edit.function}: {outcome.edit.what}")
            for line in outcome.changed:
                print(f"              {line[:200]}")
        else:
            equal += 1
            print(f"proved equal  {outcome.edit.function}: {outcome.edit.what}")
    print(f"{noticed + equal} edits: {noticed} noticed ({unread} of them as not read), {equal} proved equal")


if __name__ == "__main__":
    main()
