"""Two ways for mprotect to spare pinned pages; the one that keeps what mprotect promises has a certificate.

python examples/restricted.py
"""

from pathlib import Path

from proofs import verdicts
from proofs.certify.verify import verify

KERNELS = ("page-count+mprotect-skip", "page-count+mprotect-refuse")

if __name__ == "__main__":
    for cell in verdicts(KERNELS, ["mprotect"], scope="2,1,2,1,1"):
        print(cell.kernel, cell.verdict)
        if cell.certificate is not None:
            for solver in ("z3", "cvc5"):
                (checked,) = verify(Path(cell.certificate), [solver])
                print(f"  {checked.obligations} obligations, {solver}: {checked.verdict}")
