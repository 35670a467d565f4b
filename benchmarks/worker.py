"""One run of our exploration in its own process: `python -m benchmarks.worker KERNEL SCOPE THREADS REDUCE WORDS`."""

import sys
from unittest.mock import patch

from proofs.check.scopes import scope_named
from proofs.explore import machine
from proofs.explore.search import explore
from proofs.naming.specs import find_kernel


def main() -> None:
    """Explore and print what was found, and the seconds from the terms to the last state."""
    kernel, scope, threads, reduce, words = sys.argv[1:]
    packed = machine.state_words
    # The rest of the words stays empty: what is measured is what they cost.
    wider = patch.object(machine, "state_words", lambda grounder: max(packed(grounder), int(words)))
    with wider:
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
