"""Encode a set of videos once, into tar files that `webdataset` reads and `open_shards` opens.

Which clip goes into which shard depends on the set alone, so a run that was killed goes on with
the next shard, and several machines can share the work by parts. A shard is written under another
name, read back, compared and hashed, and only then takes its own name. The same data and model
give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latte_core.checkpoints.files import write_json
from latte_core.data.latent_set import (
    ABOUT,
    FLIPPED,
    FORMAT,
    LATENTS,
    NULL_PROMPT,
    PROMPTS,
    SET,
    hash_of,
    is_written,
    read_about,
    shard_name,
)
from latte_core.data.video_set import Item, VideoSet
from latte_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARD_FRAMES = 32768  # at 256 pixels 8 KiB a frame: shards of about 256 MiB
CHUNK = 32  # frames read and encoded at once, so that a long video fits into memory
OnProgress = Callable[[int, int], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoders:
    """What turns clips into latents.

    frames: uint8 (F, H, W, 3) -> scaled latents (F, C, h, w), an array or a tensor;
    text: a caption -> its embedding (L, D), own tokens only; None keeps captions as texts only;
    null: the empty prompt's embedding (2, D); name: the model, so that a run does not mix two.
    """

    frames: Callable[[NDArray[np.uint8]], Any]
    text: Callable[[str], Any] | None = None
    null: Any = None
    name: str = ""


@dataclass(frozen=True)
class Part:
    """Part `number` of `total`, from 1: which shards this process writes."""

    number: int = 1
    total: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.total:
            raise ConfigError(f"part {self.number} of {self.total} does not exist.")


def write_shards(
    videos: VideoSet,
    encoders: Encoders,
    folder: Path | str,
    *,
    part: Part | None = None,
    shard_frames: int = SHARD_FRAMES,
    on_progress: OnProgress | None = None,
) -> int:
    """Encode all frames of all clips into shards of about `shard_frames` frames.

    Shards that are there whole are kept, others are written again; `on_progress` is called with
    frames (done, total). A clip that turns out to be damaged is left out and named in the log and
    in the shard's JSON. Returns the number of shards written. Raises DataError if the folder
    holds shards of something else, or the disk refuses.
    """
    folder, part = Path(folder), part or Part()
    shards = _divide(videos.items, shard_frames)
    about = _describe(videos, encoders, shards, shard_frames)
    _claim(folder, about)
    if encoders.null is not None:
        _write_null(folder, encoders)
    mine = range(part.number - 1, len(shards), part.total)
    total = sum(item.file.length for number in mine for item in shards[number][1])
    progress = _Progress(total, on_progress)
    written = 0
    for number in mine:
        first, items = shards[number]
        if is_written(folder, number, verify=True):
            progress.add(sum(item.file.length for item in items))
            continue
        _write_shard(folder, number, (videos, encoders, progress), range(first, first + len(items)))
        written += 1
    return written


@dataclass
class _Progress:
    total: int
    report: OnProgress | None
    done: int = 0

    def add(self, frames: int) -> None:
        self.done += frames
        if self.report is not None:
            self.report(self.done, self.total)


def _divide(items: Sequence[Item], frames: int) -> list[tuple[int, Sequence[Item]]]:
    """Shards as (number of the first item, items), each ending where it has enough frames."""
    if frames < 1:
        raise ConfigError(f"shard_frames is {frames}, but must be at least 1.")
    shards: list[tuple[int, Sequence[Item]]] = []
    first, held = 0, 0
    for number, item in enumerate(items, start=1):
        held += item.file.length
        if held >= frames or number == len(items):
            shards.append((first, items[first:number]))
            first, held = number, 0
    return shards


def _describe(
    videos: VideoSet, encoders: Encoders, shards: Sequence[Any], shard_frames: int
) -> dict[str, Any]:
    """set.json: what decides every byte of the shards."""
    items = [
        [item.key, item.file.length, item.label, item.captions, _bytes(item)]
        for item in videos.items
    ]
    return {
        "format": FORMAT,
        "source": videos.source.to_dict(),
        "classes": list(videos.classes),
        "model": encoders.name,
        "flipped": videos.source.mirrored > 0,
        "texts": encoders.text is not None,
        "size": videos.source.size,
        "shard_frames": shard_frames,
        "clips": len(items),
        "shards": len(shards),
        "items": hashlib.sha256(json.dumps(items).encode()).hexdigest(),
    }


def _bytes(item: Item) -> int:
    """Size of a video file, 0 for a folder of frames, whose number of frames says enough."""
    try:
        return item.file.path.stat().st_size if item.file.path.is_file() else 0
    except OSError:
        return 0


def _claim(folder: Path, about: dict[str, Any]) -> None:
    """Write set.json, or see that the one that is there says the same."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if not (folder / SET).is_file():
        write_json(folder / SET, about)
        return
    there = read_about(folder)
    # The source's own fields may differ: windows are drawn on reading, and data sets move.
    differing = [name for name in about if name != "source" and there.get(name) != about[name]]
    if differing:
        raise DataError(
            f"{folder} holds shards that differ in {', '.join(differing)}: choose an empty folder, "
            "or encode what they were made of."
        )


def _write_null(folder: Path, encoders: Encoders) -> None:
    rows = _half(encoders.null, "the empty prompt")
    if rows.shape[0] != 2:
        raise DataError(f"The empty prompt must have 2 rows, not {rows.shape[0]}.")
    if (folder / NULL_PROMPT).is_file():
        return  # of the same model, as set.json says
    temporary = folder / f".{NULL_PROMPT}.{os.getpid()}.partial"
    temporary.write_bytes(_npy(rows))
    temporary.replace(folder / NULL_PROMPT)


def _write_shard(
    folder: Path, number: int, work: tuple[VideoSet, Encoders, _Progress], places: range
) -> None:
    """Write, check and name one shard and its JSON."""
    name = shard_name(number)
    partial, target = folder / f".{name}.tar.partial", folder / f"{name}.tar"
    videos, encoders, progress = work
    left_out: list[dict[str, str]] = []
    texts: list[dict[str, Any]] = []
    hashes: dict[str, str] = {}
    try:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for place in places:
                item = videos.items[place]
                try:
                    members, about = _encode(videos, encoders, place)
                except DataError as error:
                    log.warning("left out: %s", error)
                    left_out.append({"key": item.key, "reason": str(error)})
                else:
                    for ending, data in members.items():
                        _add(tar, f"{place:09d}.{ending}", data)
                        hashes[f"{place:09d}.{ending}"] = hashlib.sha256(data).hexdigest()
                    texts.append({"number": f"{place:09d}", **about})
                progress.add(item.file.length)
        _sync(partial)
        offsets = _check(partial, hashes)
        samples = [{**one, "offsets": offsets[one["number"]]} for one in texts]
        sidecar = {"bytes": partial.stat().st_size, "sha256": hash_of(partial)}
        (folder / f"{name}.json").unlink(missing_ok=True)
        partial.replace(target)
        write_json(folder / f"{name}.json", {**sidecar, "samples": samples, "left_out": left_out})
    except OSError as error:
        raise DataError(
            f"{target} was not written ({error.strerror}): free some space and run encode again."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _encode(
    videos: VideoSet, encoders: Encoders, place: int
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The members of one clip by their endings, and what the sidecar says of it."""
    item = videos.items[place]
    plain: list[NDArray[np.float16]] = []
    flipped: list[NDArray[np.float16]] = []
    for start in range(0, item.file.length, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, item.file.length))
        frames = videos.read_frames(place, numbers)
        plain.append(_latents(encoders, frames, item.key))
        if videos.source.mirrored:
            mirrored = np.ascontiguousarray(frames[:, :, ::-1])
            flipped.append(_latents(encoders, mirrored, item.key))
    members = {LATENTS: _npy(np.concatenate(plain))}
    if flipped:
        members[FLIPPED] = _npy(np.concatenate(flipped))
    tokens: list[int] = []
    if encoders.text is not None and item.captions:
        prompts = [
            _half(encoders.text(text), f"the caption of {item.key}") for text in item.captions
        ]
        tokens = [len(prompt) for prompt in prompts]
        members[PROMPTS] = _npy(np.concatenate(prompts))
    about = {
        "key": item.key,
        "label": item.label,
        "length": item.file.length,
        "captions": list(item.captions),
        "tokens": tokens,
    }
    members[ABOUT] = json.dumps(about).encode()
    return members, about


def _latents(encoders: Encoders, frames: NDArray[np.uint8], key: str) -> NDArray[np.float16]:
    latents = _half(encoders.frames(frames), key)
    if latents.ndim != 4 or len(latents) != len(frames):
        raise ConfigError(
            f"The encoder must give (F, C, h, w) for {len(frames)} frames, not {latents.shape}."
        )
    return latents


def _half(values: Any, what: str) -> NDArray[np.float16]:
    """An array or tensor in half precision. Raises DataError for NaN, infinity or overflow."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().float().numpy()
    with np.errstate(over="ignore"):
        half = np.asarray(values).astype(np.float16)
    if not np.isfinite(half).all():
        raise DataError(f"{what} was encoded to NaN, infinity or numbers too large for float16")
    return half


def _npy(array: NDArray[np.float16]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0))
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member without times or owners, which would make equal data differ."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _check(path: Path, hashes: dict[str, str]) -> dict[str, dict[str, int]]:
    """Read a tar back and compare every member; returns the arrays' offsets for each clip."""
    offsets: dict[str, dict[str, int]] = {}
    found: dict[str, str] = {}
    with tarfile.open(path, "r") as tar:
        for entry in tar:
            data = tar.extractfile(entry)
            found[entry.name] = hashlib.sha256(data.read() if data else b"").hexdigest()
            number, _, ending = entry.name.partition(".")
            offsets.setdefault(number, {})[ending] = entry.offset_data
    if found != hashes:
        raise DataError(
            f"{path} did not read back as written: check the disk and run encode again."
        )
    return offsets
