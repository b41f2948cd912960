"""`python -m latte_core train SETTINGS --folder FOLDER`: train what a file of settings describes.

A file with `world` is the bundled model's recipe, of several stages; one with `data` is the
configuration of one model, see `latte_core.training.config`.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from latte_core.errors import ConfigError
from latte_core.training.stage_names import LEARNED, STAGES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "recipe", type=Path, help="JSON file: a recipe of the world, or a configuration"
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder for states, logs, sheets"
    )
    parser.add_argument("--stage", choices=("all", *STAGES), default="all")
    parser.add_argument("--out", type=Path, help="where the model folder, LoRA or PNG is written")
    parser.add_argument("--steps", type=int, help="instead of each stage's own number of steps")
    parser.add_argument("--minutes", type=float, help="end by the clock: a stage, or all")
    parser.add_argument("--device", choices=("auto", "cpu"), help="instead of the recipe's")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="instead of the recipe's")
    parser.add_argument(
        "--start-from",
        type=Path,
        help="model folder (for the stage probe: a probe) whose weights a new run begins with",
    )
    parser.add_argument("--fresh", action="store_true", help="do not go on from a saved state")


def run(arguments: argparse.Namespace) -> int:
    """Train what was asked for."""
    from latte_core.training import stages
    from latte_core.training.recipe import load_recipe
    from latte_core.training.settings import read_settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    changes: dict[str, Any] = {
        name: value
        for name in ("steps", "minutes", "device", "precision")
        if (value := getattr(arguments, name)) is not None
    }
    if "data" in read_settings(arguments.recipe):
        return _train_configuration(arguments, changes)
    recipe = load_recipe(arguments.recipe)
    sitting = stages.Run(recipe, arguments.folder, changes, arguments.fresh, arguments.start_from)
    if arguments.stage != "all":
        _train(sitting, arguments.stage, arguments.out)
    elif arguments.minutes is not None:
        _train_within(sitting, arguments.minutes, arguments.out)
    else:
        for stage in _stages_of(recipe):
            _train(sitting, stage, arguments.out)
    return 0


def _train_within(sitting: Any, minutes: float, out: Path | None) -> None:
    """Carry out all stages in a number of minutes, shared out by what each takes here."""
    from latte_core.training.budget import measure, plan_budget

    free = replace(sitting, changes={k: v for k, v in sitting.changes.items() if k != "minutes"})
    budget = plan_budget(free.recipe, measure(free), minutes)
    logging.getLogger(__name__).info("%s", budget.describe())
    for stage in _stages_of(free.recipe):
        _train(budget.apply(free, stage), stage, out)


def _stages_of(recipe: Any) -> list[str]:
    """Those that a recipe has."""
    return [stage for stage in STAGES if stage not in LEARNED or stage in recipe.trained]


def _train_configuration(arguments: argparse.Namespace, changes: dict[str, Any]) -> int:
    """Train the one model that a configuration describes."""
    from latte_core.training.config import load_config
    from latte_core.training.run import train

    if arguments.stage != "all":
        raise ConfigError(
            f"--stage is {arguments.stage}, but {arguments.recipe} is a configuration, which has "
            "no stages; leave it out."
        )
    config = load_config(arguments.recipe)
    config = replace(config, loop=replace(config.loop, **changes))
    if arguments.start_from is not None:
        config = replace(config, start=replace(config.start, path=str(arguments.start_from)))
    train(config, arguments.folder, arguments.out, arguments.fresh)
    return 0


def _train(sitting: Any, stage: str, out: Path | None) -> None:
    """Carry out one stage."""
    from latte_core.training import bundle, curves, stages

    if stage == "autoencoder":
        stages.train_autoencoder(sitting)
    elif stage == "clips":
        stages.encode_world(sitting)
    elif stage == "order":
        stages.train_order(sitting)
    elif stage == "turbo":
        stages.train_turbo(sitting)
    elif stage == "probe":
        stages.train_probe(sitting)
    elif stage == "curves":
        chart = out if out is not None and out.suffix == ".png" else sitting.folder / "curves.png"
        curves.draw_curves(sitting.folder, chart)
    elif stage == "bundle":
        folder = out or sitting.folder / sitting.recipe.name
        bundle.write_bundle(sitting.recipe, sitting.folder, folder)
    else:
        stages.train_text_to_video(sitting, stage)
