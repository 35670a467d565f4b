"""A litmus test asked of several kernels.

python examples/ask.py
"""

from proofs.litmus.execution import answer
from proofs.litmus.parser import parse
from proofs.naming.specs import find_kernel, system_of, with_features

TEST = parse("""litmus pinned-and-protected
about  A page is pinned for writing, made read-only and writable again, and written
page   x
A: write x 1
A: r = pin x write
A: mprotect x ro
A: mprotect x rw
A: write x 2
exists r sees 1
""", "ask.py")

if __name__ == "__main__":
    for name in ("v5.8", "v5.9", "v5.19", "wrprotect-fail", "wrprotect-skip"):
        found = answer(TEST, find_kernel(name), system_of(with_features(name, TEST.features)))
        steps = "" if found.trace is None else ": " + ", ".join(step.rule.name for step in found.trace.steps)
        print(f"{name:15} {found.answer}{steps}")
