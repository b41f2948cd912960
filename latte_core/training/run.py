"""Carry out a configuration: from clips to a model folder or a LoRA file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from latte_core.diffusion.loss import DiffusionLoss
from latte_core.training.config import TrainingConfig, write_config
from latte_core.training.diffusion import DiffusionTask
from latte_core.training.loop import Trainer
from latte_core.training.lora import add_lora
from latte_core.training.networks import (
    Sources,
    find_sources,
    load_frozen,
    make_batches,
    make_latte,
    open_clips,
)
from latte_core.training.outcome import write_result

log = logging.getLogger(__name__)


def make_task(config: TrainingConfig) -> tuple[DiffusionTask, Sources]:
    """Put the task of a configuration together, and say which folders it read.

    The same configuration gives the same weights. Raises ConfigError, DataError or CheckpointError
    for what cannot be read or does not fit.
    """
    torch.manual_seed(config.loop.seed)
    sources = find_sources(config)
    clips = open_clips(config.data, config.loop.seed)
    frozen = load_frozen(config, sources)
    latte = make_latte(config, sources, clips, frozen)
    shape = latte.config
    if config.lora is not None:
        add_lora(latte, config.lora)
    log.info("%.2f M weights learn", latte.num_parameters / 1e6)
    task = DiffusionTask(
        latte,
        shape,
        make_batches(config, shape, clips, frozen),
        frozen,
        DiffusionLoss(config.objective.prediction, shape.learned_variance),
        config.objective,
        config.sheet,
        config.data.posterior == "sample",
    )
    return task, sources


def train(
    config: TrainingConfig, folder: Path, out: Path | None = None, fresh: bool = False
) -> Path:
    """Train in `folder`, going on where it stopped unless `fresh`, and write the result.

    It goes to `out`, or to `folder` / the model's name. Returns what was written.
    """
    task, sources = make_task(config)
    trainer = Trainer(task, config.loop, folder)
    main = trainer.accelerator.is_main_process
    if main:
        write_config(config, folder / "config.json")
    if not fresh:
        trainer.resume()
    average: Any = trainer.run()
    target = out or folder / config.name
    if main:
        write_result(config, task, average, sources, target)
    trainer.accelerator.wait_for_everyone()
    return target
