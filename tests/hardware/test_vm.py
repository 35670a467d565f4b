"""Virtual machines: what goes into one, what comes out, and that nothing of it is left behind.

The tests that boot a kernel want PROOFS_KERNELS, a folder that `tools/fetch-kernels` filled, and qemu.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from real_kernels import kernels

from model.logic import ModelError
from proofs.hardware import vm, vmlinuz
from proofs.hardware.reproducer import REPLAY

HERE = Path(__file__).parent
KERNELS = kernels()
PVH_NOTE = struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", 0x1000000)
ELF = b"\x7fELF" + bytes(100) + PVH_NOTE

boots = pytest.mark.skipif(
    not KERNELS or not shutil.which(vm.QEMU), reason="needs qemu and PROOFS_KERNELS (docs/kernels.md)"
)


def bzimage(payload: bytes = b"", version: str = "6.1.0-test (me@here) #1 SMP") -> bytes:
    """An image with one sector of setup code, the version at 0x300 and a payload 16 bytes behind the setup code."""
    setup = bytearray(0x400)
    setup[0x1F1] = 1
    setup[0x1FE:0x206] = b"\x55\xaa\xeb\x66HdrS"
    struct.pack_into("<H", setup, 0x206, 0x020F)
    struct.pack_into("<H", setup, 0x20E, 0x300 - 0x200)
    struct.pack_into("<II", setup, 0x248, 16, len(payload))
    setup[0x300 : 0x301 + len(version)] = version.encode() + b"\0"
    return bytes(setup) + bytes(16) + payload + b"more"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage())
    return path


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a shell script be qemu; in it `$console` is the file of the kernel's console."""

    def make(script: str) -> None:
        path = tmp_path / "bin" / vm.QEMU
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nfor a; do case $a in file:/*) console=${{a#file:}};; esac; done\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)
        monkeypatch.setattr(vm, "accelerator_of", lambda qemu, kernel: "kvm")

    return make


def members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content by path of a "newc" archive: a second reading of cpio(5)."""
    found = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        field = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = field[1], field[6], field[11]
        name = archive[at + 110 : at + 109 + length].decode()
        data = (at + 110 + length + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = mode, archive[data : data + size]
        at = (data + size + 3) // 4 * 4


FILES = {"init": b"first", "modules/order": b"a.ko\n", "modules/a.ko": bytes(5), "empty": b""}


def test_the_initramfs_holds_the_files_and_their_folders() -> None:
    found = members(gzip.decompress(vm.initramfs(FILES)))
    assert {name: data for name, (mode, data) in found.items() if not mode & 0o040000} == FILES
    assert found["modules"] == (0o040755, b"")
    assert list(found).index("modules") < list(found).index("modules/order")
    assert found["init"][0] == 0o100755


@pytest.mark.skipif(not shutil.which("cpio"), reason="needs the Debian package cpio")
def test_cpio_unpacks_the_initramfs(tmp_path: Path) -> None:
    archive = gzip.decompress(vm.initramfs(FILES))
    subprocess.run(["cpio", "--extract", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES
    assert os.access(tmp_path / "init", os.X_OK)


def test_a_slow_disk_is_a_swap_area_that_says_who_it_is() -> None:
    header = vm.swap_header(1 << 20, vm.SLOW_LABEL)
    assert len(header) == 4096
    assert header[-10:] == b"SWAPSPACE2"
    assert struct.unpack_from("<II", header, 1024) == (1, 255)
    assert header[1052:1068].rstrip(b"\0") == b"cow-gup-slow"
    assert f'"{vm.SLOW_LABEL.decode()}"' in (REPLAY / "runtime.c").read_text()


def test_an_image_says_its_release(image: Path) -> None:
    assert vmlinuz.release(image) == "6.1.0-test"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*: No such file"),
        (b"#!/bin/sh\n", "is not a Linux kernel for x86"),
        (bytes(0x1000), "is not a Linux kernel for x86"),
        (bzimage()[:0x210], "is not a Linux kernel for x86"),
        (bzimage(version=""), "does not say which version it is"),
    ],
)
def test_what_is_no_image_is_refused_in_a_line(image: Path, content: bytes | None, message: str) -> None:
    image.unlink()
    if content is not None:
        image.write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        vm.find(image)
    assert "\n" not in str(error.value)


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout + bytes(4)


def xz(data: bytes) -> bytes:
    return lzma.compress(data, check=lzma.CHECK_CRC32) + bytes(4)


@pytest.mark.parametrize("compress", [gzip.compress, xz, zstd])
def test_the_kernel_in_an_image_is_unpacked(image: Path, compress: Callable[[bytes], bytes]) -> None:
    if compress is zstd and not shutil.which("zstd"):
        pytest.skip("needs the Debian package zstd")
    image.write_bytes(bzimage(compress(ELF)))
    assert vmlinuz.unpacked(image) == ELF


@pytest.mark.parametrize(
    "payload", [b"", b"LZ4 or so", xz(ELF)[:40], xz(ELF.replace(PVH_NOTE, b"")), gzip.compress(PVH_NOTE)],
    ids=["nothing", "unknown", "cut short", "no PVH note", "no ELF"],
)
def test_a_kernel_that_cannot_be_entered_directly_stays_packed(image: Path, payload: bytes) -> None:
    image.write_bytes(bzimage(payload))
    assert vmlinuz.unpacked(image) is None


def test_what_lies_beside_an_image_belongs_to_it(image: Path) -> None:
    assert vm.find(image) == vm.Machine(image, "6.1.0-test", None, None, None)
    (image.parent / "gup_probe.ko").touch()
    (image.parent / "config-6.1.0-test").touch()
    modules = image.parent / "modules"
    modules.mkdir()
    (modules / "order").write_text("a.ko\nb.ko x=1 y=2\n")
    for name in ("a.ko", "b.ko"):
        with pytest.raises(ModelError, match=f"order names {name}, which is not there"):
            vm.find(image)
        (modules / name).touch()
    assert vm.find(image) == vm.Machine(
        image, "6.1.0-test", modules, image.parent / "gup_probe.ko", image.parent / "config-6.1.0-test"
    )


def test_a_missing_tool_is_named_with_its_package(
    image: Path, tmp_path: Path, fake_qemu: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(ModelError, match=r"qemu-system-x86_64 is not installed \(Debian package qemu-system-x86\)"):
        vm.boot(vm.find(image), image, seconds=1)
    fake_qemu("")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    vm.init_program.cache_clear()
    with pytest.raises(ModelError, match=r"cc is not installed \(Debian package gcc\)"):
        vm.boot(vm.find(image), image, seconds=1)


@pytest.mark.parametrize(
    ("script", "lines", "ended", "status", "reason"),
    [
        (r"printf 'one\n\n@exit x\ntwo\n\n@exit 7\n'; exec sleep 60", ("one", "@exit x", "two"), "done", 7, "^$"),
        (r"echo; echo @timeout; exec sleep 60", (), "timeout", None, "not done after 20 s"),
        ("echo Kernel panic - so >$console; echo - >>$console", (), "panic", None, ".*said: Kernel panic - so$"),
        (r"printf 'half a li'", ("half a li",), "panic", None, "the machine ended by itself; the kernel said: nothing"),
    ],
    ids=["done", "timeout", "panic", "power off"],
)
def test_how_a_machine_ended(
    image: Path, fake_qemu: Callable[[str], None], script: str, lines: Sequence[str], ended: str, status: int | None,
    reason: str,
) -> None:
    fake_qemu(script)
    seen: list[str] = []
    done = vm.boot(vm.find(image), image, seconds=20, on_line=seen.append)
    assert (done.lines, tuple(seen), done.ended, done.status) == (lines, lines, ended, status)
    assert done.seconds < 15
    assert re.match(reason, done.reason)


def alive(pid_file: Path) -> bool:
    return Path(f"/proc/{pid_file.read_text().strip()}").exists()


def test_a_machine_that_does_not_end_is_killed_in_time(
    image: Path, tmp_path: Path, fake_qemu: Callable[[str], None]
) -> None:
    fake_qemu(f"echo $$ >{tmp_path}/pid; echo one; echo last words >$console; exec sleep 60")
    done = vm.boot(vm.find(image), image, seconds=1)
    assert (done.lines, done.ended, done.status) == (("one",), "timeout", None)
    assert done.reason == "not done after 1 s; the kernel said: last words"
    assert 1 <= done.seconds < 5
    assert not alive(tmp_path / "pid")


def test_an_interrupt_ends_the_machine(image: Path, tmp_path: Path, fake_qemu: Callable[[str], None]) -> None:
    fake_qemu(f"echo $$ >{tmp_path}/pid; echo one; exec sleep 60")

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vm.boot(vm.find(image), image, seconds=20, on_line=interrupt)
    assert not alive(tmp_path / "pid")


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs the Debian package util-linux")
def test_a_machine_does_not_outlive_us(image: Path, tmp_path: Path, fake_qemu: Callable[[str], None]) -> None:
    fake_qemu(f"echo $$ >{tmp_path}/pid; echo one; exec sleep 60")
    program = f"""
import os, signal
from pathlib import Path
from proofs.hardware import vm
vm.accelerator_of = lambda qemu, kernel: "kvm"
image = Path({str(image)!r})
vm.boot(vm.find(image), image, seconds=60, on_line=lambda line: os.kill(os.getpid(), signal.SIGKILL))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while alive(tmp_path / "pid") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(tmp_path / "pid")


def test_what_qemu_complains_of_is_an_error(image: Path, fake_qemu: Callable[[str], None]) -> None:
    fake_qemu("echo qemu-system-x86_64: no such thing >&2; exit 1")
    with pytest.raises(ModelError, match=r"^qemu-system-x86_64: no such thing$"):
        vm.boot(vm.find(image), image, seconds=20)


@pytest.mark.parametrize(
    ("script", "expected"), [("echo Linux version", "kvm"), ("exit 134", "tcg"), ("exec sleep 9", "tcg")]
)
def test_kvm_counts_only_if_a_kernel_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: str
) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text(f"#!/bin/sh\n{script}\n")
    qemu.chmod(0o755)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert vm.accelerator_of(str(qemu), tmp_path / "vmlinuz", seconds=1) == expected


def build(tmp_path: Path, name: str) -> Path:
    """A static program of this folder's."""
    program = tmp_path / name
    subprocess.run(
        ["cc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{REPLAY}", "-o", program,
         HERE / f"{name}.c"], check=True,
    )  # fmt: skip
    return program


@pytest.mark.slow
@boots
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda path: path.parent.name)
def test_a_machine_is_what_the_tests_need(kernel: Path, tmp_path: Path) -> None:
    machine = vm.find(kernel)
    guest = build(tmp_path, "vm_guest")
    paths = {
        "/proc/sys/kernel/osrelease": machine.release,
        "/proc/swaps": "/dev/vda",
        "/sys/devices/system/node/has_memory": "0-1",
        "/sys/devices/system/cpu/online": "0",
        "/sys/kernel/mm/transparent_hugepage/enabled": "[madvise]",
        "/sys/fs/cgroup/cgroup.subtree_control": "memory",
        "/proc/sys/kernel/numa_balancing": "0",
        "/proc/mounts": "/sys/kernel/debug",
        "/proc/partitions": "ram0",
    }
    done = vm.boot(machine, guest, ["show", *paths], seconds=120)
    assert (done.ended, done.status) == ("done", 0), done.reason
    assert len(done.lines) == len(paths)
    for line, (path, value) in zip(done.lines, paths.items(), strict=True):
        assert line.startswith(f"{path}:")
        assert value in line
    assert "standard error is on the console" in done.console
    print(f"{machine.release}: {done.seconds:.1f} s with {done.accelerator}")


@pytest.mark.slow
@boots
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda path: path.parent.name)
def test_the_probe_module_agrees_with_known_facts(kernel: Path, tmp_path: Path) -> None:
    machine = vm.find(kernel)
    if machine.probe is None:
        pytest.skip("its probe module was not built")
    done = vm.boot(machine, build(tmp_path, "gup_probe_facts"), seconds=120)
    assert [line for line in done.lines if not line.startswith("ok ")] == []
    assert (done.ended, done.status, len(done.lines)) == ("done", 0, 43), done.reason


@pytest.mark.slow
@boots
def test_a_bare_image_is_enough(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    shutil.copy(KERNELS[0], kernel)
    done = vm.boot(vm.find(kernel), build(tmp_path, "vm_guest"), ["arguments", "a b", "", "ü"], seconds=120)
    assert (done.lines, done.status) == (("[a b]", "[]", "[ü]", "no newline at the end"), 3)


@pytest.mark.slow
@boots
def test_a_panic_is_said(tmp_path: Path) -> None:
    done = vm.boot(vm.find(KERNELS[0]), build(tmp_path, "vm_guest"), ["crash"], seconds=120)
    assert (done.ended, done.status) == ("panic", None)
    assert "the machine ended by itself; the kernel said: " in done.reason
    assert "Kernel panic - not syncing" in done.console


@pytest.mark.slow
@boots
def test_the_machine_ends_itself_where_nobody_does(tmp_path: Path) -> None:
    start = time.monotonic()
    done = vm.boot(vm.find(KERNELS[0]), build(tmp_path, "vm_guest"), ["sleep"], seconds=120, append="PROOFS_SECONDS=1")
    assert (done.ended, done.status) == ("timeout", None)
    assert time.monotonic() - start < 60  # so it was not us
