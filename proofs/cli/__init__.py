"""The command line, one file for each group of commands. Only __main__ imports it.

May import, beside model, invariants and the files above: naming, traces, explore, certify, litmus, check, compare,
hardware, restrict, cost, pages, export, source, data.
"""
