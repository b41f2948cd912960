"""Fetch a model folder from the hub, telling how many bytes have come."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latte_core.errors import CheckpointError

# on_bytes(done, total): bytes on the disk, and bytes that are to be fetched in all.
OnBytes = Callable[[int, int], None]

TOLD_EVERY_S = 0.25


def fetch(name: str, patterns: Sequence[str], on_bytes: OnBytes | None = None) -> Path:
    """The folder of the hub's repository `name`, in the hub's cache; what is there is not fetched.

    Raises CheckpointError if it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    options: dict[str, Any] = {"allow_patterns": list(patterns)}
    try:
        if on_bytes is not None and (missing := _missing_bytes(name, options)):
            options["tqdm_class"] = _counting(Count(missing, on_bytes))
        return Path(snapshot_download(name, **options))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise CheckpointError(
            f"There is no folder {name!r}, and it cannot be fetched from the hub either: "
            f"{_first_line(error)} Check the name, the connection and the access rights."
        ) from error


class Count:
    """Bytes that have come, from all threads; told a few times a second, and at the end."""

    def __init__(self, total: int, on_bytes: OnBytes) -> None:
        self._total = total
        self._on_bytes = on_bytes
        self._lock = threading.Lock()
        self._done = 0
        self._told = float("-inf")
        on_bytes(0, total)

    def reach(self, done: int) -> None:
        """`done` bytes have come; never fewer than before, never more than there are."""
        with self._lock:
            done = min(max(done, self._done), self._total)
            now = time.monotonic()
            whole = done == self._total
            if done == self._done or (now - self._told < TOLD_EVERY_S and not whole):
                return
            self._done, self._told = done, now
            self._on_bytes(done, self._total)


def _missing_bytes(name: str, options: dict[str, Any]) -> int:
    """Size of all files that are not in the cache; 0 without the hub, which may not be needed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        files = snapshot_download(name, dry_run=True, **options)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled):
        return 0
    return sum(file.file_size or 0 for file in files if file.will_download)


def _counting(count: Count) -> type[Any]:
    """A bar for the hub that draws nothing; what its bars of bytes say goes to `count`.

    The hub has a bar for bytes that came and one for bytes written; the further one counts.
    """
    from tqdm.auto import tqdm

    class Counting(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            drawn = super().update(n)
            if self.unit == "B":
                count.reach(int(self.n))
            return drawn

    return Counting


def _first_line(error: Exception) -> str:
    """The first line of an error's text, as a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
