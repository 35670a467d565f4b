"""Two kernels side by side: verdicts, what they do differently as litmus tests, and what is proved to be alike.

May import, beside model, invariants and the files above: data, derive, naming, traces, explore, certify, litmus, check.
"""
