"""Certificates of proofs, written and verified. Shares nothing with the search, whose defects cannot hide here.

May import, beside model, invariants and the files above: naming.
"""
