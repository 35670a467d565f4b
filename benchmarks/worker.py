"""One run of our exploration in a process of its own: `python -m benchmarks.worker KERNEL SCOPE THREADS REDUCE`."""

import sys

from proofs.check import scope_named
from proofs.explore import explore
from proofs.kernel_file import find_kernel


def main() -> None:
    """Explore and print what was found, and the seconds from the terms to the last state."""
    kernel, scope, threads, reduce = sys.argv[1:]
    found = explore(
        find_kernel(kernel).system(), scope_named(scope), [], threads=int(threads), reduce=bool(int(reduce)),
        memory=16 << 30,
    )
    if not found.complete:
        print(found.stopped)
        return
    print(f"{found.states} states {found.transitions} transitions {found.seconds} s")


if __name__ == "__main__":
    main()
