"""Establishes that a stage that fits models takes the memory of a step from the one before, not from the system."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from offline.fitting_stage import keep_freed_memory
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return torch.ones(2_000_000) + torch.ones(2_000_000)
for _ in range(3):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_a_step_fills_no_page_that_the_step_before_has_freed() -> None:
    kept, given_back = (
        int(subprocess.check_output([sys.executable, "-c", STEPS.format(first=first)], text=True))
        for first in ("keep_freed_memory()", "")
    )
    assert kept < given_back / 10
