"""Two kernels side by side: what they do differently, as litmus tests.

May import, beside model, invariants and the files above: derive, naming, litmus.
"""
