"""The engines, and what is made of their verdicts. From Python: `verdicts`, whose cells `trace_of` and FORMATS show.

docs/api.md has an example. They are loaded when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proofs.check import Cell, scope_of, trace_of, verdicts
    from proofs.errors import EngineError
    from proofs.render import FORMATS
    from proofs.trace import Trace

__all__ = ["FORMATS", "Cell", "EngineError", "Trace", "scope_of", "trace_of", "verdicts"]

_HOMES = {"EngineError": "errors", "FORMATS": "render", "Trace": "trace"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415  most who import this package ask for nothing here

    return getattr(importlib.import_module(f"proofs.{_HOMES.get(name, 'check')}"), name)
