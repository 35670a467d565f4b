"""What is installed from a wheel has all that the program reads."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from places import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel has."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "-w", folder, ROOT], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, *arguments: str | Path) -> str:
    """What it prints, run elsewhere than in the source tree."""
    return subprocess.run(
        [sys.executable, "-m", "proofs", *arguments], cwd=installed.parent, check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(installed)},
    ).stdout


@pytest.mark.slow
def test_the_suite_the_certificates_and_the_facts_come_along(installed: Path, tmp_path: Path) -> None:
    data = installed / "proofs" / "data"
    assert "tests in" in run(installed, "matrix", "--write-suite", tmp_path)
    assert (tmp_path / "F1-vmsplice-leak.litmus").is_file()
    assert "accepted" in run(installed, "verify", data / "certificates" / "v7.2" / "mprotect.json")
    assert "#" in run(installed, "list", "-k", "v5.9")
    program = run(installed, "reproducer", data / "litmus" / "F2-reference-before-fork.litmus")
    assert "int main(" in program


@pytest.mark.slow
def test_an_installed_program_checks_kernels(installed: Path, tmp_path: Path) -> None:
    told = run(installed, "check", "-k", "v5.9", "-i", "mprotect", "--scope", "2,1,2,1,1", "-o", tmp_path)
    assert "PROVED" in told
