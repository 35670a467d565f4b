"""docs/domain.md: whatever is cited has a place there, and everything that ought to be there has one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from html.parser import HTMLParser

import pytest
from places import ROOT

from invariants import FURTHER as FURTHER_INVARIANTS
from invariants import INVARIANTS
from model.all_rules import ALL_RULES
from model.decisions import Decisions
from model.kernels import FURTHER, KERNELS, Kernel
from model.restrictions import RESTRICTIONS, VARIANTS
from proofs.data import SUITE
from proofs.pages import domain

TEXT = (ROOT / "docs" / "domain.md").read_text(encoding="utf-8")
EVERY_KERNEL = (*KERNELS, *FURTHER)


def citations() -> Iterator[tuple[str, str]]:
    """What cites the file, as (who, citation)."""
    yield from ((f"rule {rule.name}", rule.source) for rule in ALL_RULES)
    yield from ((f"invariant {i.name}", i.source) for i in (*INVARIANTS, *FURTHER_INVARIANTS))
    yield from ((f"restriction {r.name}", r.source) for r in (*RESTRICTIONS, *VARIANTS))
    yield from ((f"kernel {k.name}: {what}", source) for k in EVERY_KERNEL for what, source in k.cite)
    yield "the docstring of Decisions", Decisions.__doc__ or ""


def mentions() -> Iterator[tuple[str, str]]:
    """Lines of sources and documents in which the file, a failure or an invariant is named."""
    named = re.compile(r"domain\.md[^\"`]*|\bF\d+[a-z]?\b'?|\bI\d+\b")
    folders = ((ROOT / name).rglob(end) for name in ("model", "invariants", "proofs", "docs", "proofs/data/litmus")
               for end in ("*.py", "*.toml", "*.md"))
    for path in (path for folder in folders for path in sorted(folder)):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield from ((f"{path.relative_to(ROOT)}:{number}", m[0]) for m in named.finditer(line))


def test_the_file_is_the_one_that_the_program_reads_and_no_place_has_two_homes() -> None:
    assert domain.text() == TEXT
    ids = re.findall(r'<a id="([^"]+)"></a>', TEXT)
    assert sorted(ids) == sorted(set(ids))
    assert [to for to in re.findall(r"\]\(#([^)]+)\)", TEXT) if to not in ids] == []
    files = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert [name for name in files if not (ROOT / "docs" / name).is_file()] == []


def test_every_citation_has_a_place() -> None:
    missing = {who: domain.missing(source) for who, source in citations()}
    assert {who: names for who, names in missing.items() if names} == {}


def test_whatever_is_named_anywhere_has_a_place() -> None:
    missing = {where: names for where, said in mentions() if (names := domain.missing(said))}
    assert missing == {}


def test_every_rule_leads_there_or_names_a_file() -> None:
    nowhere = [(r.name, r.source) for r in ALL_RULES if not domain.places(r.source)]
    assert [name for name, source in nowhere if not re.search(r"\w\.(c|h|md)\b", source)] == []


def anchors_of(citation: str) -> list[str]:
    """The places of the reference of facts where it leads, each once: `f18`."""
    return list(dict.fromkeys(piece.anchor for piece in domain.pieces(citation) if piece.anchor))


@pytest.mark.parametrize(("what", "names"), [
    ("decisions", [f.name for f in fields(Kernel) if f.name not in ("name", "about", "base", "cite")]),
    ("kernels", [k.name for k in EVERY_KERNEL]),
    ("failures", [f"f{n}" for n in range(1, 32)] + ["f1t", "f1s", "f1h", "f3p", "f3g", "f10b"]),
    ("invariants", [f"i{n}" for n in range(1, 13)] + [f"i5{part}" for part in "abcdefghijk"]),
    ("rows", [f"row-{row}" for row in "abcdefghijklm"]),
    ("races", [f"s{n}" for n in range(1, 10)]),
    ("cases of cow.c", [f"cow-{n}" for n in range(1, 15)]),
    ("rule-sets", ["m0", "m1", "px", "r0", "r1", "r2", "aa", "nw", "r3", "x1", "x2", "x3"]),
])
def test_everything_has_a_place(what: str, names: list[str]) -> None:
    assert [name for name in names if name not in domain.anchors()] == []


def test_every_failure_of_the_suite_has_a_place() -> None:
    rows = tomllib.loads((SUITE / "expected.toml").read_text(encoding="utf-8"))
    named = {name.partition("-")[0] for name in rows["answers"] if re.match(r"F\d", name)}
    assert {name: domain.missing(name) for name in named if not anchors_of(name)} == {}


@pytest.mark.parametrize(("citation", "led"), [
    ("domain.md (a) of each kernel; decision `reuse`", ["row-a", "reuse"]),
    ("domain.md 1.3, (c) and (d) of each kernel", ["sec-1-3", "row-c", "row-d"]),
    ("domain.md 2.2, 2.10 (a), (e); decision `unshare`", ["sec-2-2", "sec-2-10", "x1-a", "x1-e", "unshare"]),
    ("domain.md 2.8 (a)", ["sec-2-8", "row-a"]),
    ("domain.md (e), 7.2 S1, S3", ["row-e", "sec-7-2", "s1", "s3"]),
    ("domain.md F3', F10b and F15; F10bg, F3tp, F18g", ["f3p", "f10b", "f15", "f3", "f18"]),
    ("I5 b, c, e", ["i5", "i5b", "i5c", "i5e"]),
    ("I3, both directions; I1 a page", ["i3", "i1"]),
    ("seed mail; domain.md 2.8", ["mail", "sec-2-8"]),
    ("Peter Xu's mail", ["mail"]),
    ("domain.md 2.11 [S6.2]", ["sec-2-11"]),
    ("(rows a and b of domain.md section 2), row (f)", ["row-a", "row-b", "sec-2", "row-f"]),
    ("domain.md I1; cow.c case 5, cow.c, partial mremap", ["i1", "cow-5", "sec-6"]),
    ("c18160dba5ff (6.11), 5.18", []),
])
def test_a_citation_leads_where_it_says(citation: str, led: list[str]) -> None:
    assert anchors_of(citation) == led
    assert "".join(piece.text for piece in domain.pieces(citation)) == citation


def test_commits_and_mails_lead_to_public_addresses() -> None:
    assert domain.places("70e806e4e645; 63e087ffb825 (own tree); lore 1-2-peterx@redhat.com") == [
        "https://git.kernel.org/linus/70e806e4e645",
        "https://kernel.googlesource.com/pub/scm/linux/kernel/git/andrea/aa/+/63e087ffb825",
        "https://lore.kernel.org/r/1-2-peterx@redhat.com",
    ]


def test_what_is_not_there_leads_nowhere_and_is_told() -> None:
    said = "domain.md 9.9, F99; decision `nothing_like_it`"
    assert domain.places(said) == []
    assert domain.missing(said) == ["sec-9-9", "f99", "nothing_like_it"]
    assert domain.to_html("<b>; F18") == '&lt;b&gt;; <a href="domain.html#f18">F18</a>'
    assert domain.anchor_of("mine.py:MINE") == ""
    assert domain.anchor_of("v5.9@huge,zero") == "v5.9"


class Outline(HTMLParser):
    """Elements that are open, to see that each is closed by its own tag; ids; lengths of rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.rows: list[list[int]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag == "table":
            self.rows.append([])
        elif tag == "tr":
            self.rows[-1].append(0)
        elif tag in ("td", "th"):
            self.rows[-1][-1] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"


def test_as_html_it_has_every_place_every_word_and_whole_tables() -> None:
    outline = Outline(domain.body())
    assert outline.open == []
    assert sorted(outline.ids) == sorted(domain.anchors())
    assert [rows for rows in outline.rows if len(set(rows)) != 1] == []
    plain = re.sub(r"<a id[^>]*></a>|\]\([^)]*\)", " ", TEXT)
    assert set(re.findall(r"\w+", plain)) == set(re.findall(r"\w+", outline.words))
