"""A race as a directory that can be sent: the litmus test, its C program, the order, and a script that runs it."""

from __future__ import annotations

from collections.abc import Mapping

from proofs.errors import NotObservable
from proofs.hardware import reproducer
from proofs.hardware.schedule import orders
from proofs.hardware.schedule.races import Race

SCHEDULE = "schedule"
SCRIPT = "run.sh"

_SCRIPT = """\
#!/bin/sh
# {name} on a kernel in qemu, in the order that the file {schedule} says: ./{script} VMLINUZ [TIMES]
# {seen}
# Needs cow-proofs (python3 -m proofs), qemu-system-x86_64 and a C compiler. {name}.c is the program that it compiles:
# a debugger holds its threads, so it does nothing alone.
set -eu
here=$(dirname "$0")
exec "${{PYTHON:-python3}}" -m proofs replay "$here/{name}.litmus" --schedule --order "$(cat "$here/{schedule}")" \\
  --orders 1 --repeat "${{2:-1}}"{without} --vmlinuz "${{1:?which kernel image?}}"
"""


def files_of(race: Race, text: str) -> Mapping[str, str]:
    """The files, name to text. The order is one in which the test ended as it asks about, or else the first one.

    `text`: the litmus test's. Raises NotObservable for a test that no debugger can steer.
    """
    if not race.first:
        raise NotObservable(race.reason)
    name = race.test.name
    order = next((course.order for course in race.shown), race.first)
    ends = [course for course in race.courses if course.order == order and course.outcome]
    so = sum(course in race.shown for course in ends)
    seen = f"On {race.release} its condition was {str(race.wanted).lower()} in {so} of {len(ends)} runs."
    without = f" --without {race.control.name}" if race.control else ""
    script = _SCRIPT.format(name=name, schedule=SCHEDULE, script=SCRIPT, seen=seen, without=without)
    return {
        f"{name}.litmus": text, f"{name}.c": reproducer.program([race.test], end="scheduled"),
        SCHEDULE: orders.shown(order) + "\n", SCRIPT: script,
    }
