"""What a design choice does: small models that differ in one thing, trained alike and compared.

A study names a recipe of the world, changes that all its models share, and arms: changes that one
model has and the others have not. Every arm learns from the same clips for the same number of steps
and starts from the same seed; where batches are of one size it sees them in the same order too. It
is judged on clips whose combinations of subject,
motion and place nobody trained on: the error of its v at fixed noise and timesteps. Arms are
compared clip by clip, so that what makes one clip harder than another falls out.

The result is a JSON file that the page shows beside the paper's finding, see `Result`.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latte_core.components.text_encoder import TextEncoder
from latte_core.data.captions import write_caption
from latte_core.data.latents import LatentClips, load_clips
from latte_core.errors import ConfigError
from latte_core.training import stages
from latte_core.training.recipe import Recipe, parse_recipe
from latte_core.training.settings import build, read_settings
from latte_core.training.text_to_video import TextToVideo, TextToVideoTask, tokenize_captions

log = logging.getLogger(__name__)

TIMESTEPS = (100, 300, 500, 700, 900)  # at which the error is measured
RESAMPLES = 2000  # of the bootstrap over clips
HELD_OUT = "held-out.safetensors"


@dataclass(frozen=True)
class ArmConfig:
    """One model of a study: its name on the chart, and what it has that the others have not."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class StudyConfig:
    """A study's file. `recipe` is a path beside it; `paper` is what the paper found, in words.

    `changes` and those of an arm are trees like the recipe's, laid over it. The first arm is the
    one that the others are compared with. `held_out` clips judge.
    """

    name: str
    title: str
    question: str
    paper: str
    recipe: str
    arms: tuple[ArmConfig, ...]
    changes: Mapping[str, Any]
    held_out: int = 96


@dataclass(frozen=True)
class Arm:
    """What one model came to: `value` is its mean error, `low` to `high` hold 95 %.

    `difference` is the mean over clips of its error minus the first arm's, again with 95 %;
    `parameters` counts the transformer's; `minutes` is what training took here.
    """

    name: str
    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    parameters: int
    minutes: float


@dataclass(frozen=True)
class Result:
    """A finished study, as `assets/study/NAME.json` holds it. Lower values are better.

    `clips_seen` is what the study's own batches come to; an arm with others has seen more or fewer.
    """

    name: str
    title: str
    question: str
    paper: str
    measure: str
    arms: tuple[Arm, ...]
    steps: int
    clips_seen: int
    held_out: int

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"format": 1, **asdict(self)}, indent=2) + "\n"


def load_study(path: Path) -> tuple[StudyConfig, Mapping[str, Any]]:
    """A study and its recipe's content. Raises ConfigError for settings that cannot be."""
    config = build(StudyConfig, read_settings(path), "the study")
    if len(config.arms) < 2 or len({arm.name for arm in config.arms}) < len(config.arms):
        raise ConfigError(
            f"The study {config.name} has {len(config.arms)} arms: give two or more, each with a "
            "name of its own."
        )
    return config, read_settings(path.parent / config.recipe)


def lay_over(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A settings tree with changes laid over it: objects are joined, all else is replaced."""
    joined = dict(tree)
    for name, value in changes.items():
        old = joined.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        joined[name] = lay_over(old, value) if both else value  # type: ignore[arg-type]
    return joined


def run_study(run: stages.Run, config: StudyConfig, data: Mapping[str, Any]) -> Result:
    """Train and judge every arm; `run` has the shared recipe, folder and model folder.

    The folder keeps latents and states, so that a study which was stopped goes on.
    """
    trained, judged = _latents(run, config)
    errors, arms = [], []
    for place, arm in enumerate(config.arms):
        recipe = parse_recipe(lay_over(lay_over(data, config.changes), arm.changes))
        began = time.monotonic()
        model, task = _train(run, recipe, trained, f"arm-{place + 1}")
        minutes = (time.monotonic() - began) / 60
        errors.append(held_out_errors(model, task, judged))
        parameters = sum(p.numel() for p in model.latte.parameters())
        arms.append(_summarise(arm.name, errors[-1], errors[0], parameters, minutes))
        log.info("%s: %.4f (%.4f to %.4f)", arm.name, arms[-1].value, arms[-1].low, arms[-1].high)
    settings, loop = run.recipe.video, run.recipe.video.loop
    return Result(
        config.name,
        config.title,
        config.question,
        config.paper,
        "error of v on held-out clips (mean square)",
        tuple(arms),
        int(run.changes.get("steps", loop.steps)),
        int(run.changes.get("steps", loop.steps)) * settings.clips,
        len(judged.specs),
    )


def _latents(run: stages.Run, config: StudyConfig) -> tuple[LatentClips, LatentClips]:
    """Clips to learn from and clips to judge by, encoded with the model folder's autoencoder."""
    path = run.folder / stages.CLIPS
    trained = load_clips(path) if path.is_file() else stages.encode_world(run)
    path = run.folder / HELD_OUT
    if path.is_file():
        return trained, load_clips(path)
    return trained, stages.encode_held_out(run, config.held_out, path)


def _train(
    run: stages.Run, recipe: Recipe, source: LatentClips, name: str
) -> tuple[TextToVideo, TextToVideoTask]:
    """One arm's averaged model, and its task."""
    torch.manual_seed(recipe.seed)
    text_encoder = stages.make_text_encoder(recipe)
    model = stages.new_text_to_video(recipe, text_encoder)
    task = stages.make_task(recipe, recipe.video, model, text_encoder, source, run.folder)
    average: Any = run.train(task, recipe.video.loop, name)
    return average, task


@torch.no_grad()
def held_out_errors(
    model: TextToVideo, task: TextToVideoTask, judged: LatentClips
) -> np.ndarray[Any, Any]:
    """Mean squared error of v for each clip (N,), over the same noise and timesteps for all.

    Only the video counts; models that predict noise are asked for the v that follows from it.
    """
    device = next(model.parameters()).device
    told = _told(task.text_encoder, judged, task.batches.length)
    objective, errors = task.objective, []
    for k, clip in enumerate(judged.latents):
        x0 = clip.float()[None].expand(len(TIMESTEPS), -1, -1, -1, -1).to(device)
        generator = torch.Generator().manual_seed(10_000 + k)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        at = torch.tensor(TIMESTEPS, device=device)
        noisy = objective.add_noise(x0, noise, at)
        batch = {n: v[k : k + 1].expand(len(at), -1, -1).to(device) for n, v in told.items()}
        output = model(noisy, at, batch, 0)[:, : x0.shape[1]].float()
        spread = objective.add_noise(torch.zeros_like(x0), torch.ones_like(x0), at)
        wrong = (objective.predict_x0(output, noisy, at) - x0) / spread
        errors.append(float(wrong.square().mean()))
    return np.array(errors)


def _told(text_encoder: TextEncoder, judged: LatentClips, length: int) -> dict[str, Tensor]:
    """Token ids and masks (N, 1, L) of one caption a clip, always the same."""
    words = random.Random(0)
    captions = [write_caption(spec, words) for spec in judged.specs]
    kept = torch.zeros(len(captions), dtype=torch.bool)
    tokens = tokenize_captions(text_encoder, captions, length, kept)
    return {name: value[:, None] for name, value in tokens.items()}


def _summarise(
    name: str,
    errors: np.ndarray[Any, Any],
    first: np.ndarray[Any, Any],
    parameters: int,
    minutes: float,
) -> Arm:
    low, high = interval(errors)
    difference = errors - first
    below, above = interval(difference)
    return Arm(
        name,
        float(errors.mean()),
        low,
        high,
        float(difference.mean()),
        below,
        above,
        parameters,
        round(minutes, 2),
    )


def interval(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """95 % of the means of resamples of values (N,)."""
    rng = np.random.default_rng(0)
    picks = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])
    return float(low), float(high)


def format_study(result: Result) -> str:
    """The arms as a Markdown table."""
    lines = [
        f"| {result.title} | parameters | {result.measure} | 95 % | against the first | 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for arm in result.arms:
        lines.append(
            f"| {arm.name} | {arm.parameters / 1e6:.2f} M | {arm.value:.4f} | {arm.low:.4f} to "
            f"{arm.high:.4f} | {arm.difference:+.4f} | {arm.difference_low:+.4f} to "
            f"{arm.difference_high:+.4f} |"
        )
    return "\n".join(lines)


def plan_run(
    config: StudyConfig,
    data: Mapping[str, Any],
    folder: Path,
    changes: Mapping[str, Any],
    start_from: Path,
) -> stages.Run:
    """The run that all arms share: the recipe with the study's own changes."""
    _same_world(config.arms)
    recipe = parse_recipe(lay_over(data, config.changes))
    return stages.Run(recipe, folder, dict(changes), start_from=start_from)


def _same_world(arms: Sequence[ArmConfig]) -> None:
    """Arms learn from the same latents. Raises ConfigError for one that would want others."""
    for arm in arms:
        if found := {"world", "size", "autoencoder"} & set(arm.changes):
            raise ConfigError(
                f"The arm {arm.name} changes {', '.join(sorted(found))}, but all arms of a study "
                "learn from the same clips: put it into the study's own changes."
            )
