"""What an access costs at most, and what that means for a workload.

May import, beside model, invariants and the files above: derive, naming, traces, explore, induct, certify, check,
hardware.
"""
