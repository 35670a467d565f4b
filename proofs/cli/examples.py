"""How each command is called: what stands at the end of its help, above the exit codes."""

from __future__ import annotations

from proofs.errors import EXIT_CODES

EXAMPLES: dict[str, tuple[str, ...]] = {
    "check": ("check -k v5.9 -k v5.19 -i coherence --report report", "check -k mine.py:MINE --against v7.2 --mail"),
    "coverage": ("coverage -k mine.py:MINE --scope 2,1,3,1,1",),
    "show": ("show proofs-out/litmus/F8-mprotect-pin.v5.18.trace.json", "show found.trace.json -f svg -o found.svg"),
    "explore": ("explore -k v5.9 --serve", "explore -k v5.9 --from found.trace.json"),
    "retell": ("retell found.trace.json -o found.litmus",),
    "export": ("export v5.9 -f btor2 -i write-bit -o write-bit.btor2", "export v5.9 -f tla -i write-bit -o model.tla"),
    "litmus": ("litmus F8-mprotect-pin -k v5.18 -k 6.1.0-56-amd64 --ends", "litmus mine.litmus -k mine.py:MINE",
               "litmus F8-mprotect-pin --since"),
    "matrix": ("matrix F8", "matrix --out matrix.md"),
    "diff": ("diff v5.18 v5.19 --depth 4", "diff v5.9 mine.py:MINE --with ksm"),
    "reproducer": ("reproducer F8-mprotect-pin -o test.c", "reproducer mine.litmus -k v6.1 -o test.c"),
    "selftest": ("selftest F3 F8 -o cow -k v7.2",),
    "replay": ("replay F8-mprotect-pin --vmlinuz vmlinuz-6.1.0-56-amd64",
               "replay F9r --vmlinuz vmlinuz-5.10.0-46-amd64 --schedule"),
    "conform": ("conform F8 --vmlinuz vmlinuz-6.1.0-56-amd64", "conform --random 100 --seed 7",
                "conform --races --vmlinuz vmlinuz-6.1.0-56-amd64"),
    "verify": ("verify", "verify proofs-out --solver z3 --timeout 20"),
    "restrict": ("restrict -i coherence-write-pin --base page-count",),
    "cost": ("cost -k v5.18 -k v5.19", "cost --processes 96 --bytes 1073741824 --svg cost.svg"),
    "new-kernel": ("new-kernel mine.py --from v7.2",),
    "new-invariant": ("new-invariant promise.py --name MINE",),
    "list": ("list", "list -k v5.9", "list --functions do_wp_page"),
    "source read": ("source read linux-6.1",),
    "source check": ("source check linux-6.1 --patch 0001-mine.patch",),
    "source diff": ("source diff linux-6.1 linux-6.12",),
}
"""Command to calls of it, each as what follows `python -m proofs`."""


def epilog(command: str) -> str:
    """What ends the help of a command: calls of it, then the exit codes."""
    calls = "\n".join(f"  python -m proofs {call}" for call in EXAMPLES[command])
    return f"\b\nExamples:\n{calls}\n{EXIT_CODES}"
