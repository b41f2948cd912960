"""Prompt following: how often a clip shows the subject, motion, scene and colour of its prompt.

The prompts are held out: their combinations of subject, motion and place were never trained on.
Beside the generated clips stand a ceiling (rendered clips of the same specs, and the same after
the autoencoder) and a floor (the generated clips against each other's prompts).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_core.data.captions import write_caption
from latte_core.data.render import render_clip
from latte_core.data.world import ClipSpec, World
from latte_core.evaluation.probe import HALVES, HEADS, WorldProbe, answers_of, judge

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class PromptSpec:
    """A prompt, what it describes, and the seed to generate it with."""

    prompt: str
    spec: ClipSpec
    seed: int


@dataclass(frozen=True)
class Following:
    """Share of right answers per head over `count` clips; colour counts plain scenes only.

    A clip of two has its subjects right if both are there, the first on the left, its motions if
    each does its own. "all" is the share of clips that have everything right that their prompt
    says.
    """

    row: str
    count: int
    right: dict[str, float]


def held_out_prompts(
    world: World,
    count: int,
    seed: int = 2024,
    language: str = "en",
    composition: str | None = None,
) -> list[PromptSpec]:
    """Draw prompts whose combinations the model has never seen. The same seed, the same clips.

    They are of one subject in one place, or of a `composition` of the world, which may be ANY.
    """
    rng, words, plain = np.random.default_rng(seed), random.Random(seed), world.plainly
    specs = [
        world.draw_composed(rng, composition, held_out=True)
        if composition
        else plain.draw(rng, held_out=True)
        for _ in range(count)
    ]
    captions = [write_caption(spec, words, (language,)) for spec in specs]
    return [
        PromptSpec(c, s, seed + i) for i, (c, s) in enumerate(zip(captions, specs, strict=True))
    ]


def score(
    probe: WorldProbe, clips: Sequence[Frames], specs: Sequence[ClipSpec], row: str
) -> Following:
    """Let the probe name what each clip shows and compare it with the specs."""
    seen = [answer for clip in clips for answer in judge(probe, clip[None])]
    marks = [_marks(answer, spec) for answer, spec in zip(seen, specs, strict=True)]
    heads = (*HEADS, *(name for name in ("camera", "light") if any(name in m for m in marks)))
    right = {head: _share([mark[head] for mark in marks if head in mark]) for head in heads}
    right["all"] = _share([all(mark.values()) for mark in marks])
    return Following(row, len(specs), right)


def _marks(answer: dict[str, str], spec: ClipSpec) -> dict[str, bool]:
    """Which heads agree with a spec, for all that its prompt says."""
    wanted = answers_of(spec)
    said = [head for head in HEADS if head in wanted]
    said += [name for name in ("camera", "light") if spec.has(name)]
    marks = {head: answer[head] == wanted[head] for head in said}
    if spec.partner:
        for part in ("subject", "motion"):
            halves = [f"{half} {part}" for half in HALVES]  # the prompt tells the left one first
            marks[part] = all(answer[head] == wanted[head] for head in halves)
    return marks


def _share(marks: Sequence[bool]) -> float:
    return float(np.mean(marks)) if marks else float("nan")


def score_stills(
    probe: WorldProbe, clip: Frames, stills: Sequence[Frames], spec: ClipSpec
) -> list[bool] | None:
    """For each still (H, W, 3) beside a clip: does it show the clip's subject and place?

    None if the clip itself does not show those of its prompt. A still is judged as a clip that
    stands still.
    """
    seen = _marks(judge(probe, clip[None])[0], spec)
    for name in ("motion", "camera"):
        seen.pop(name, None)
    if not all(seen.values()):
        return None
    same = []
    for still in stills:
        marks = _marks(judge(probe, np.repeat(still[None], len(clip), 0)[None])[0], spec)
        same.append(all(marks[head] for head in seen))
    return same


def shuffled(specs: Sequence[ClipSpec]) -> list[ClipSpec]:
    """The same specs, each moved half the list on: prompts that were not asked for."""
    half = len(specs) // 2
    return [*specs[half:], *specs[:half]]


def measure_following(
    probe: WorldProbe,
    prompts: Sequence[PromptSpec],
    generate: Callable[[PromptSpec], Frames],
    through_vae: Callable[[Frames], Frames] | None = None,
    view: Callable[[Frames], Frames] = lambda clip: clip,
) -> Iterator[Following]:
    """Yield the rows of the table: ceiling, ceiling through the autoencoder, generated, floor.

    `generate` gives uint8 (F, H, W, 3) for one prompt; `view` is what the probe is shown of a clip.
    """
    specs = [p.spec for p in prompts]
    clips = [generate(p) for p in prompts]
    frames, height, width = clips[0].shape[:3]
    real = [render_clip(spec, frames, height, width) for spec in specs]
    yield score(probe, [view(clip) for clip in real], specs, "rendered (ceiling)")
    if through_vae is not None:
        again = [view(through_vae(clip)) for clip in real]
        yield score(probe, again, specs, "rendered, through the VAE")
    clips = [view(clip) for clip in clips]
    yield score(probe, clips, specs, "generated")
    yield score(probe, clips, shuffled(specs), "generated, shuffled prompts (floor)")


def format_table(rows: Sequence[Following]) -> str:
    """The rows as a Markdown table, in percent."""
    columns = tuple(rows[0].right)
    lines = ["| clips | n | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for row in rows:
        cells = " | ".join(_percent(row.right[head]) for head in columns)
        lines.append(f"| {row.row} | {row.count} | {cells} |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    """A share in percent; nothing where no clip has the like."""
    return "" if math.isnan(share) else f"{100 * share:.1f} %"


def as_json(rows: Sequence[Following]) -> list[dict[str, Any]]:
    """The rows as plain data."""
    return [{"clips": row.row, "n": row.count, **row.right} for row in rows]
