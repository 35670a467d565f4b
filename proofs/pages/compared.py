"""A kernel against another one, as a part of a report's page."""

from __future__ import annotations

import html
from collections.abc import Callable

from proofs.check.cells import Cell
from proofs.compare.answer import KernelComparison, to_text_beside

LOOKS = {"worse": "violated", "better": "proved", "undecided": "unknown"}
"""What became of a promise, to the look of its cell."""


def section(answer: KernelComparison, entry: Callable[[Cell | None], str]) -> str:
    """What is worse, better and the same, then decisions and a test, as HTML. `entry`: the cell of a verdict."""
    heads = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in ("", answer.old, answer.new, ""))
    rows = "".join(
        f'<tr><th scope="row">{html.escape(row.invariant)}</th>{entry(row.old)}{entry(row.new)}'
        f'<td class="{LOOKS.get(row.judged, "none")}">{row.judged}</td></tr>'
        for row in answer.rows
    )
    title = html.escape(f"{answer.new} against {answer.old}: {answer.counts()}")
    return (
        f'<section class="matrix compared"><div class="scroll" role="region" tabindex="0" aria-label="{title}">'
        f'<table><caption><span class="stays">{title}.</span></caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div><pre>{html.escape(to_text_beside(answer))}</pre></section>"
    )
