"""What is measured: the stock pipeline and our engine, behind one small face."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latte_core.benchmark.stock import StockPipeline, timed_call, use_scheduler
from latte_core.engine.compiling import uncompiled
from latte_core.engine.engine import Engine
from latte_core.engine.pipeline import Pipeline
from latte_core.engine.request import GenerationRequest
from latte_core.engine.worker import Worker

STAGES = ("text", "denoise", "decode", "all")


@dataclass(frozen=True)
class Setting:
    """How one row of the table generates. The stock pipeline reads no `plan`.

    `precision` is None where it is that of the stock pipeline.
    """

    name: str
    steps: int
    guidance: float
    scheduler: str
    frames: int
    height: int
    width: int
    plan: str = "full"
    turbo: bool = False
    precision: str | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """One clip: wall seconds by stage, CPU seconds of the whole process, and what came out.

    frames uint8 (F, H, W, 3); latents float32 (1, C, F, h, w).
    """

    seconds: dict[str, float]
    cpu_s: float
    frames: NDArray[np.uint8]
    latents: NDArray[np.float32]


@dataclass
class Counter:
    """Rows that went through the network: a step with guidance is two."""

    evaluations: int = 0


class Subject(Protocol):
    """Something that makes clips."""

    setting: Setting
    network: str  # the class of its denoiser, by which FLOPs are told apart

    def generate(self, prompt: str, seed: int) -> Run:
        """Make one clip, clocked."""

    def direct(self, prompt: str, seed: int) -> None:
        """Make one clip in this thread, where counters see every operation."""

    def counting(self) -> Any:
        """A context manager that yields a `Counter` of the evaluations made inside."""


@dataclass(frozen=True, eq=False)
class Embeds:
    """Prompt embeddings (1, n, Ct) instead of a text encoder, by prompt; "" is among them."""

    of: dict[str, Tensor] = field(default_factory=dict)


class Stock:
    """diffusers' LattePipeline."""

    network = "LatteTransformer3DModel"

    def __init__(self, pipeline: StockPipeline, setting: Setting, embeds: Embeds | None) -> None:
        self._pipeline = pipeline
        self.setting = setting
        self._embeds = embeds

    def generate(self, prompt: str, seed: int) -> Run:
        """Make one clip; its latents are caught where they go into the decoder."""
        caught: list[Tensor] = []
        began = time.process_time()
        result, seconds = timed_call(
            self._pipeline, lambda: self._call(prompt, seed, caught), _wait
        )
        cpu_s = time.process_time() - began
        frames = (result.frames[0] * 255).round().astype(np.uint8)
        return Run(seconds, cpu_s, frames, caught[-1].float().cpu().numpy())

    def direct(self, prompt: str, seed: int) -> None:
        """The same, unclocked."""
        self._call(prompt, seed, [])

    @contextmanager
    def counting(self) -> Iterator[Counter]:
        """Count at the middle block, which sees all frames of all rows at once."""
        blocks = self._pipeline.transformer.transformer_blocks
        rows = self.setting.frames
        with _counted(blocks[len(blocks) // 2], lambda x: len(x) // rows) as counter:
            yield counter

    def _call(self, prompt: str, seed: int, caught: list[Tensor]) -> Any:
        use_scheduler(self._pipeline, self.setting.scheduler)
        said: dict[str, Any] = {"prompt": prompt, "negative_prompt": ""}
        if self._embeds is not None:
            device, dtype = self._pipeline.transformer.device, self._pipeline.transformer.dtype
            own = self._embeds.of[prompt].to(device, dtype)
            null = self._embeds.of[""][:, : own.shape[1]].to(device, dtype)
            said = {"prompt_embeds": own, "negative_prompt_embeds": null, "mask_feature": False}
            said |= {"prompt": None, "negative_prompt": None, "clean_caption": False}

        def catch(pipeline: Any, step: int, timestep: Any, told: dict[str, Any]) -> dict[str, Any]:
            caught[:] = [told["latents"]]
            return told

        return self._pipeline(
            **said,
            num_inference_steps=self.setting.steps,
            guidance_scale=self.setting.guidance,
            video_length=self.setting.frames,
            height=self.setting.height,
            width=self.setting.width,
            generator=torch.Generator().manual_seed(seed),
            callback_on_step_end=catch,
            output_type="np",
        )


class Ours:
    """Our engine."""

    network = "Latte"

    def __init__(self, pipeline: Pipeline, setting: Setting) -> None:
        self._pipeline = pipeline
        self.setting = setting
        self.engine = Engine(Worker(capacity=1), pipeline)

    def generate(self, prompt: str, seed: int) -> Run:
        """Make one clip through the engine's own thread and queue."""
        wall, cpu = time.perf_counter(), time.process_time()
        made = self.engine.generate(self._request(prompt, seed))
        seconds = {stage: made.timings[f"{key}_s"] for stage, key in _TIMED.items()}
        seconds["all"] = time.perf_counter() - wall
        return Run(seconds, time.process_time() - cpu, made.frames, made.latents)

    def direct(self, prompt: str, seed: int) -> None:
        """Make one clip in this thread."""
        parts = self._pipeline.parts
        asked = self._request(prompt, seed)
        request = asked.resolve(parts.defaults_for(asked), parts.clip_lengths)
        self._pipeline.run(request, lambda event: None, lambda done, total: None)

    @contextmanager
    def counting(self) -> Iterator[Counter]:
        """Count at the middle block."""
        _, network = self._pipeline.parts.wanted(self._request("any", 0))
        blocks = network.blocks
        with uncompiled(network), _counted(blocks[len(blocks) // 2], len) as counter:
            yield counter

    def _request(self, prompt: str, seed: int) -> GenerationRequest:
        setting = self.setting
        return GenerationRequest(
            prompt,
            seed=seed,
            num_inference_steps=setting.steps,
            guidance_scale=setting.guidance,
            scheduler=setting.scheduler,
            num_frames=setting.frames,
            height=setting.height,
            width=setting.width,
            plan=setting.plan,
            turbo=setting.turbo,
        )


_TIMED = {"text": "encode", "denoise": "denoise", "decode": "decode"}


@contextmanager
def _counted(block: nn.Module, rows: Callable[[Tensor], int]) -> Iterator[Counter]:
    """Count the rows that go into `block`."""
    counter = Counter()

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        counter.evaluations += rows(inputs[0])

    handle = block.register_forward_pre_hook(note)
    try:
        yield counter
    finally:
        handle.remove()


def _wait() -> None:
    """Let a GPU finish what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
