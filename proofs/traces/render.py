"""Every form in which a trace is shown, by name."""

from __future__ import annotations

import html
import json
from collections.abc import Callable

from proofs.traces.drawn_graph import to_dot, to_graphml, to_mermaid
from proofs.traces.picture import to_svg
from proofs.traces.text import to_markdown, to_table
from proofs.traces.trace import Trace, to_json

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 1.5em auto; max-width: 75em; padding: 0 1em; background: #f4f6f8; color: #1b1f24; }}
svg {{ width: 100%; height: auto; }}
pre {{ overflow-x: auto; padding: 1em; background: #fff; border: 1px solid #c4cad1; border-radius: 6px; }}
</style>
</head>
<body>
{picture}<pre>{table}</pre>
</body>
</html>
"""


def to_html(trace: Trace) -> str:
    """A self-contained page with the picture and the table."""
    return _PAGE.format(
        title=html.escape(f"{trace.claim} on {trace.kernel}"), picture=to_svg(trace),
        table=html.escape(to_table(trace)),
    )


def to_itf(trace: Trace) -> str:
    """The trace as JSON in the Informal Trace Format; proofs/traces/trace.py reads it again."""
    return json.dumps(to_json(trace), indent=1) + "\n"


FORMATS: dict[str, Callable[[Trace], str]] = {
    "table": to_table, "dot": to_dot, "svg": to_svg, "html": to_html, "mermaid": to_mermaid, "graphml": to_graphml,
    "itf": to_itf, "markdown": to_markdown,
}
