"""Settings from JSON: any tree of dataclasses, checked name by name and value by value."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from latte_core.errors import ConfigError

T = TypeVar("T")


def read_settings(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file. Raises ConfigError if it cannot be read or is something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The settings {path} cannot be read: {error}") from error
    return check_mapping(data, str(path))


def build(kind: type[T], data: Any, where: str) -> T:
    """A dataclass from JSON: objects become dataclasses, lists tuples, by the fields' types.

    Raises ConfigError that names an unknown or missing setting, or one of another type.
    """
    given = check_mapping(data, where)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(
            f"{where} has unknown settings: {', '.join(unknown)}. It knows {', '.join(known)}."
        )
    missing = [
        name
        for name, field in known.items()
        if name not in given and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise ConfigError(f"{where} is incomplete: it lacks {', '.join(missing)}.")
    hints = get_type_hints(kind)
    return kind(**{n: _value(hints[n], value, f"{where}.{n}") for n, value in given.items()})


def check_mapping(data: Any, where: str) -> Mapping[str, Any]:
    """Return the settings if that is what they are."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} is {data!r}; it has to be an object with named settings.")
    return data


def _value(hint: Any, value: Any, where: str) -> Any:
    """One setting as its field's type wants it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _value(next(kind for kind in inner if kind is not type(None)), value, where)
    if is_dataclass(hint):
        return build(cast(type, hint), value, where)
    if origin is Literal:
        return _accept(value in inner, value, where, ", ".join(map(repr, inner)))
    if origin is tuple:
        _accept(isinstance(value, list | tuple), value, where, "a list")
        return tuple(_value(inner[0], item, where) for item in value)
    if origin is not None:  # Mapping[str, Any]
        return dict(check_mapping(value, where))
    return _plain(hint, value, where)


def _plain(hint: Any, value: Any, where: str) -> Any:
    """A number, a word, true or false."""
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(_accept(number, value, where, "a number"))
    names = {int: "a whole number", str: "a text", bool: "true or false"}
    return _accept(type(value) is hint, value, where, names[hint])


def _accept(holds: bool, value: Any, where: str, wanted: str) -> Any:
    if not holds:
        raise ConfigError(f"{where} is {value!r}; it has to be {wanted}.")
    return value
