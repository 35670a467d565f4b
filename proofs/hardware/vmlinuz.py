"""What a kernel image for x86 (bzImage, `/boot/vmlinuz-*`) says of itself and holds.

Source: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
"""

from __future__ import annotations

import lzma
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

from model.logic import ModelError

_SETUP_SECTS, _BOOT_FLAG, _HEADER, _VERSION, _KERNEL_VERSION, _PAYLOAD = 0x1F1, 0x1FE, 0x202, 0x206, 0x20E, 0x248
_WITH_PAYLOAD = 0x0208  # boot protocol that knows payload_offset and payload_length
_PVH_NOTE = re.compile(rb"\x04\0\0\0....\x12\0\0\0Xen\0", re.DOTALL)  # XEN_ELFNOTE_PHYS32_ENTRY


def release(vmlinuz: Path) -> str:
    """Its `uname -r`. Raises ModelError if it cannot be read or is no such image."""
    image = _read(vmlinuz)
    start = 0x200 + int(struct.unpack_from("<H", image, _KERNEL_VERSION)[0])
    words = image[start : start + 256].split(b"\0")[0].decode("ascii", "replace").split()
    if start == 0x200 or not words:
        raise ModelError(f"{vmlinuz} does not say which version it is")
    return words[0]


def unpacked(vmlinuz: Path) -> bytes | None:
    """The kernel itself, an ELF file that a virtual machine can enter directly (PVH). Emulation then need not unpack
    it, which takes most of a boot. None if it is compressed with what cannot be undone here, or has no such entry.

    Raises ModelError if it cannot be read or is no such image."""
    image = _read(vmlinuz)
    if struct.unpack_from("<H", image, _VERSION)[0] < _WITH_PAYLOAD:
        return None
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    offset += 512 * (1 + (image[_SETUP_SECTS] or 4))
    kernel = _decompressed(image[offset : offset + length])
    return kernel if kernel.startswith(b"\x7fELF") and _PVH_NOTE.search(kernel) else None


def _decompressed(payload: bytes) -> bytes:
    """Empty where it cannot be done. Four bytes with the size follow the compressed data, unless it is gzip's own."""
    try:
        if payload.startswith(b"\xfd7zXZ"):
            return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
        if payload.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(payload)
    except (lzma.LZMAError, zlib.error):
        return b""
    if payload.startswith(b"\x28\xb5\x2f\xfd") and (zstd := shutil.which("zstd")):
        done = subprocess.run([zstd, "-dcq"], input=payload[:-4], capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else b""
    return b""


def contents(path: Path) -> bytes:
    """Raises ModelError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None


def _read(vmlinuz: Path) -> bytes:
    image = contents(vmlinuz)
    marks = image[_BOOT_FLAG : _BOOT_FLAG + 2], image[_HEADER : _HEADER + 4]
    if len(image) < 0x400 or marks != (b"\x55\xaa", b"HdrS"):
        raise ModelError(f"{vmlinuz} is not a Linux kernel for x86 (a bzImage, as in /boot/vmlinuz-*)")
    return image
