"""Operations at the same time on real kernels, in an order that a debugger decides: qemu's gdbstub steers processors.

`gdbstub` speaks the protocol, `symbols` are the kernel's, `machine` is one with a processor for each operation,
`points` say which access or call is which sub-step, `steering` runs one processor up to such a point, `orders` are
schedules as text, from traces, and their neighbours; `races` runs them, `report` tells what was seen, and
`directory` is what can be sent of it.
"""
