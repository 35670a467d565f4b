"""Two kernels side by side: what they do differently, as litmus tests, and what is proved to be alike.

May import, beside model, invariants and the files above: data, derive, naming, certify, litmus.
"""
