"""Judges every mutation of the rules and reports: docs/mutation.md.

`python tests/mutate.py [--part default|features] [--feature F ...] [--json FILE] [--jobs N] [--write]`. What a mutation
is, and when it is noticed, is said in mutants.py and feature_mutants.py.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from feature_mutants import judge_features
from mutants import EVERY_RULE, IN_SCOPE, PROVED, Fate, judge_all

from model.features import WORLD

TABLE = Path(__file__).parent.parent / "docs" / "mutation.md"
ABOUT = (
    "Each guard conjunct and each update of every rule was dropped, one at a time; `python tests/mutate.py --write` "
    "made this file. A mutation that nobody notices *survives* if reachable states or steps change."
)
PARTS = {
    "default": (
        "Rules of the default table",
        f"Kernels: {', '.join(EVERY_RULE)}. *Noticed*: on one of them a litmus test's answer (UNKNOWN, where its "
        "statements cannot all be done any more) or a specification in `tests/rule_specs.py` changes; or (*cells*) the "
        "rule then depends on a cell without a meaning, or lets one matter that it has not written, which the rule "
        "itself does not; or an invariant's verdict or shortest violation at the default scope changes. *Proved*: on "
        "each of them z3 proves, for any number of elements, that the rule is enabled where it was and writes the "
        "same, from lemmas that every rule of that kernel keeps (`tests/mutant_proofs.py`): other conjuncts imply the "
        "one dropped (a present PTE implies a VMA and a live process), or the cell has that value already, or no "
        "meaning. *At a scope*: nothing in an exploration of the default scope can tell.",
    ),
    "features": (
        "Rules of features",
        "The rules that a system has only with features of `model/features.py`, on kernels that have every variant of "
        "each between them. *Noticed*: on one of them the answer of a litmus test that needs the rule's features, or a "
        "specification in `tests/rule_specs.py` or `tests/feature_specs.py`, changes; or (*cells*) the rule then "
        "depends on a cell without a meaning, or lets one matter that it has not written, which the rule itself does "
        "not. *Proved*: z3 proves, for any number of elements, that it is enabled where the rule is and writes the "
        "same, from lemmas that every rule of the kernel, and of those like it, keeps (`tests/mutant_proofs.py`); "
        "where it is enabled besides it changes nothing. *At a scope*: with the rule's features, and those that the "
        "dropped part speaks of, it changes no step there (two processes and one page, or two pages with huge, ksm and "
        "mremap, there with two processes only without uffd, soft-dirty and swapping), asked on one kernel for each "
        "variant of the rule. Rules of hugetlb, of madv-fork, of populate, of userfaultfd and of WP_ASYNC are "
        "judged without the others of these, and all other rules without any of them. Sub-steps (`SPLIT`) are left "
        "out, and litmus tests and specifications with sub-steps or operations at the same time; so are the conjuncts "
        "by which a new page is a free one, which every rule is given alike and the default table's mutations lack."
    ),
}
REASONS: tuple[tuple[str, str], ...] = (
    (r"(split-folio|madv-free-split|ksm-split(-other)?|migrate-folio): update pte_present|"
     r"(map-huge-zero|uffd-zeropage): guard backed",
     "where there is no zero page yet: every litmus test in which one may be mapped starts with it"),
    (r"hugetlb-(unshare-)?copy: update pte_huge", "here a PTE maps a hugetlb page, whatever its size"),
    (r"madv-wipeonfork-nothing: guard Not.file", "no PMD maps a page of a file, say LEMMAS of mutant_proofs.py"),
    (r"\S+: update vma_anon\(p, page'0\)",
     "every huge page of a litmus test has been touched when the test starts, so that its VMA has an anon_vma"),
)
"""Why survivors are no holes, or which litmus test would find them: pattern of `rule: mutation`, and the reason."""


FATES = ("noticed", "equivalent", "survives", "undecided")
KINDS = ("litmus", "specification", "invariant", "cells", "error")
"""By what a mutation is noticed: the first words of `Fate.by`."""


def reason(fate: Fate) -> str:
    return next((why for pattern, why in REASONS if re.match(pattern, f"{fate.rule}: {fate.mutation}")), "")


def kind_of(fate: Fate) -> str:
    """The column of a mutation in the table of rules."""
    if fate.fate == "noticed":
        return fate.by.split()[0].rstrip(":")
    return (fate.by or IN_SCOPE) if fate.fate == "equivalent" else fate.fate


def table(*rows: Sequence[str]) -> list[str]:
    """Rows of a Markdown table, the first of which is its head; with an empty line before."""
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return ["", head, f"| {' | '.join(['---'] * len(rows[0]))} |", *rest]


def shown(mutation: str) -> str:
    text = textwrap.shorten(mutation, 160, placeholder=" ...").replace("|", "\\|")
    return f"`{text}`"


def of_rules(fates: Sequence[Fate]) -> list[str]:
    """How many mutations of each rule had which fate."""
    known = (*KINDS, PROVED, IN_SCOPE)
    columns = sorted({kind_of(f) for f in fates}, key=lambda kind: known.index(kind) if kind in known else len(known))
    of: dict[str, Counter[str]] = {}
    for f in fates:
        of.setdefault(f.rule, Counter())[kind_of(f)] += 1
    rows = [[rule, str(found.total()), *(str(found[c] or "") for c in columns)] for rule, found in sorted(of.items())]
    return ["", "### Rules", *table(["rule", "mutations", *columns], *rows)]


def of_equivalents(fates: Iterable[Fate]) -> list[str]:
    """What was dropped without any effect, and from which rules."""
    of: dict[tuple[str, str], list[str]] = {}
    for f in fates:
        of.setdefault((shown(f.mutation), kind_of(f)), []).append(f.rule)
    rows = sorted(of.items(), key=lambda row: -len(row[1]))
    return ["", "### Equivalent", *table(
        ["dropped", "equivalent", "from"], *((dropped, why, ", ".join(rules)) for (dropped, why), rules in rows)
    )]


def section(part: str, fates: Sequence[Fate]) -> str:
    """The report of one part as Markdown."""
    heading, about = PARTS[part]
    counts = Counter(f.fate for f in fates)
    kinds = Counter(map(kind_of, fates))
    lines = [f"## {heading}", "", *textwrap.wrap(about, 120), ""]
    lines.append(f"Mutations {len(fates)}: {'; '.join(f'{fate} {counts[fate]}' for fate in FATES)}.")
    lines.append(f"Of these: {', '.join(f'{kind} {number}' for kind, number in kinds.most_common())}.")
    lines += of_rules(fates)
    for fate, title in (("survives", "Survivors"), ("undecided", "Undecided")):
        if counts[fate]:
            rows = [(f.rule, shown(f.mutation), ", ".join(f.kernels), reason(f) or f.by or "**unexplained**")
                    for f in fates if f.fate == fate]
            lines += ["", f"### {title}", *table(["rule", "dropped", "kernels", "why"], *rows)]
    equivalents = [f for f in fates if f.fate == "equivalent"]
    return "\n".join(lines + (of_equivalents(equivalents) if equivalents else [])) + "\n"


def report(sections: Mapping[str, str], before: str) -> str:
    """The whole report: those sections, and the others as they were in the report before."""
    found = re.findall(r"^## (.*?)$(.*?)(?=^## |\Z)", before, re.M | re.S)
    old = {heading: f"## {heading}{text}" for heading, text in found}
    parts = [sections.get(part) or old.get(heading, "").rstrip() + "\n" for part, (heading, _) in PARTS.items()]
    return "\n".join(["# Mutation of the rules", "", *textwrap.wrap(ABOUT, 120), "", *parts])


def unexplained(fates: Iterable[Fate]) -> list[Fate]:
    """Survivors and undecided mutations for which no reason is given."""
    return [f for f in fates if f.fate in ("survives", "undecided") and not reason(f)]


def earlier(file: Path | None) -> list[Fate]:
    """The fates of rules of features that are in the file."""
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text(encoding="utf-8")).get("features", [])
    return [Fate(**{**fate, "kernels": tuple(fate["kernels"])}) for fate in found]


def keep(file: Path | None, judged: Mapping[str, Sequence[Fate]]) -> None:
    """Write the fates of those parts to the file; other parts in it, and other rules of features, stay."""
    if file is None:
        return
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    after = {part: [asdict(f) for f in fates] for part, fates in judged.items()}
    if "features" in after:
        new = {(f["rule"], f["mutation"]) for f in after["features"]}
        after["features"] += [f for f in before.get("features", []) if (f["rule"], f["mutation"]) not in new]
    file.write_text(json.dumps({**before, **after}, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Judge the mutants; exit code 1 if one survives unexplained."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=PARTS, help="only the rules of the default table, or those of features")
    parser.add_argument("--feature", action="append", choices=WORLD, default=[], metavar="F", help="only their rules")
    parser.add_argument(
        "--json", type=Path, metavar="FILE",
        help="write the fates; those of features go on from there: what was noticed or equivalent is not asked again"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    given = parser.parse_args()
    judged: dict[str, list[Fate]] = {}
    if given.part != "features":
        judged["default"] = judge_all(EVERY_RULE, given.jobs)
        keep(given.json, judged)
    if given.part != "default":
        def kept(fates: list[Fate]) -> None:
            keep(given.json, {"features": fates})

        judged["features"] = judge_features(given.jobs, frozenset(given.feature), earlier(given.json), kept)
    sections = {part: section(part, fates) for part, fates in judged.items()}
    if given.write:
        before = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
        TABLE.write_text(report(sections, before), encoding="utf-8")
    else:
        print(*sections.values(), sep="\n")
    return 1 if any(unexplained(fates) for fates in judged.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
