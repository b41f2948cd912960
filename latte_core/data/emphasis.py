"""Which clips a stage looks at more: those that are drawn more often, those that are faint.

A subject of about its background's colour moves latents little, so that a squared error hardly
sees it, though people do: a grey rabbit on pink, a cactus in a meadow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latte_core.data.latents import LatentClips
from latte_core.data.world import COMPOSITIONS, ClipSpec, World
from latte_core.errors import DataError

MOST = 8.0  # times: how far a gain may go, up and down
PART = 512  # clips that are looked at together


def contrasts(values: Tensor, covers: Tensor) -> Tensor:
    """How far subjects stand out from what is behind them: a mean squared distance each, (N,).

    Of latents or pixels (N, C, F, h, w), whose subjects cover (N, F, h, w) of each place, in 0..1.
    What is behind is taken from the same row, over all frames, where no subject is: scenes lie in
    layers from top to bottom. What shows no subject has 0.
    """
    free = 1 - covers[:, None]
    behind = (values * free).sum((2, 4)) / free.sum((2, 4)).clamp(min=1e-3)  # (N, C, h)
    distance = (values - behind[:, :, None, :, None]).square().mean(1)
    return (distance * covers).sum((1, 2, 3)) / covers.sum((1, 2, 3)).clamp(min=1e-3)


def contrasts_of(clips: LatentClips) -> Tensor:
    """The contrast of every encoded clip, (N,)."""
    parts = zip(clips.latents.split(PART), clips.covers.split(PART), strict=True)
    return torch.cat([contrasts(x.float(), cover.float() / 255) for x, cover in parts])


def gains(contrast: Tensor, power: float) -> Tensor:
    """How many times a subject's error counts, (N,): the more, the less it stands out.

    1 at the usual contrast, the geometric mean of all; 1 for all with power 0, and with power 1
    the error is relative to the contrast, within MOST times.
    """
    logs = contrast.clamp(min=1e-6).log()
    return ((logs.mean() - logs) * power).exp().clamp(1 / MOST, MOST)


def drawing_odds(
    specs: Sequence[ClipSpec], favoured: Mapping[str, float]
) -> NDArray[np.float64] | None:
    """How many times as often as others each clip is drawn, (N,); None where all are alike.

    `favoured` maps names of subjects, motions, places and compositions to how many times as often
    their clips are drawn, below 1 the more seldom; of several of these names in a clip the largest
    number counts.
    Raises DataError for a name that no clip has.
    """
    if not favoured:
        return None
    shown = set[str]().union(*map(_names, specs))
    if unknown := sorted(set(favoured) - shown):
        raise DataError(
            f"favoured has {', '.join(unknown)}, which none of {len(specs)} clips shows: name "
            "subjects, motions, scenes, colours or compositions of the world that was encoded."
        )
    return np.array([times_drawn(spec, favoured) for spec in specs], dtype=np.float64)


def times_drawn(spec: ClipSpec, favoured: Mapping[str, float]) -> float:
    """How many times as often as others a clip is drawn: the largest number of its names."""
    return max((favoured[name] for name in _names(spec) & favoured.keys()), default=1.0)


def draw_favouring(
    world: World, favoured: Mapping[str, float], rng: np.random.Generator, held_out: bool = False
) -> ClipSpec:
    """Draw a clip from a world, favoured ones as many times as often as `favoured` says."""
    most = max([1.0, *favoured.values()])
    while True:
        spec = world.draw(rng, held_out)
        if not favoured or rng.random() * most < times_drawn(spec, favoured):
            return spec


def _names(spec: ClipSpec) -> set[str]:
    """The subjects, motions and place of a clip, and how it is composed."""
    composed = {composition for composition in COMPOSITIONS if spec.has(composition)}
    movers = {name for mover in spec.movers for name in (mover.subject, mover.motion)}
    return movers | composed | {spec.place}
