"""Establishes that what is locked installs on each Python that is promised, without compiling anything."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

UV = shutil.which("uv") or str(ROOT / ".tools/bin/uv")
PROMISED = ("3.11", "3.12")


@pytest.mark.parametrize("version", PROMISED)
@pytest.mark.parametrize("lock", ["requirements.lock", "services/triton-requirements.lock"])
def test_every_locked_package_has_a_wheel(lock: str, version: str, tmp_path: Path) -> None:
    wheels = ["--dry-run", "--require-hashes", "--only-binary", ":all:", "--python-version", version]
    command = [UV, "pip", "install", *wheels, "--target", str(tmp_path), "--requirement", lock]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if "error sending request" in done.stderr or "Failed to fetch" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr


def test_the_promised_versions_are_those_of_makefile_project_and_readmes() -> None:
    range_of_versions = ">=3.11,<3.13"
    assert f"PYTHON_VERSIONS := {range_of_versions}\n" in (ROOT / "Makefile").read_text()
    assert f'requires-python = "{range_of_versions}"' in (ROOT / "pyproject.toml").read_text()
    for readme in ("readme.md", "readme_en.md"):
        assert re.search(r"Python 3\.11 (或|or) 3\.12", (ROOT / readme).read_text("utf-8"))
