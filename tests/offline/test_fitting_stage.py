"""Establishes that a stage that fits models takes the memory of a step from the one before, not from the system."""

import platform
import subprocess
import sys

import pytest

from data_exchange_center.settings import ROOT

STEPS = """
import resource, torch
torch.set_num_threads(1)
from offline.fitting_stage import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return [torch.ones(5_000_000) for _ in range(8)]
for _ in range(3):
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""
LIBRARY, VERSION = platform.libc_ver()


@pytest.mark.skipif(
    LIBRARY != "glibc" or [int(part) for part in VERSION.split(".")] < [2, 35],
    reason="only glibc from 2.35 on can be told to keep so much",
)
def test_a_step_fills_no_page_that_the_step_before_has_freed() -> None:
    faults = int(subprocess.check_output([sys.executable, "-c", STEPS], text=True, cwd=ROOT))
    assert faults < 5_000  # of the 195,000 pages that five steps take
