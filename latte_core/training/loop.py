"""The trainer: one loop on accelerate for every task.

A run is exact. Batch number n is the same whenever and wherever it is asked for, the noise of a
step is drawn from a generator seeded by that step, and the state on disk holds everything else, so
a run that was killed goes on with bit-equal losses.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from latte_core.errors import ConfigError, NonFiniteError

log = logging.getLogger(__name__)


class Task(Protocol):
    """What the loop trains.

    `model` holds all parameters that learn; `batches` gives batch n for any n; `loss` returns a
    scalar and the figures to log; `picture` shows the averaged model's work.
    """

    @property
    def model(self) -> nn.Module:
        """All that learns."""

    @property
    def batches(self) -> Dataset:
        """Batches by number."""

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Losses:
        """Return the loss of one batch and the figures worth a column in the log."""

    def picture(self, model: nn.Module) -> Image.Image:
        """Draw a sheet on which a person can see how far the model has come."""


Losses = tuple[Tensor, dict[str, float]]


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to learn.

    `minutes` ends the run by the clock, and lets the learning rate follow it; without it the run
    has exactly `steps` steps. The rate rises over `warmup_steps`, stays, and falls linearly to
    zero over the last `decay_share` of the run.
    """

    steps: int = 1000
    minutes: float | None = None
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_share: float = 0.4
    weight_decay: float = 0.0
    beta2: float = 0.99
    clip_norm: float = 1.0
    accumulate: int = 1
    ema_decay: float = 0.999
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu"] = "auto"
    compile: bool = False
    seed: int = 0
    workers: int = 1
    log_every: int = 50
    save_every: int = 1000
    picture_every: int = 1000

    def __post_init__(self) -> None:
        """Refuse settings that cannot be run."""
        for name in ("steps", "accumulate", "log_every", "save_every", "picture_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not 0 <= self.decay_share <= 1 or not 0 <= self.ema_decay < 1:
            raise ConfigError("decay_share must lie in 0..1 and ema_decay in 0..1 (1 excluded).")


def learning_rate_factor(config: LoopConfig, step: int, share: float) -> float:
    """Factor on the learning rate at `step` when `share` (0..1) of the run is over."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.decay_share == 0:
        return warm
    return warm * min(1.0, max(0.0, (1 - share) / config.decay_share))


Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Wrap a copy of the model that follows it as an exponential moving average.

    Early averages forget faster, so that the random start does not linger:
    the decay at update n is min(decay, (1 + n) / (10 + n)).
    """

    def update(average: Tensors, current: Tensors, count: Tensor | int) -> None:
        n = float(count)
        torch._foreach_lerp_(average, current, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(model, multi_avg_fn=update, use_buffers=False)


@dataclass
class Progress:
    """What has been done: steps and seconds, both over all sittings of the run."""

    step: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take over what a checkpoint kept."""
        self.step, self.seconds = int(state["step"]), state["seconds"]


@dataclass
class Trainer:
    """Train a task into a folder: `state/` to resume, `log.csv`, `sheet-*.png`.

    Raises NonFiniteError as soon as a loss is not a number.
    """

    task: Task
    config: LoopConfig
    folder: Path
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        """Prepare model, optimiser and average on their device."""
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState

        c = self.config
        if AcceleratorState._shared_state:
            # One state per process, which refuses another precision; an earlier stage is done.
            AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            cpu=c.device == "cpu" or not torch.cuda.is_available(),
            mixed_precision="bf16" if c.precision == "bf16" else "no",
            gradient_accumulation_steps=c.accumulate,
            # A batch of stills leaves the time blocks without a gradient.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        model = self.task.model
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=c.learning_rate,
            betas=(0.9, c.beta2),
            weight_decay=c.weight_decay,
        )
        self.average = averaged(model, c.ema_decay).to(self.accelerator.device)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.accelerator.register_for_checkpointing(self.average, self.progress)
        self.folder.mkdir(parents=True, exist_ok=True)

    def resume(self) -> bool:
        """Go on from the folder's saved state, if there is one."""
        new, old, gone = self._state_folders()
        if self.accelerator.is_main_process and gone.is_dir() and not old.is_dir():
            (new if new.is_dir() else gone).rename(old)  # killed between the renames of `save`
        self.accelerator.wait_for_everyone()
        if not old.is_dir():
            return False
        self.accelerator.load_state(str(old))
        log.info("resumed at step %d", self.progress.step)
        return True

    def save(self) -> None:
        """Write the state; the old one stays until the new one is whole."""
        new, old, gone = self._state_folders()
        self.accelerator.save_state(str(new))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            shutil.rmtree(gone, ignore_errors=True)  # left by a kill
            if old.exists():
                old.rename(gone)
            new.rename(old)
            shutil.rmtree(gone, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _state_folders(self) -> tuple[Path, Path, Path]:
        """Where a state is written, where it stays, where the one before it waits to be removed."""
        return self.folder / "state-new", self.folder / "state", self.folder / "state-old"

    def run(self) -> nn.Module:
        """Train to the end and return the averaged model."""
        c, start = self.config, time.monotonic() - self.progress.seconds
        step_model: Any = torch.compile(self.model) if c.compile else self.model
        batches = self._batches()
        window: list[dict[str, float]] = []
        while not self._is_over():
            window.append(self._step(step_model, batches))
            self.progress.step += 1
            self.progress.seconds = time.monotonic() - start
            if self.progress.step % c.log_every == 0 or self._is_over():
                self._report(window)
                window = []
            if self.progress.step % c.picture_every == 0 or self._is_over():
                self._draw()
            if self.progress.step % c.save_every == 0 or self._is_over():
                self.save()
        return self.average.module

    def _share(self) -> float:
        c = self.config
        if c.minutes is not None:
            return self.progress.seconds / 60 / c.minutes
        return self.progress.step / c.steps

    def _is_over(self) -> bool:
        return self._share() >= 1

    def _batches(self) -> Iterator[Any]:
        """Yield this process's batches from the current position on."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        first = self.progress.step * self.config.accumulate
        numbers = _Numbers(first, world, rank)
        loader = DataLoader(
            self.task.batches,
            batch_size=None,
            sampler=numbers,
            num_workers=self.config.workers,
            prefetch_factor=4 if self.config.workers else None,
        )
        yield from loader

    def _step(self, model: nn.Module, batches: Iterator[Any]) -> dict[str, float]:
        """Make one update of the weights from `accumulate` batches."""
        c = self.config
        figures: dict[str, float] = {}
        factor = learning_rate_factor(c, self.progress.step, self._share())
        for group in self.optimizer.param_groups:
            group["lr"] = c.learning_rate * factor
        for part in range(c.accumulate):
            batch = _to_device(next(batches), self.accelerator.device)
            with self.accelerator.accumulate(self.model):
                loss, figures = self.task.loss(model, batch, self._generator(part))
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), c.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        figures["loss"] = float(loss.detach())
        if not figures["loss"] == figures["loss"]:
            raise NonFiniteError(
                f"The loss is NaN at step {self.progress.step}. Lower the learning rate "
                f"({c.learning_rate}) or train in fp32, and resume from the last state."
            )
        self.average.update_parameters(self.accelerator.unwrap_model(self.model))
        return figures

    def _generator(self, part: int) -> torch.Generator:
        """Noise of this step, part and process: the same after a restart."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        number = (self.progress.step * self.config.accumulate + part) * world + rank
        return torch.Generator().manual_seed(self.config.seed * 1_000_003 + number)

    def _report(self, window: list[dict[str, float]]) -> None:
        """Write one line to log and CSV: means since the last one, rate, time left."""
        if not self.accelerator.is_main_process:
            return
        p = self.progress
        means = {k: sum(w[k] for w in window) / len(window) for k in window[-1]}
        left = p.seconds * (1 / max(self._share(), 1e-9) - 1) / 60
        text = "  ".join(f"{k} {v:.4f}" for k, v in means.items())
        log.info("step %d  %s  %.2f steps/s  %.1f min left", p.step, text, p.step / p.seconds, left)
        row = {"step": p.step, "minutes": round(p.seconds / 60, 3), **means}
        path = self.folder / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def _draw(self) -> None:
        if self.accelerator.is_main_process:
            self.average.module.eval()
            with torch.no_grad():
                sheet = self.task.picture(self.average.module)
            sheet.save(self.folder / f"sheet-{self.progress.step:07d}.png")
        self.accelerator.wait_for_everyone()


@dataclass(frozen=True)
class _Numbers:
    """Endless batch numbers of one process: first, then every `world`-th."""

    first: int
    world: int
    rank: int

    def __iter__(self) -> Iterator[int]:
        n = self.first * self.world + self.rank
        while True:
            yield n
            n += self.world


def _to_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {k: _to_device(v, device) for k, v in batch.items()}
    return batch


def write_summary(folder: Path, figures: dict[str, Any]) -> None:
    """Write final figures of a run as JSON beside its log."""
    (folder / "summary.json").write_text(json.dumps(figures, indent=2) + "\n")
