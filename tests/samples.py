"""Texts that tests of several folders give to the program."""

F1 = """litmus F1
page x
A: write x 1
A: fork C
C: r = vmsplice x
C: munmap x
A: write x 2
exists r sees 2
"""
"""The leak by vmsplice: v5.7 allows it, v5.8 does not."""
