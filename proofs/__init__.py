"""The engines, and what is made of their verdicts. From Python: `verdicts`, whose cells `trace_of` and FORMATS show.

docs/api.md has an example. They are loaded when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proofs.check.cells import Cell, trace_of
    from proofs.check.scopes import scope_of
    from proofs.check.tables import verdicts
    from proofs.errors import EngineError
    from proofs.traces.render import FORMATS
    from proofs.traces.trace import Trace

__all__ = ["FORMATS", "Cell", "EngineError", "Trace", "scope_of", "trace_of", "verdicts"]

_HOMES = {
    "Cell": "check.cells", "EngineError": "errors", "FORMATS": "traces.render", "Trace": "traces.trace",
    "scope_of": "check.scopes", "trace_of": "check.cells", "verdicts": "check.tables",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415  most who import this package ask for nothing here

    return getattr(importlib.import_module(f"proofs.{_HOMES[name]}"), name)
