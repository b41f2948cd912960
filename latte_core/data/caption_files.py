"""Captions of clips: a `.txt` beside the file, or one JSON, JSONL or CSV for all.

A table maps a clip's path below the root, with or without its suffix, to one caption or several;
a bare file name does where only one clip has it. A text beside the file goes before a table.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from latte_core.data.walk import Candidate, Problem
from latte_core.errors import DataError

TABLES = (".json", ".jsonl", ".csv")
TABLE_NAMES = ("captions", "metadata")  # the second is what `datasets` folders use
FILE_COLUMNS = ("file_name", "file", "filename", "video", "video_path", "path", "key", "name")
TEXT_COLUMNS = ("caption", "captions", "text", "prompt", "description")

Captions = dict[str, tuple[str, ...]]


def read_captions(
    candidates: list[Candidate], root: Path, table: Path | None
) -> tuple[Captions, list[Problem]]:
    """Captions by the key of the clip, and what could not be used.

    `table` is the file of captions; None looks for one in the root. Raises DataError if the table
    cannot be read or it is not clear which file is meant.
    """
    path = table or _find_table(root)
    captions: Captions = {}
    problems: list[Problem] = []
    if path is not None:
        names = _names(candidates)
        for name, texts in _rows_or_problem(path, table is not None, problems):
            key = names.get(_plain(name))
            if key is None:
                problems.append(Problem(name, "caption", f"{path.name} names no clip that is here"))
            elif clean := tuple(t for text in texts if (t := " ".join(text.split()))):
                captions[key] = captions.get(key, ()) + clean
    for one in candidates:
        beside = one.path.with_suffix(".txt") if not one.names else Path(f"{one.path}.txt")
        try:
            if beside.is_file() and (text := " ".join(_text(beside).split())):
                captions[one.key] = (text,)
        except DataError as error:
            problems.append(Problem(one.key, "caption", str(error)))
    return captions, problems


def _rows_or_problem(
    path: Path, meant: bool, problems: list[Problem]
) -> list[tuple[str, list[str]]]:
    """The table's rows; a damaged file is only a problem if nothing says that it holds captions."""
    try:
        return list(_table_rows(path))
    except DataError as error:
        if meant or path.stem.lower() in TABLE_NAMES:
            raise
        problems.append(Problem(path.name, "caption", str(error)))
        return []


def _find_table(root: Path) -> Path | None:
    """The file of captions in the root, by its name, or because it is the only one."""
    tables = sorted(
        path
        for path in root.iterdir()
        if path.suffix.lower() in TABLES and path.is_file() and not path.name.startswith(".")
    )
    for name in TABLE_NAMES:
        named = [path for path in tables if path.stem.lower() == name]
        if len(named) == 1:
            return named[0]
        if named:
            tables = named
            break
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise DataError(
            f"{root} has several files that may hold captions ({names}): name one with --captions."
        )
    return tables[0] if tables else None


def _names(candidates: Iterable[Candidate]) -> dict[str, str | None]:
    """Every way to name a clip -> its key; None where several clips share the name."""
    names: dict[str, str | None] = {}
    exact = {}
    for one in candidates:
        path = PurePosixPath(one.key)
        stemmed = one.key if one.names else path.with_suffix("").as_posix()
        exact[_plain(one.key)] = one.key
        for name in {stemmed, path.name, PurePosixPath(stemmed).name}:
            plain = _plain(name)
            names[plain] = one.key if names.get(plain, one.key) == one.key else None
    return {**names, **exact}


def _plain(name: str) -> str:
    """A name as it is compared: forward slashes, no leading ./"""
    return name.strip().replace("\\", "/").removeprefix("./")


def _table_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Rows (name, captions) of a table. Raises DataError, with the place, if it is damaged."""
    text = _text(path)
    kind = path.suffix.lower()
    try:
        if kind == ".jsonl":
            lines = text.splitlines()
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _record(json.loads(line), f"line {number}")
        elif kind == ".csv":
            for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), start=2):
                yield _record(row, f"row {number}")
        else:
            yield from _json_rows(json.loads(text))
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"The captions in {path} cannot be read: {error}.") from error


def _json_rows(data: Any) -> Iterator[tuple[str, list[str]]]:
    """An object name -> caption(s), or a list of records."""
    if isinstance(data, dict):
        for name, value in data.items():
            inner = _first(value, TEXT_COLUMNS) if isinstance(value, dict) else value
            yield name, _texts(inner, name)
    elif isinstance(data, list):
        for number, row in enumerate(data, start=1):
            yield _record(row, f"entry {number}")
    else:
        raise ValueError("it must hold an object or a list")


def _record(row: Any, where: str) -> tuple[str, list[str]]:
    """One row with a file's column and a caption's column."""
    if not isinstance(row, dict):
        raise ValueError(f"{where} is no object")
    name = _first(row, FILE_COLUMNS)
    if not isinstance(name, str) or not any(column in row for column in TEXT_COLUMNS):
        raise ValueError(
            f"{where} lacks a column for the file ({', '.join(FILE_COLUMNS[:2])}, ..) or for the "
            f"caption ({', '.join(TEXT_COLUMNS[:1])}, {TEXT_COLUMNS[2]}, ..)"
        )
    return name, _texts(_first(row, TEXT_COLUMNS), where)


def _first(row: dict[str, Any], columns: tuple[str, ...]) -> Any:
    return next((row[column] for column in columns if row.get(column) is not None), None)


def _texts(value: Any, where: str) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, str) for one in values):
        raise ValueError(f"the caption of {where} is no text")
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8: save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror}).") from error
