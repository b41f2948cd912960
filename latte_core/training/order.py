"""Task between the autoencoder and the stills: which subject a caption of two tells first.

A denoiser gives the first subject the left of the picture. It can only do so if the text encoder's
state of a word says whether it was the first, and that gradients of a denoising loss hardly teach:
a small encoder trained that way alone gave "cat" the same state, to a thousandth of its length, in
"a cat and a rabbit" and in "a rabbit and a cat". So it is taught beforehand, from captions alone.
Nouns and verbs of the first subject are to have the state that they had plus one fixed vector,
those of the second plus another, and all else the state that it had.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.utils.data import Dataset

from latte_core.components.text_encoder import TextEncoder
from latte_core.data.captions import LEFT, RIGHT, Part, tell_caption
from latte_core.data.world import World
from latte_core.training.loop import Losses

PAPER, INK = (255, 250, 242), (59, 42, 32)
SIDES = {LEFT: (196, 30, 58), RIGHT: (20, 90, 200)}
LINE, MARGIN, FONT = 30, 12, 18  # of the sheet, in pixels
SHOWN = 12


@dataclass(frozen=True)
class CaptionBatches(Dataset):
    """Batch n: `captions` captions of a world, every other one of two subjects.

    Yields token ids and masks (N, L), and `sides` (N, L) that say which subject a token tells.
    """

    world: World
    text_encoder: TextEncoder
    captions: int
    length: int = 20
    seed: int = 0

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        words = random.Random(int(rng.integers(1 << 31)))
        return self.tokenize([self.tell(rng, words, two=k % 2 == 0) for k in range(self.captions)])

    def tell(self, rng: np.random.Generator, words: random.Random, two: bool) -> list[Part]:
        """Draw what one caption says: of two subjects, or of any clip of the world."""
        spec = self.world.draw_composed(rng, "pair") if two else self.world.draw(rng)
        return tell_caption(spec, words, self.world.languages)

    def tokenize(self, told: Sequence[Sequence[Part]]) -> dict[str, Tensor]:
        """Captions in parts -> ids, mask and sides; a word of the world is one token."""
        texts = [" ".join(text for text, _ in parts) for parts in told]
        ids, mask = self.text_encoder.tokenize(texts, self.length)
        sides = torch.zeros_like(ids)
        for row, parts in enumerate(told):
            marks = [side for text, side in parts for _ in text.split()][: self.length]
            sides[row, : len(marks)] = torch.tensor(marks)
        return {"ids": ids, "mask": mask, "sides": sides}


@dataclass
class OrderTask:
    """Train a text encoder to move the states of what it is told first, and second.

    The vectors are at right angles, drawn from `batches.seed`, and `strength` times as long as a
    state is on average. The encoder as it is when the task is made says what else to keep.
    """

    text_encoder: TextEncoder
    batches: CaptionBatches
    strength: float = 0.6
    before: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        """Keep the encoder as it is."""
        self.before = copy.deepcopy(self.text_encoder.model).requires_grad_(False).eval()

    @property
    def model(self) -> nn.Module:
        """What learns: the encoder."""
        return self.text_encoder.model

    @cached_property
    def size(self) -> float:
        """How long a state is on average, before."""
        batch = self.batches[0]
        states = _states(self.before, batch)
        return float(states[batch["mask"].bool()].norm(dim=-1).mean())

    @cached_property
    def vectors(self) -> Tensor:
        """What is added to a word of (neither, the left, the right) subject: (3, Ct)."""
        drawn = torch.Generator().manual_seed(self.batches.seed)
        plane = torch.linalg.qr(torch.randn(self.text_encoder.width, 2, generator=drawn)).Q.T
        return self.strength * self.size * torch.cat([torch.zeros_like(plane[:1]), plane])

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Losses:
        """Mean squared error of the states of tokens, in units of a state's squared length.

        `told` is how much of its vector a word has taken on, `kept` how far other words moved, in
        units of a state's length.
        """
        vectors = self.vectors.to(batch["ids"].device)
        states = _states(model, batch)
        moved = states - _states(self.before.to(states.device), batch)
        real, sides = batch["mask"].bool(), batch["sides"]
        wanted = vectors[-sides % 3]  # left, -1, takes the second of the three, right the last
        loss = (moved - wanted)[real].square().sum(dim=-1).mean() / self.size**2
        return loss, self._figures(moved.detach(), wanted, real & (sides != 0), real & (sides == 0))

    def _figures(
        self, moved: Tensor, wanted: Tensor, marked: Tensor, others: Tensor
    ) -> dict[str, float]:
        length = (self.strength * self.size) ** 2
        return {
            "told": float((moved * wanted).sum(dim=-1)[marked].mean()) / length,
            "kept": float(moved[others].norm(dim=-1).mean()) / self.size,
        }

    def picture(self, model: nn.Module) -> Image.Image:
        """Draw captions in English, each word red or blue as far as it has taken on a vector."""
        world = replace(self.batches.world, languages=("en",))
        shown = CaptionBatches(world, self.text_encoder, SHOWN, self.batches.length, seed=7)
        rng, words = np.random.default_rng(7), random.Random(7)
        told = [shown.tell(rng, words, two=k % 4 != 3) for k in range(SHOWN)]
        batch = shown.tokenize(told)
        vectors, device = self.vectors[1:], next(model.parameters()).device
        batch = {name: value.to(device) for name, value in batch.items()}
        moved = (_states(model, batch) - _states(self.before.to(device), batch)).cpu()
        shares = moved @ vectors.T / (self.strength * self.size) ** 2  # (N, L, 2)
        texts = [" ".join(text for text, _ in parts).split() for parts in told]
        return _coloured(texts, shares.clamp(0, 1))


def _states(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Token ids and masks (N, L) -> states (N, L, Ct)."""
    states: Tensor = model(input_ids=batch["ids"], attention_mask=batch["mask"]).last_hidden_state
    return states


def _coloured(texts: Sequence[Sequence[str]], shares: Tensor) -> Image.Image:
    """A line per caption; shares (N, L, 2) say how red and how blue a word is."""
    font = ImageFont.load_default(FONT)
    width = max(font.getlength(" ".join(words)) for words in texts)
    sheet = Image.new("RGB", (2 * MARGIN + math.ceil(width), 2 * MARGIN + LINE * len(texts)), PAPER)
    draw = ImageDraw.Draw(sheet)
    ink, red, blue = (np.array(colour) for colour in (INK, SIDES[LEFT], SIDES[RIGHT]))
    for row, words in enumerate(texts):
        at = float(MARGIN)
        for word, (left, right) in zip(words, shares[row].tolist(), strict=False):
            colour = ink + left * (red - ink) + right * (blue - ink)
            r, g, b = (int(value) for value in colour.clip(0, 255))
            draw.text((at, MARGIN + LINE * row), word, (r, g, b), font)
            at += font.getlength(word + " ")
    return sheet
