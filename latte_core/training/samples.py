"""Batches by number, from any set of clips: frames or cached latents, labels, captions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from latte_core.components.prompt_cleaning import clean_prompt, simplify_prompt
from latte_core.components.text_encoder import TextEncoder
from latte_core.data.captions import write_caption
from latte_core.data.draws import draw_joint
from latte_core.data.pixels import to_pixels
from latte_core.data.render import render_clip
from latte_core.data.video_set import Clip
from latte_core.data.world import World
from latte_core.errors import DataError
from latte_core.training.text_to_video import Batch, tokenize_captions


class ClipSet(Protocol):
    """What batches are drawn from: a VideoSet, a LatentSet, or WorldClips.

    What is read has `frames` (F, H, W, 3) uint8 or `latents` (C, F, h, w), a `label` and a
    `caption` or None, perhaps `prompt_embeds` (L, C_text), and a `key` that names it.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty if there are none."""

    def __len__(self) -> int: ...

    def read_clip(self, index: int, rng: np.random.Generator) -> Any:
        """Read a window of clip `index`."""

    def read_image(self, index: int, rng: np.random.Generator) -> Any:
        """Read one frame of clip `index`."""


@dataclass(frozen=True)
class WorldClips:
    """Clips of the bundled world, rendered when they are read; their classes are the subjects."""

    world: World
    count: int
    num_frames: int
    size: int
    seed: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The world's subjects."""
        return self.world.subjects

    def __len__(self) -> int:
        return self.count

    def read_clip(self, index: int, rng: np.random.Generator) -> Clip:
        """Render clip `index`; the wording of its caption comes from `rng`."""
        return self._read(index, rng, None)

    def read_image(self, index: int, rng: np.random.Generator) -> Clip:
        """Render one frame of clip `index`."""
        return self._read(index, rng, [int(rng.integers(self.num_frames))])

    def _read(self, index: int, rng: np.random.Generator, only: Sequence[int] | None) -> Clip:
        spec = self.world.draw(np.random.default_rng((self.seed, index)))
        frames = render_clip(spec, self.num_frames, self.size, only=only)
        words = random.Random(int(rng.integers(1 << 31)))
        caption = write_caption(spec, words, self.world.languages)
        return Clip(frames, self.world.subjects.index(spec.subject), caption, f"{index:06d}")


@dataclass(frozen=True)
class CaptionReader:
    """Captions of a batch as the denoiser is told them, P = 1 + I of them a sample.

    With a text encoder: `ids` and `mask` (B, P, L), to be encoded, and `reads` (B, P, L), the
    positions that count. Without one, from the clips' cached `prompt_embeds`: `embeds`
    (B, P, L, C_text) and `reads`. A share `drop` becomes the empty prompt laid out to the
    caption's length, which is what sampling uses: the empty prompt's end token, then padding.
    `null` gives so many rows of it (L, C_text) for cached embeddings. Captions are prepared as the
    engine prepares prompts; `closed` says that the encoder knows a list of words and no others.
    """

    length: int
    text_encoder: TextEncoder | None = None
    null: Callable[[int], Any] | None = None
    closed: bool = False

    def read(self, rows: list[list[Any]], drop: float, rng: np.random.Generator) -> Batch:
        """Put the batch's captions together."""
        flat = [clip for row in rows for clip in row]
        dropped = torch.from_numpy(rng.random(len(flat)) < drop)
        encoder = self.text_encoder
        if encoder is None:
            batch = self._cached(flat, dropped)
        else:
            captions = [self._prepare(_caption(clip), encoder) for clip in flat]
            batch = tokenize_captions(encoder, captions, self.length, dropped)
        return {name: value.unflatten(0, (len(rows), -1)) for name, value in batch.items()}

    def _cached(self, flat: list[Any], dropped: Tensor) -> Batch:
        """Embeddings of one length, padded behind, and which of their rows count."""
        rows = [_embeds(clip)[: self.length] for clip in flat]
        embeds = torch.zeros(len(rows), self.length, rows[0].shape[1])
        reads = torch.zeros(len(rows), self.length, dtype=torch.int64)
        for k, row in enumerate(rows):
            told = torch.as_tensor(self._null(len(row))) if bool(dropped[k]) else row
            embeds[k, : len(row)], reads[k, : len(row)] = told.float(), 1
        return {"embeds": embeds, "reads": reads}

    def _null(self, length: int) -> Any:
        """The empty prompt's rows (L, C_text)."""
        rows = None if self.null is None else self.null(length)
        if rows is None:
            raise DataError(
                "These shards hold no empty prompt, which is needed to leave captions out: set "
                "objective.drop to 0, or encode the shards again."
            )
        return rows

    def _prepare(self, caption: str, encoder: TextEncoder) -> str:
        if self.closed:
            return simplify_prompt(caption, encoder.unknown_words)
        return clean_prompt(caption)


@dataclass(frozen=True)
class SampleBatches(Dataset):
    """Batch n: `size` clips with `images` stills of other clips behind each.

    Every clip is seen once before any is seen again. A batch holds `pixels` (B, F+I, 3, H, W) in
    -1..1 or `latents` (B, C, F+I, h, w). With `num_classes` it holds `labels` (B, 1+I), of which
    a share `drop` is "no class": the clip's and, drawn once for all of them, the images', as
    published. With a `text_encoder` or with cached embeddings it holds what `CaptionReader`
    says. Raises DataError for a clip that lacks its label or caption.
    """

    source: ClipSet
    size: int
    images: int = 0
    num_classes: int = 0
    captions: CaptionReader | None = None
    drop: float = 0.1
    seed: int = 0

    def __getitem__(self, number: int) -> Batch:
        rows = []
        for k in range(number * self.size, (number + 1) * self.size):
            clip, images = draw_joint(self.source, self.seed, k, self.images)
            rows.append([clip, *images])
        rng = np.random.default_rng((self.seed, 7, number))
        batch = _stack(rows)
        if self.num_classes:
            batch["labels"] = self._labels(rows, rng)
        if self.captions is not None:
            batch |= self.captions.read(rows, self.drop, rng)
        return batch

    def _labels(self, rows: list[list[Any]], rng: np.random.Generator) -> Tensor:
        """Labels (B, 1+I)."""
        labels = torch.tensor([[_label(clip, self.num_classes) for clip in row] for row in rows])
        dropped = torch.from_numpy(rng.random((len(rows), 2)) < self.drop)
        labels[dropped[:, 0], 0] = self.num_classes
        labels[dropped[:, 1], 1:] = self.num_classes
        return labels


def _stack(rows: list[list[Any]]) -> Batch:
    """Clip and images of every sample, one behind the other on the frame axis."""
    if hasattr(rows[0][0], "latents"):
        clips = [torch.cat([_latents(c) for c in row], dim=1) for row in rows]
        return {"latents": torch.stack(clips).float()}
    clips = [to_pixels(np.concatenate([c.frames for c in row])) for row in rows]
    return {"pixels": torch.stack(clips)}


def _latents(clip: Any) -> Tensor:
    return torch.as_tensor(clip.latents)


def _embeds(clip: Any) -> Tensor:
    if clip.prompt_embeds is None:
        raise DataError(
            f"{clip.key} has no cached caption: cache the shards with a text encoder, or train a "
            "model that reads no text."
        )
    return torch.as_tensor(clip.prompt_embeds)


def _caption(clip: Any) -> str:
    if clip.caption is None:
        raise DataError(f"{clip.key} has no caption: write one, or train a model without text.")
    return str(clip.caption)


def _label(clip: Any, num_classes: int) -> int:
    if clip.label is None or not 0 <= clip.label < num_classes:
        raise DataError(
            f"{clip.key} has the label {clip.label}, but the model has {num_classes} classes: "
            "train without classes, or set model.fields.num_classes."
        )
    return int(clip.label)
