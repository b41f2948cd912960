"""Safetensors files: headers without torch, single or sharded reading, atomic writing."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latte_core.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = WEIGHTS + ".index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_MAX_HEADER_BYTES = 100_000_000  # as the format's own reader
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1}
_BYTES |= {"BOOL": 1, "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises CheckpointError if it is missing or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; fetch the model folder again.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} does not hold a JSON object. Fetch it again.")
    return data


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Shapes and dtypes of a safetensors file by tensor name, without reading the tensors.

    Raises CheckpointError for anything but a whole file: truncated, padded, overlapping, no header.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise CheckpointError(_damaged(path, "its header is cut off or no header"))
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        tensors = {name: _entry(entry) for name, entry in entries.items()}
        spans = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(_damaged(path, "its header is unreadable")) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Fetch it again.") from error
    end = 0
    for start, stop in spans:
        if start != end:
            raise CheckpointError(_damaged(path, "its tensors overlap or leave gaps"))
        end = stop
    if end != size - 8 - length:
        raise CheckpointError(
            _damaged(path, f"{end} bytes are announced, {size - 8 - length} follow")
        )
    return tensors


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Shape and dtype of one tensor, its span checked against them."""
    start, stop = entry["data_offsets"]
    shape = [int(n) for n in entry["shape"]]
    if stop - start != math.prod(shape) * _BYTES[entry["dtype"]]:
        raise ValueError("span does not fit the shape")
    return {"shape": shape, "dtype": entry["dtype"]}


def _damaged(path: Path, cause: str) -> str:
    return f"{path} is damaged: {cause}. Fetch or convert it again."


def weight_files(folder: Path, single: str = WEIGHTS) -> list[Path]:
    """The safetensors files of one component: the single file, or the shards that its index names.

    Raises CheckpointError if there are none, also where only pickles lie: those run code when read.
    """
    paths, index = [folder / single], folder / f"{single}.index.json"
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise CheckpointError(f"{index} names no files. Fetch it again.")
        paths = [folder / str(name) for name in sorted(set(names.values()))]
        if any(path.parent != folder or path.suffix != ".safetensors" for path in paths):
            raise CheckpointError(f"{index} names files that are no safetensors of its folder.")
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing{pickle_hint(folder)}.")
    return paths


def pickle_hint(folder: Path) -> str:
    """The end of a sentence about missing weights: what to do, also where only pickles lie."""
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
    if not pickles:
        return "; fetch the model folder again"
    return f"; {pickles[0]} is a pickle, which is never read. Convert it to safetensors"


def read_tensors(folder: Path, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """All tensors of one component, floating ones cast to `dtype` as they are read."""
    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        state |= read_safetensors(path, dtype)
    return state


def read_safetensors(path: Path, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """All tensors of one file, floating ones cast to `dtype` as they are read."""
    from safetensors import SafetensorError, safe_open

    read_header(path)
    state: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - the file object is no dict
                tensor = file.get_tensor(name)
                cast = dtype is not None and tensor.is_floating_point()
                state[name] = tensor.to(dtype) if cast else tensor
    except (SafetensorError, OSError) as error:
        raise CheckpointError(_damaged(path, str(error))) from error
    return state


def write_tensors(state: dict[str, Tensor], folder: Path, max_shard_bytes: int) -> None:
    """Write tensors as one file, or as shards of at most `max_shard_bytes` with an index.

    A tensor that is larger than a shard gets one of its own.
    """
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in state.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor.contiguous()
        filled += size
    if len(shards) == 1:
        _write_file(shards[0], folder / WEIGHTS)
        return
    stem, total = WEIGHTS.removesuffix(".safetensors"), len(shards)
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"{stem}-{number:05d}-of-{total:05d}.safetensors"
        _write_file(shard, folder / name)
        where |= dict.fromkeys(shard, name)
    size = sum(t.numel() * t.element_size() for t in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    write_json(folder / INDEX, index)


def _write_file(state: dict[str, Tensor], path: Path) -> None:
    """Write one safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(state, path, metadata={"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} cannot be written: {error}.") from error


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON object in place of `path`, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` when the body ends well, and else vanishes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    fresh.chmod(0o755)  # mkdtemp's folders are private
    old = fresh.with_name(fresh.name + ".old")
    try:
        yield fresh
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise CheckpointError(f"{folder} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
