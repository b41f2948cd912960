import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from latte_core.training.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        kept = [torch.ones(2 << 20) for _ in range(8)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
faults()
before = faults()
print(before, keep_freed_memory(), faults() and faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_what_a_step_frees_is_not_fetched_from_the_system_again():
    """In a process of its own, because the setting lasts."""
    told = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    ).stdout.split()
    before, kept, after = int(told[0]), told[1] == "True", int(told[2])
    assert not kept or after < before / 10, told
