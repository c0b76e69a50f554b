"""Establishes what `make evaluate` does when there is no server, or another fault, and that `make help` lists all."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from services.__main__ import NOT_SERVING
from tests.conftest import ROOT

VERBS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make in a folder with a copy of the Makefile and nothing else; nothing is installed."""
    shutil.copy(ROOT / "Makefile", folder)
    return subprocess.run(
        ["make", "--old-file=install", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("status", [0, 1, NOT_SERVING])
def test_only_a_missing_server_makes_evaluate_run_everything(status: int, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$2"\nif [ "$3" = serving ]; then echo reason >&2; exit {status}; fi\n')
    python.chmod(0o755)
    done = make(tmp_path, "evaluate", f"PY={python}", "MAKE=echo make")
    assert done.stderr.startswith("reason"), done.stderr  # why it goes on, falls back or ends
    assert ("make --no-print-directory run" in done.stdout) == (status == NOT_SERVING)
    assert ("benchmarks.quality.evaluate" in done.stdout) == (status != 1)
    assert (done.returncode == 0) == (status != 1)


def test_help_lists_every_verb(tmp_path: Path) -> None:
    assert {"evaluate-offline", "pictures", "run", "stop"} <= set(VERBS)
    assert re.findall(r"^  make (\S+) +\S", make(tmp_path, "help").stdout, re.M) == VERBS


def test_every_verb_is_phony(tmp_path: Path) -> None:
    """A folder of the same name, as offline/ and services/ are, must not stand for it."""
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert phony is not None and sorted(phony[1].split()) == sorted(VERBS)
