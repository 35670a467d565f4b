"""The reference of facts, docs/domain.md: where a citation such as `domain.md 2.10 (a), F18` leads; it as HTML."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from proofs.data import DOMAIN

NAME = "docs/domain.md"
"""The file as the project's other documents name it."""
PAGE = "domain.html"
"""The file as a page of the report and of the explorer."""
_COMMITS = "https://git.kernel.org/linus/"
_OWN_TREE = "https://kernel.googlesource.com/pub/scm/linux/kernel/git/andrea/aa/+/"
_MAILS = "https://lore.kernel.org/r/"


@dataclass(frozen=True)
class Piece:
    """Part of a text: where it leads is an `anchor` of the file, a public `address`, or nowhere."""

    text: str
    anchor: str = ""
    address: str = ""

    def href(self, page: str = PAGE) -> str:
        """Where it leads, for a page beside `page`; empty if nowhere."""
        return f"{page}#{self.anchor}" if self.anchor else self.address


@functools.cache
def text() -> str:
    """The file's text; empty where it is not installed."""
    return DOMAIN.read_text(encoding="utf-8") if DOMAIN.is_file() else ""


@functools.cache
def anchors() -> frozenset[str]:
    """Every place of the file that can be linked."""
    return frozenset(re.findall(r'<a id="([^"]+)"></a>', text()))


def anchor_of(name: str) -> str:
    """The place of a kernel or decision, without its features; empty if it has none, as users' kernels."""
    plain = name.partition("@")[0]
    return plain if plain in anchors() else ""


# Citations

_CITED = re.compile(
    r"(?P<run>domain\.md(?: sections?)?)"
    r"|`(?P<name>[a-z_]+)`"
    r"|\b(?P<failure>F\d+[a-z]*'?)(?!\w)"
    r"|\b(?P<invariant>I\d+)(?P<parts>(?: [a-k]\b,?)*)"
    r"|\b(?P<race>S\d+)\b(?!\.)"
    r"|(?P<rows>\brows?) (?=\(?[a-m]\b)"
    r"|\bcow\.c(?: cases? (?P<case>\d+))?"
    r"|(?P<mail>\b(?:the |seed )?mail\b)"
    r"|\blore (?P<message>\S+@\S+\w)"
    r"|\b(?P<commit>[0-9a-f]{12})\b(?P<own> \(own tree\))?"
)
_OF_RUN = re.compile(r"(?P<section>\b\d{1,2}(?:\.\d+)?\b)|\((?P<row>[a-m])\)")
_OF_ROWS = re.compile(r"\(?\b([a-m])\b\)?")
_ROW_LIST = re.compile(r"\(?[a-m]\b\)?(?:(?:, and |, | and )\(?[a-m]\b\)?)*")
_DECISIONS = re.compile(r"\bdecisions? (?:`[a-z_]+`(?:, and |, | and ))*$")
_RUN_ENDS = re.compile(r"[;:`\[\]]|$")


def pieces(citation: str) -> tuple[Piece, ...]:
    """The text in parts, those that cite the file, a commit or a mail with where they lead.

    What looks like a citation of the file but has no place there leads nowhere; `missing` names it.
    """
    return tuple(
        Piece(p.text) if p.anchor and p.anchor not in anchors() else p for p in _joined(_pieces(citation))
    )


def missing(citation: str) -> list[str]:
    """What it cites that the file does not have."""
    return [p.anchor for p in _pieces(citation) if p.anchor and p.anchor not in anchors()]


def places(citation: str) -> list[str]:
    """Where it leads, each once: `docs/domain.md#f18`, and addresses of commits and mails."""
    return list(dict.fromkeys(href for p in pieces(citation) if (href := p.href(NAME))))


def to_html(citation: str) -> str:
    """The citation with its links, for a page beside `domain.html`."""
    return "".join(
        f'<a href="{html.escape(href)}">{html.escape(p.text)}</a>' if (href := p.href()) else html.escape(p.text)
        for p in pieces(citation)
    )


def as_data(citation: str) -> list[list[str]]:
    """The same for a script: pairs of a text and where it leads, or nothing."""
    return [[p.text, p.href()] for p in pieces(citation)]


def _joined(parts: Iterable[Piece]) -> Iterator[Piece]:
    """Neighbours that lead nowhere as one."""
    plain = ""
    for part in parts:
        if part.href():
            yield from [Piece(plain)] * bool(plain)
            plain = ""
            yield part
        else:
            plain += part.text
    yield from [Piece(plain)] * bool(plain)


def _pieces(citation: str) -> Iterator[Piece]:
    done = 0
    for m in _CITED.finditer(citation):
        if m.start() < done:
            continue
        yield Piece(citation[done:m.start()])
        done = m.end()
        if m["run"]:
            yield Piece(m[0])
            end = _RUN_ENDS.search(citation, done)
            assert end
            yield from _run(citation[done:end.start()])
            done = end.start()
        elif m["rows"]:
            listed = _ROW_LIST.match(citation, done)
            yield Piece(m[0])
            if listed:
                yield from _each(listed[0], _OF_ROWS, lambda row: f"row-{row[1]}")
                done = listed.end()
        elif m["invariant"]:
            yield from _invariant(m["invariant"], m["parts"])
        else:
            yield _single(m, bool(_DECISIONS.search(citation, 0, m.start())))
    yield Piece(citation[done:])


def _single(m: re.Match[str], decided: bool) -> Piece:
    """`decided`: a word in backquotes is a decision."""
    if m["name"]:
        return Piece(m[0], m["name"] if decided or m["name"] in anchors() else "")
    if m["failure"]:
        return Piece(m[0], _failure(m["failure"].lower().replace("'", "p")))
    if m["race"]:
        return Piece(m[0], m["race"].lower())
    if m["mail"]:
        return Piece(m[0], "mail")
    if m["message"]:
        return Piece(m[0], address=_MAILS + m["message"])
    if m["commit"]:
        return Piece(m[0], address=(_OWN_TREE if m["own"] else _COMMITS) + m["commit"])
    return Piece(m[0], f"cow-{m['case']}" if m["case"] else "sec-6")


def _failure(name: str) -> str:
    """A variant that the file does not tell apart, as tests are of (F10bg), is that of which it is one (F10b)."""
    while name not in anchors() and name[-1].isalpha():
        name = name[:-1]
    return name


def _invariant(name: str, parts: str) -> Iterator[Piece]:
    """`I5 b, c`: the invariant, and each of its parts; no other has any, and a letter after it is a word."""
    yield Piece(name, name.lower())
    if name == "I5":
        yield from _each(parts, re.compile(r"\b([a-k])\b"), lambda part: f"i5{part[1]}")
    else:
        yield Piece(parts)


def _run(cited: str) -> Iterator[Piece]:
    """What follows `domain.md`: sections, and rows of the section before them or of each kernel."""
    code, done = "", 0
    for m in _OF_RUN.finditer(cited):
        yield from _pieces(cited[done:m.start()])
        done = m.end()
        if m["section"]:
            anchor = f"sec-{m['section'].replace('.', '-')}"
            code = _code_of(anchor)
            yield Piece(m[0], anchor)
        else:
            own = f"{code}-{m['row']}"
            yield Piece(m[0], own if own in anchors() else f"row-{m['row']}")
    yield from _pieces(cited[done:])


@functools.cache
def _code_of(section: str) -> str:
    """The rule-set that a section is about, by the anchor before its own: `x1`."""
    found = re.search(rf'<a id="([a-z]\w)"></a><a id="{section}"></a>', text())
    return found[1] if found else ""


def _each(listed: str, of: re.Pattern[str], anchor: Callable[[re.Match[str]], str]) -> Iterator[Piece]:
    done = 0
    for m in of.finditer(listed):
        yield Piece(listed[done:m.start()])
        yield Piece(m[0], anchor(m))
        done = m.end()
    yield Piece(listed[done:])


# The file as HTML

_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|(?P<place><a id=\"[^\"]+\"></a>)|<(?P<address>https://[^>]+)>"
    r"|\[(?P<words>[^\]]+)\]\((?P<to>[^)]+)\)|\*\*(?P<strong>.+?)\*\*|(?<![\w*])\*(?P<stressed>[^*\s][^*]*)\*(?![\w*])"
)


def body() -> str:
    """The file as HTML: headings, tables, lists and paragraphs, as it has them. Links to files that are not here go."""
    return "\n".join(_block(block) for block in re.split(r"\n{2,}", text().strip()))


def _block(block: str) -> str:
    lines = block.split("\n")
    if heading := re.fullmatch(r"(#+) (.*)", lines[0]):
        level, rest = len(heading[1]), "\n".join(lines[1:])
        return f"<h{level}>{_inline(heading[2])}</h{level}>" + ("\n" + _block(rest) if rest else "")
    for at, line in enumerate(lines):
        begins = _kind(line)
        if at and begins != _kind(lines[at - 1]) and not line.startswith("  "):
            return _block("\n".join(lines[:at])) + "\n" + _block("\n".join(lines[at:]))
    if _kind(lines[0]) == "table":
        return _table(lines)
    if _kind(lines[0]) == "list":
        items = re.split(r"\n(?=[*-] )", block)
        return "<ul>" + "".join(f"<li>{_inline(item[2:])}</li>" for item in items) + "</ul>"
    return f"<p>{_inline(block)}</p>"


def _kind(line: str) -> str:
    return "table" if line.startswith("|") else "list" if re.match(r"[*-] |  ", line) else "words"


def _table(lines: list[str]) -> str:
    head, _, *rows = [[_inline(cell.strip()) for cell in line.strip()[1:-1].split("|")] for line in lines]
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        '<div class="scroll" role="region" tabindex="0" aria-label="Table">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _inline(words: str) -> str:
    linked, done = "", 0
    for m in _INLINE.finditer(words):
        linked += html.escape(words[done:m.start()], quote=False)
        done = m.end()
        if m["code"]:
            linked += f"<code>{html.escape(m['code'], quote=False)}</code>"
        elif m["place"]:
            linked += m["place"].replace("<a id", "<span id").replace("</a>", "</span>")
        elif m["address"]:
            linked += f'<a href="{html.escape(m["address"])}">{html.escape(m["address"])}</a>'
        elif m["words"]:
            here = m["to"].startswith(("#", "https://"))
            linked += f'<a href="{html.escape(m["to"])}">{_inline(m["words"])}</a>' if here else _inline(m["words"])
        elif m["strong"]:
            linked += f"<strong>{_inline(m['strong'])}</strong>"
        else:
            linked += f"<em>{_inline(m['stressed'])}</em>"
    return linked + html.escape(words[done:], quote=False)
