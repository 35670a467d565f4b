"""A kernel's source: C read into decisions, held against those of the model's kernels. Needs tree-sitter.

May import, beside model, invariants and the files above: naming.
"""
