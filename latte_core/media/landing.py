"""Write a file so that it exists whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latte_core.errors import MediaError

SUFFIX = ".partial"

logger = logging.getLogger(__name__)


@contextmanager
def landing(path: Path, suffix: str) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success sync it and rename it to `path`.

    Raises MediaError, naming the cause and the remedy, if the target's suffix or folder is wrong
    or the disk refuses; the temporary file is gone then, and a former `path` is untouched.
    """
    check_target(path, suffix)
    sweep_partials(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise MediaError(_sentence(path, error)) from error
    finally:
        _remove(partial)


def check_target(path: Path, suffix: str) -> None:
    """Raise MediaError if `path` cannot be the name of a file that ends in `suffix`."""
    if path.suffix.lower() != suffix:
        raise MediaError(f"{path.name} must end in {suffix}: choose such a name.")
    if not path.parent.is_dir():
        raise MediaError(f"The folder {path.parent} does not exist: make it first.")
    if path.is_dir():
        raise MediaError(f"{path} is a folder: choose a file name inside it.")


def sweep_partials(folder: Path) -> int:
    """Remove temporary files that killed processes left in `folder`; returns how many."""
    swept = 0
    for leftover in folder.glob(f".*{SUFFIX}"):
        owner = leftover.name.removesuffix(SUFFIX).rpartition(".")[2]
        if owner.isdigit() and not _alive(int(owner)):
            _remove(leftover)
            swept += 1
    return swept


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("The temporary file %s could not be removed: %s", path.name, error)


def _sentence(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{path} was not written, the disk is full: free some space and try again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} was not written, the folder is read-only: choose another folder."
    return f"{path} was not written: {error.strerror or error}."
