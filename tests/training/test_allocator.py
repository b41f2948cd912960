"""What the trainer asks of the C library."""

import subprocess
import sys

import pytest

# Takes and frees eight blocks of 8 MB in turns, as a step does with its tensors.
FAULTS = """
import ctypes, resource
from latte_core.training.allocator import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        blocks = [libc.malloc(8 << 20) for _ in range(8)]
        for block in blocks:
            ctypes.memset(block, 1, 8 << 20)
        for block in reversed(blocks):
            libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before, kept = faults(), keep_freed_memory()
faults()
print(before, kept, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_what_a_step_frees_is_not_fetched_from_the_system_again():
    """In a process of its own, because the setting lasts."""
    told = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    ).stdout.split()
    before, kept, after = int(told[0]), told[1] == "True", int(told[2])
    assert not kept or after < before / 100, told
