"""A promise of one's own asked of two kernels; where one breaks it, the picture of the shortest way.

python examples/promise.py
"""

from pathlib import Path

from invariants import Invariant
from model import And, Not, Page, Pin, Proc
from model.state import maps, pin_foll_pin, pin_frame, pin_live, pin_proc
from proofs import FORMATS, scope_of, trace_of, verdicts

SCOPE = scope_of(2, 1, 2, 1, 1)

NOT_THE_CHILD = Invariant(
    "not-the-child", "no other process maps a pinned page (FOLL_PIN)", "fork's early copy", (Pin, Proc, Page),
    when=lambda k, p, v: And(pin_live(k), pin_foll_pin(k), pin_proc(k) != p),
    then=lambda k, p, v: Not(maps(p, v, pin_frame(k))),
)

if __name__ == "__main__":
    for cell in verdicts(["v5.8", "v5.19"], [NOT_THE_CHILD], scope=SCOPE, engine="explore"):
        print(cell.kernel, cell.verdict)
        if cell.verdict == "VIOLATED":
            trace = trace_of(cell, SCOPE)
            print("  " + ", ".join(step.rule.name for step in trace.steps))
            Path(f"{cell.kernel}.svg").write_text(FORMATS["svg"](trace), encoding="utf-8")
