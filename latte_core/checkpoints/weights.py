"""Weights wherever they lie: original `.pt` files, safetensors, folders of diffusers and of ours.

A pickle is read only by torch's restricted reader (`weights_only=True`), which builds tensors and
plain containers and runs nothing.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from latte_core.checkpoints.files import PICKLES, read_json, read_safetensors, read_tensors
from latte_core.errors import CheckpointError, ConfigError
from latte_core.model import ModelConfig

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
# Training scripts keep their options beside the weights; a namespace only holds values.
_HARMLESS: list[Any] = [argparse.Namespace]


@dataclass(frozen=True)
class Source:
    """Weights as they were stored, wrappers and all.

    `config` are fields of a ModelConfig that a config.json beside them tells. `pipeline` is the
    model folder that they are a part of, None if they lie alone.
    """

    state: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    pipeline: Path | None = None


def read_source(path: Path) -> Source:
    """Read weights, mapped into memory where the format allows, so that they cost none at first.

    `path` is a `.pt`, `.pth`, `.ckpt` or `.bin` file, a `.safetensors` file, the folder of one
    transformer, or a whole model folder. Raises CheckpointError.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a file of weights or a model folder.")
    if path.suffix in PICKLES:
        return Source(_read_pickle(path))
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path.name} is of no kind that is read here: .safetensors, {', '.join(PICKLES)}, or "
            "a folder with a config.json."
        )
    if _SHARD.search(path.stem):
        raise CheckpointError(
            f"{path.name} is one of several files; give the folder that it is in."
        )
    beside = path.with_name("config.json")
    config = _config_fields(read_json(beside)) if beside.is_file() else {}
    return Source(read_safetensors(path), config, _pipeline_of(path.parent))


def _read_folder(path: Path) -> Source:
    """A model folder with its transformer, or a transformer's own folder."""
    folder = path / "transformer" if (path / "transformer").is_dir() else path
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} holds no config.json; give a model folder, the folder of its transformer, "
            "or a file of weights."
        )
    config = _config_fields(read_json(folder / "config.json"))
    return Source(read_tensors(folder), config, _pipeline_of(folder))


def _pipeline_of(folder: Path) -> Path | None:
    """The model folder that a transformer's folder is a part of."""
    whole = folder.absolute().parent
    return (
        whole if folder.name == "transformer" and (whole / "model_index.json").is_file() else None
    )


def _config_fields(data: dict[str, Any]) -> dict[str, Any]:
    """What a config.json says of a Latte in full, or of PixArt-alpha where names do not tell."""
    if "video_length" in data or "hidden_size" in data:
        try:
            return asdict(ModelConfig.from_json(data))
        except ConfigError as error:
            raise CheckpointError(f"The config.json does not describe a Latte: {error}") from error
    if data.get("norm_type") == "ada_norm_single":
        names = {"num_heads": "num_attention_heads", "sample_size": "sample_size"}
        return {ours: data[theirs] for ours, theirs in names.items() if theirs in data}
    raise CheckpointError(
        f"The config.json describes a {data.get('_class_name', 'model without a name')}, which is "
        "neither a Latte nor PixArt-alpha. DiT is read from its original .pt file."
    )


def _read_pickle(path: Path) -> Mapping[str, Any]:
    """The dictionary in a file of torch.save. Nothing in it is run; what asks for that is refused.

    The file is mapped; the old format, which cannot be, is read whole.
    """
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            try:
                data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap" not in str(error):
                    raise
                data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} holds more than weights, so it was not read: a pickle can run any code. "
            f"{_asked_for(error)}Save its state_dict alone, or as safetensors, where you trust it."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path.name} cannot be read as a file of torch: {first}") from error
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path.name} holds a {type(data).__name__}, not named weights.")
    return data


def _asked_for(error: Exception) -> str:
    """A sentence that names the object which the file wanted made, if the reader told it."""
    found = re.search(r"(?:GLOBAL|global:?|class) ([\w.]+)", str(error))
    return f"It asks for {found[1]}. " if found else ""
