"""Fit a whole recipe into a number of minutes.

A recipe says how many steps each stage should have; how long a step takes depends on the machine.
So a few steps of each stage are timed first, and every stage then gets the share of the minutes
that it would take of the full recipe.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from latte_core.components.text_encoder import TextEncoder
from latte_core.components.vae import new_vae, save_vae
from latte_core.data.latents import LatentClips
from latte_core.errors import ConfigError
from latte_core.training import stages
from latte_core.training.loop import Task, Trainer
from latte_core.training.recipe import Recipe

log = logging.getLogger(__name__)

TIMED_STEPS = 3
TIMED_CLIPS = 4
LEAST_CLIPS = 16  # to encode, however short the time


@dataclass(frozen=True)
class Budget:
    """Minutes of each stage, and how many clips are encoded in those of `clips`."""

    minutes: dict[str, float]
    clips: int

    def apply(self, run: stages.Run, stage: str) -> stages.Run:
        """The run with this stage's minutes in place."""
        recipe = run.recipe
        recipe = replace(recipe, autoencoder=replace(recipe.autoencoder, clips=self.clips))
        minutes = {"minutes": self.minutes[stage]} if stage in recipe.trained else {}
        return replace(run, recipe=recipe, changes={**run.changes, **minutes})

    def describe(self) -> str:
        """One line for the log."""
        parts = ", ".join(f"{name} {m:.1f} min" for name, m in self.minutes.items())
        return f"{parts}; {self.clips} clips"


def plan_budget(recipe: Recipe, seconds: Mapping[str, float], minutes: float) -> Budget:
    """Share `minutes` out. `seconds` is what a step of each stage takes, and a clip of `clips`.

    A recipe that needs less is not stretched: a budget is a limit. Raises ConfigError if it is
    not above 0.
    """
    if minutes <= 0:
        raise ConfigError(f"--minutes is {minutes:g}; it must be above 0.")
    work = {"clips": recipe.autoencoder.clips * seconds["clips"]}
    for name in recipe.trained:
        work[name] = getattr(recipe, name).loop.steps * seconds[name]
    scale = min(1.0, 60 * minutes / sum(work.values()))
    first, *others = recipe.trained
    return Budget(
        {name: work[name] * scale / 60 for name in (first, "clips", *others)},
        max(LEAST_CLIPS, int(recipe.autoencoder.clips * scale)),
    )


def measure(run: stages.Run) -> dict[str, float]:
    """Seconds that a step of each stage takes here, and a clip to render and encode.

    Networks and latents are new and random, of the recipe's sizes; nothing is kept.
    """
    recipe = run.recipe
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = {"autoencoder": _step(stages.autoencoder_task(run), run, "autoencoder", folder)}
        save_vae(new_vae(recipe.autoencoder.shape), folder / "vae", torch.float32)
        trial = replace(
            run,
            folder=folder,
            recipe=replace(recipe, autoencoder=replace(recipe.autoencoder, clips=TIMED_CLIPS)),
            start_from=None,
        )
        began = time.perf_counter()
        clips = stages.encode_world(trial)
        seconds["clips"] = (time.perf_counter() - began) / TIMED_CLIPS
        text_encoder = stages.make_text_encoder(recipe)
        if recipe.order is not None:
            order = stages.order_task(run, recipe.order, text_encoder)
            seconds["order"] = _step(order, run, "order", folder)
        for stage in stages.TEXT_TO_VIDEO:
            seconds[stage] = _text_to_video(trial, stage, text_encoder, clips)
        teacher = stages.new_text_to_video(recipe, text_encoder)
        task = stages.turbo_task(trial, teacher, text_encoder, clips)
        seconds["turbo"] = _step(task, trial, "turbo", folder)
        seconds["probe"] = _step(stages.probe_task(trial), run, "probe", folder)
    for stage, value in seconds.items():
        log.info("%s: %.3f s a %s", stage, value, "clip" if stage == "clips" else "step")
    return seconds


def _text_to_video(
    run: stages.Run, stage: str, text_encoder: TextEncoder, clips: LatentClips
) -> float:
    model = stages.new_text_to_video(run.recipe, text_encoder)
    settings = getattr(run.recipe, stage)
    task = stages.make_task(run.recipe, settings, model, text_encoder, clips, run.folder)
    return _step(task, run, stage, run.folder)


def _step(task: Task, run: stages.Run, stage: str, folder: Path) -> float:
    """Seconds of one step, the first (kernels, caches) left out."""
    loop = replace(getattr(run.recipe, stage).loop, **run.changes, minutes=None)
    return Trainer(task, loop, folder / f"timed-{stage}").time_steps(TIMED_STEPS)
