"""SVG elements, colours, and how wide text is: of what pictures are made."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from proofs.traces.graph import Attributes

SANS = "DejaVu Sans, Verdana, Arial, sans-serif"
MONO = "DejaVu Sans Mono, Menlo, Consolas, monospace"
INK, GREY, PALE, PAPER = "#1b1f24", "#57606a", "#c4cad1", "#ffffff"
SHADE, CARD = "#eef2f6", "#fbfcfd"
CHANGED, CHANGED_FILL, VIOLATED, PIN, SWAP = "#9a5b00", "#fff1c2", "#c01616", "#6b2fa0", "#0b6b74"


# Text: widths are those of DejaVu Sans, the widest of the fonts asked for, rounded up.

def text_width(text: str, size: float, bold: bool = False, mono: bool = False) -> float:
    """An upper bound of the width of a line of text, in pixels."""
    if mono:
        return len(text) * size * 0.61
    wide = sum(_character_width(c) for c in text) * size
    return wide * 1.14 if bold else wide


def _character_width(character: str) -> float:
    if character in "ijl.,:;'|!()[] ftrI-/":
        return 0.42
    if character in "mwMW@%" or ord(character) > 0x2000:
        return 1.0
    return 0.79 if character.isupper() else 0.65


def wrap(text: str, width: float, size: float, bold: bool = False, mono: bool = False) -> list[str]:
    """Lines of at most that width; a word that is longer is cut."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if text_width(joined, size, bold, mono) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if text_width(lines[-1] + character, size, bold, mono) > width:
                lines.append("")
            lines[-1] += character
    return lines


# Where things stand

@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float


# SVG elements

def rounded(value: float) -> str:
    """The number with one digit behind the point, if that is not 0."""
    return f"{value:.1f}".removesuffix(".0")


def add(parent: ET.Element, tag: str, **attributes: str | float) -> ET.Element:
    """A child element; `_` in names of attributes stands for `-`."""
    named = {k.replace("_", "-"): v if isinstance(v, str) else rounded(v) for k, v in attributes.items()}
    return ET.SubElement(parent, tag, named)


def put_text(
    parent: ET.Element, x: float, y: float, text: str, size: float, *, fill: str = INK, bold: bool = False,
    mono: bool = False, anchor: str = "start",
) -> None:
    """A line of text."""
    style = {"font_weight": "bold"} if bold else {}
    element = add(
        parent, "text", x=x, y=y, font_size=size, font_family=MONO if mono else SANS, fill=fill, text_anchor=anchor,
        **style,
    )
    element.text = text


def put_rect(parent: ET.Element, box: Box, radius: float, **style: str | float) -> None:
    add(parent, "rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=radius, **style)


Point = tuple[float, float]


def line_style(attributes: Attributes) -> dict[str, str | float]:
    """How an edge is drawn; no two kinds differ in colour alone."""
    match attributes["type"]:
        case "maps" if attributes.get("pte_write", True):
            return {"stroke": INK, "stroke_width": 3.4}
        case "maps":
            return {"stroke": INK, "stroke_width": 1.4, "stroke_dasharray": "6 4"}
        case "refers to":
            return {"stroke": PIN, "stroke_width": 1.8}
        case "swap":
            return {"stroke": SWAP, "stroke_width": 1.8, "stroke_dasharray": "11 3 2 3"}
        case _:
            return {"stroke": SWAP, "stroke_width": 2, "stroke_dasharray": "2 4"}


def path_data(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{rounded(x)} {rounded(y)}" for x, y in points)


def along(points: Sequence[Point], back: float) -> Point:
    """The point that lies `back` before the end of the last segment."""
    (x1, y1), (x2, y2) = points[-2:]
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    return x2 - (x2 - x1) * back / length, y2 - (y2 - y1) * back / length
