"""The trainer: one loop for every task, in one process or, on accelerate, in several.

A run is exact. Batch number n is the same whenever and wherever it is asked for, the noise of a
step is drawn from a generator seeded by that step, and the state on disk holds everything else, so
a run that was killed goes on with bit-equal losses.
"""

from __future__ import annotations

import json
import logging
import math
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
from latte_core.training.allocator import keep_freed_memory
from latte_core.training.average import Average, ShardedAverage, averaged, share_frozen
from latte_core.training.logbook import append_row, trim_rows
from latte_core.training.parallel import make_accelerator

log = logging.getLogger(__name__)
LOG = "log.csv"


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
    has exactly `steps` steps. The `learning_rate` rises over `warmup_steps`, stays, and falls
    linearly to zero over the last `decay_share` of the run. Adam's rates of forgetting are 0.9 and
    `beta2`; `weight_decay` is AdamW's.

    The gradient's norm is held to `clip_norm` from step `clip_after` on. An update is made of
    `accumulate` batches of every process. The average of the weights forgets by `ema_decay`, at
    first faster with `ema_warmup`. `precision` bf16 computes in bfloat16 and keeps weights in
    float32. `device` cpu leaves a GPU alone. `strategy` says how several processes share the work:
    `ddp` gives each the whole model, `fsdp2` a share of its weights. `compile` lets torch compile
    the model. `seed` draws weights, noise and order of the data; `workers` processes prepare
    batches.

    Every `log_every` steps a line goes to the log, every `save_every` the state to disk, every
    `picture_every` a sheet of samples.
    """

    steps: int = 1000
    minutes: float | None = None
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_share: float = 0.4
    weight_decay: float = 0.0
    beta2: float = 0.99
    clip_norm: float = 1.0
    clip_after: int = 0
    accumulate: int = 1
    ema_decay: float = 0.999
    ema_warmup: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu"] = "auto"
    strategy: Literal["ddp", "fsdp2"] = "ddp"
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
        if self.clip_after < 0 or self.clip_norm <= 0 or self.workers < 0:
            raise ConfigError("clip_after and workers must be 0 or more, clip_norm above 0.")
        if not 0 <= self.decay_share <= 1 or not 0 <= self.ema_decay < 1:
            raise ConfigError("decay_share must lie in 0..1 and ema_decay in 0..1 (1 excluded).")


def learning_rate_factor(config: LoopConfig, step: int, share: float) -> float:
    """Factor on the learning rate at `step` when `share` (0..1) of the run is over."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.decay_share == 0:
        return warm
    return warm * min(1.0, max(0.0, (1 - share) / config.decay_share))


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

    Raises NonFiniteError as soon as a loss or gradient is NaN or infinite, before it is used.
    """

    task: Task
    config: LoopConfig
    folder: Path
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        """Prepare model, optimiser and average on their device."""
        c = self.config
        self.accelerator = make_accelerator(
            c.device == "cpu", c.precision, c.accumulate, c.strategy
        )
        model = self.task.model
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=c.learning_rate,
            betas=(0.9, c.beta2),
            weight_decay=c.weight_decay,
        )
        average = averaged(model, c.ema_decay, c.ema_warmup)
        prepared: Any = self.accelerator.prepare(model, optimizer)
        self.model, self.optimizer = prepared
        self.average = self._average(average)
        self.accelerator.register_for_checkpointing(self.average, self.progress)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _average(self, average: AveragedModel) -> Average:
        """Put the average where the weights are, sharded as they are."""
        c, model = self.config, self.accelerator.unwrap_model(self.model)
        if c.strategy == "fsdp2":
            return ShardedAverage(average.module, model, c.ema_decay, c.ema_warmup)
        average = average.to(self.accelerator.device)
        share_frozen(average.module, model)
        return average

    def resume(self) -> bool:
        """Go on from the folder's saved state, if there is one."""
        new, old, gone = self._state_folders()
        if self.accelerator.is_main_process and gone.is_dir() and not old.is_dir():
            (new if new.is_dir() else gone).rename(old)  # killed between the renames of `save`
        self.accelerator.wait_for_everyone()
        if not old.is_dir():
            return False
        self.accelerator.load_state(str(old))
        if self.accelerator.is_main_process:
            self._trim_log()
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
        if self.accelerator.device.type == "cpu":
            keep_freed_memory()
        c, start = self.config, time.monotonic() - self.progress.seconds
        step_model: Any = torch.compile(self.model) if c.compile else self.model
        batches = self._batches()
        window: list[dict[str, float]] = []
        while not self._is_over():
            window.append(self._step(step_model, batches))
            self.progress.step += 1
            self.progress.seconds = self._agree(time.monotonic() - start)
            if self.progress.step % c.log_every == 0 or self._is_over():
                self._report(window)
                window = []
            if self.progress.step % c.picture_every == 0 or self._is_over():
                self._draw()
            if self.progress.step % c.save_every == 0 or self._is_over():
                self.save()
        return self.average.module

    def _agree(self, seconds: float) -> float:
        """The first process's clock, where the clock ends the run: all have to stop together."""
        if self.config.minutes is None or self.accelerator.num_processes == 1:
            return seconds
        from accelerate.utils import broadcast

        clock: Any = broadcast(torch.tensor([seconds], device=self.accelerator.device))
        return float(clock[0])

    def time_steps(self, count: int) -> float:
        """Seconds of a step, the mean of `count` after one that is not timed. Nothing is written.

        The weights have moved afterwards, so this is for a trainer that is then thrown away.
        """
        batches = self._batches()
        self._step(self.model, batches)
        self._synchronise()
        start = time.perf_counter()
        for _ in range(count):
            self._step(self.model, batches)
        self._synchronise()
        return (time.perf_counter() - start) / count

    def _synchronise(self) -> None:
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()

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
            generator=torch.Generator(),  # else it draws from the model's own, once per sitting
        )
        yield from loader

    def _step(self, model: nn.Module, batches: Iterator[Any]) -> dict[str, float]:
        """Make one update of the weights from `accumulate` batches; returns their mean figures."""
        c = self.config
        parts: list[dict[str, float]] = []
        factor = learning_rate_factor(c, self.progress.step, self._share())
        for group in self.optimizer.param_groups:
            group["lr"] = c.learning_rate * factor
        for part in range(c.accumulate):
            batch = to_device(next(batches), self.accelerator.device)
            with self.accelerator.accumulate(self.model):
                loss, figures = self.task.loss(model, batch, self._generator(part))
                parts.append({**figures, "loss": self._finite("loss", loss)})
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    parts[-1]["grad_norm"] = self._finite("gradient", self._clip())
                    self.optimizer.step()
                    self.optimizer.zero_grad()
        self.average.update_parameters(self.accelerator.unwrap_model(self.model))
        means = {k: sum(p[k] for p in parts) / len(parts) for k in parts[0] if k != "grad_norm"}
        return {**means, "grad_norm": parts[-1]["grad_norm"]}

    def _clip(self) -> Tensor:
        """Limit the gradient's norm from step `clip_after` on; returns the norm before."""
        c = self.config
        limit = c.clip_norm if self.progress.step >= c.clip_after else math.inf
        norm: Any = self.accelerator.clip_grad_norm_(self.model.parameters(), limit)
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of shards

    def _finite(self, name: str, value: Tensor) -> float:
        """The value, before it can spoil a weight. Raises NonFiniteError for NaN and infinity."""
        number = float(value.detach())
        if not math.isfinite(number):
            raise NonFiniteError(
                f"The {name} is {'NaN' if math.isnan(number) else 'infinite'} at step "
                f"{self.progress.step}. Lower the learning rate ({self.config.learning_rate}) or "
                "train in fp32, and resume from the last state."
            )
        return number

    def _generator(self, part: int) -> torch.Generator:
        """Noise of this step, part and process: the same after a restart."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        number = (self.progress.step * self.config.accumulate + part) * world + rank
        return torch.Generator().manual_seed(self.config.seed * 1_000_003 + number)

    def _report(self, window: list[dict[str, float]]) -> None:
        """Write one line to log and CSV: means over steps and processes, rate, time left."""
        names = list(window[-1])
        rows = torch.tensor([[w[k] for k in names] for w in window], dtype=torch.float64)
        reduced: Any = self.accelerator.reduce(rows.mean(0).to(self.accelerator.device), "mean")
        if not self.accelerator.is_main_process:
            return
        p, means = self.progress, dict(zip(names, reduced.tolist(), strict=True))
        left = p.seconds * (1 / max(self._share(), 1e-9) - 1) / 60
        text = "  ".join(f"{k} {v:.4f}" for k, v in means.items())
        log.info("step %d  %s  %.2f steps/s  %.1f min left", p.step, text, p.step / p.seconds, left)
        append_row(
            self.folder / LOG, {"step": p.step, "minutes": round(p.seconds / 60, 3), **means}
        )

    def _trim_log(self) -> None:
        """Take away lines of steps that were made after the state was saved: they come again."""
        trim_rows(self.folder / LOG, self.progress.step)

    def _draw(self) -> None:
        average = self.average.module  # gathered by all processes if it is sharded
        if self.accelerator.is_main_process:
            average.to(self.accelerator.device).eval()
            with torch.no_grad():
                sheet = self.task.picture(average)
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


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch's tensors on a device: alone, in a dictionary or in a named tuple."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {k: to_device(v, device) for k, v in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):  # a named tuple
        return type(batch)(*(to_device(value, device) for value in batch))
    return batch


def write_summary(folder: Path, figures: dict[str, Any]) -> None:
    """Write final figures of a run as JSON beside its log."""
    (folder / "summary.json").write_text(json.dumps(figures, indent=2) + "\n")
