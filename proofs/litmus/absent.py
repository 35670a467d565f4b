"""Words of Linux's memory management that the litmus language does not have, and what to say of each.

The nearest spelling would mislead whoever writes them: `mmap` is not `munmap`, `hugetlb` is not `huge`.
"""

from __future__ import annotations

LACKING: dict[str, str] = {
    "hugetlbfs": "say `page V hugetlb` for a private mapping of a hugetlb page",
    "map-hugetlb": "say `page V hugetlb` for a private mapping of a hugetlb page",
    "shm": "mappings are private", "shmem": "mappings are private", "shared": "mappings are private",
    "map-shared": "mappings are private", "shmat": "mappings are private", "sysv": "mappings are private",
    "memfd": "say `page V file` for a private mapping of one",
    "tmpfs": "say `page V file` for a private mapping of a file", "dax": "there are no PFN mappings",
    "pfnmap": "there are no PFN mappings", "device-private": "", "secretmem": "",
    "mlock": "", "mlock2": "", "mlockall": "", "munlock": "", "munlockall": "", "msync": "", "mincore": "", "brk": "",
    "splice": "a pipe takes pages of a process by `P: r = vmsplice V`",
    "tee": "a pipe takes pages of a process by `P: r = vmsplice V`", "sendfile": "", "swapon": "", "mbind": "",
    "mmu-notifier": "secondary page tables are left out", "kvm": "secondary page tables are left out",
    "vfork": "`fork Q` copies the mm", "clone": "`fork Q` copies the mm; threads of one mm are operations with `||`",
    "execve": "`exit` ends an mm", "exec": "`exit` ends an mm; PROT_EXEC is `mprotect V rwx`",
    "userfaultfd": "say `page V uffd`, `uffd-register V missing`, `uffd-wp V`, `uffd-copy V n`, `uffd-move V W`",
    "uffd-poison": "UFFDIO_POISON", "uffdio-poison": "UFFDIO_POISON",
    "hwpoison": "memory failure is left out", "memory-failure": "memory failure is left out",
    "madv-cold": "", "madv-willneed": "", "madv-sequential": "", "madv-random": "", "madv-normal": "",
    "madv-remove": "it is for shared mappings", "madv-nohugepage": "", "madv-dontdump": "", "madv-dodump": "",
    "madv-hwpoison": "memory failure is left out", "madv-soft-offline": "memory failure is left out",
    "madv-dontneed-locked": "no mapping is locked",
}
"""Word, in small letters and with - for _, to why it is missing or what comes near; empty if nothing is to be said."""
SAID_AS: dict[str, str] = {
    **dict.fromkeys(("madvise", "process-madvise"), "`P: dontneed V`, `P: madv-free V`, `P: unmerge V`, `*: ksm V W`, "
                    "`*: collapse V` or `*: pageout V`"),
    "madv-dontneed": "`P: dontneed V`", "madv-pageout": "`P: pageout V`, or `*: pageout V`",
    "madv-mergeable": "`*: ksm V W`", "madv-unmergeable": "`P: unmerge V`", "madv-collapse": "`*: collapse V`",
    **{f"madv-{advice}": f"`P: madv-{advice} V`" for advice in ("dontfork", "dofork", "wipeonfork", "keeponfork")},
    "madv-guard-install": "`P: guard-install V`", "madv-guard-remove": "`P: guard-remove V`",
    "madv-hugepage": "`page V huge N`", "thp": "`page V huge N`", "swapoff": "`P: read V`, which swaps V in",
    "ptrace": "`P: force-write V n`", "process-vm-writev": "`P: process_vm_writev V n`",
    "process-vm-readv": "`P: r = get V`", "io-uring": "`P: r = io_uring V`", "o-direct": "`P: r = dio V`",
    "prot-none": "`P: mprotect V none`", "pkey-mprotect": "`P: mprotect V rwx`, an mprotect that changes another flag",
    "madv-populate-read": "`P: populate V`", "madv-populate-write": "`P: populate V write`",
    "map-populate": "`P: populate V write`",
    "get-user-pages": "`P: r = get V`", "pin-user-pages": "`P: r = pin V`", "foll-get": "`P: r = get V`",
    "foll-pin": "`P: r = pin V`", "foll-force": "`P: force-write V n`", "put-page": "`P: drop r`",
    "unpin-user-page": "`P: drop r`", "uffdio-writeprotect": "`P: uffd-wp V` or `P: uffd-unwp V`",
    "uffdio-register": "`P: uffd-register V missing` or `P: uffd-register V wp`",
    "uffdio-unregister": "`P: uffd-unregister V`", "uffdio-copy": "`P: uffd-copy V n`",
    "uffdio-zeropage": "`P: uffd-zeropage V`", "uffdio-move": "`P: uffd-move V W`",
    "uffdio-continue": "`P: uffd-continue V`",
    "wp-unpopulated": "`page V unpopulated`", "uffd-feature-wp-unpopulated": "`page V unpopulated`",
    "wp-async": "`page V async`", "uffd-feature-wp-async": "`page V async`",
    "clear-refs": "`P: clear-soft-dirty`", "khugepaged": "`*: collapse V`",
    "ksmd": "`*: ksm V W`", "move-pages": "`P: migrate V`",
    **dict.fromkeys(("kswapd", "reclaim", "swapout", "swap-out"), "`*: pageout V`"),
    **dict.fromkeys(("swapin", "swap-in"), "`P: read V`, which swaps V in"),
    **dict.fromkeys(("compact", "compaction", "kcompactd"), "`*: migrate V`"),
}
"""Word to how a test says it."""


def absent(word: str) -> str:
    """What to say of a word that the language does not have but Linux does; empty if it is no such word."""
    call, _, argument = word.lower().replace("_", "-").rstrip(")").partition("(")
    for name in (argument, call, f"madv-{call}"):
        if name in SAID_AS:
            return f"{word!r} is said {SAID_AS[name]}"
        if name in LACKING:
            return f"{word!r} is not in the model" + (f": {LACKING[name]}" if LACKING[name] else "")
    return ""
