"""Every error that the engine raises, in one tree.

LatteError
├── ConfigError        a model or training configuration that cannot be built
├── ShapeError         a tensor whose shape does not fit
├── RequestError       a generation request with a value outside its limits
├── CheckpointError    a model folder that is missing, incomplete or damaged
├── MemoryPlanError    a memory plan that does not fit or cannot be carried out here
├── NonFiniteError     NaN or infinity where numbers should be
├── MediaError         a file that could not be written or read back
├── DataError          a data set that cannot be read
├── Cancelled          the job was stopped by its owner
└── EngineBusyError    the queue is full or the engine is shut down

The text of an error names the value, the limit and the remedy, in one or two sentences that a
user can read. The core raises; only the page and the command line turn errors into messages.
"""

from __future__ import annotations


class LatteError(Exception):
    """Base of all errors of this project."""


class ConfigError(LatteError):
    """A model or training configuration cannot be built."""


class ShapeError(LatteError):
    """A tensor does not have the shape that the operation needs."""


class RequestError(LatteError):
    """A field of a generation request is outside its limits.

    `field` is the name of the offending field of `GenerationRequest`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class CheckpointError(LatteError):
    """A model folder is missing, incomplete or damaged."""


class MemoryPlanError(LatteError):
    """A memory plan does not fit into free memory or cannot be carried out on this machine."""


class NonFiniteError(LatteError):
    """NaN or infinity appeared in a stage of the computation."""


class MediaError(LatteError):
    """A media file could not be written or did not read back as written."""


class DataError(LatteError):
    """A data set cannot be read."""


class Cancelled(LatteError):  # noqa: N818 - a stop is not a fault
    """The job was stopped by its owner. `step` is the last completed step (0 if none)."""

    def __init__(self, step: int = 0, total: int = 0) -> None:
        super().__init__(f"Stopped at step {step} of {total}." if total else "Stopped.")
        self.step = step
        self.total = total


class EngineBusyError(LatteError):
    """The engine takes no further jobs now."""
