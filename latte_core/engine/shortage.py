"""Whether an error means that memory ran out, whoever raised it. Needs no torch."""

from __future__ import annotations

# What torch and its libraries say: CPU allocator, CUDA, cuBLAS and cuDNN, MPS.
WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether this is a want of memory: torch's OutOfMemoryError is known by its name."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS)
