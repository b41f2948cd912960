"""A run's log: a CSV file that grows by a row, and is cut back when a run goes on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row; a file that stands there keeps its columns, and others are left out."""
    names = _columns(path) or list(row)
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names, extrasaction="ignore", restval="")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def trim_rows(path: Path, last: int) -> None:
    """Take away rows of steps after `last`, whole or not at all."""
    names = _columns(path)
    if not names:
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if _step(row) <= last]
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def _columns(path: Path) -> list[str]:
    """The names in the first line; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _step(row: dict[str, str | None]) -> float:
    """A row's step; a row that a kill cut off counts as one to come."""
    text = row["step"] or ""
    whole = text.isdigit() and None not in row.values()
    return int(text) if whole else float("inf")
