"""One request, from prompt to pixels: encode, denoise, decode. Runs in the worker's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from latte_core import __version__
from latte_core.components.vae import (
    decode_temporal,
    encode_frames,
    frames_at_once,
    iter_frames,
)
from latte_core.engine.denoise import Denoiser, Sampling, first_event, start
from latte_core.engine.events import Decoding, Encoded, Event, Generation
from latte_core.engine.labels import make_conditioner
from latte_core.engine.low_precision import accumulating
from latte_core.engine.memory import MemoryMeter, MemoryPolicy, free_memory, make_policy
from latte_core.engine.parts import Parts, load_parts
from latte_core.engine.precision import AUTO
from latte_core.engine.prompts import Conditioner
from latte_core.engine.request import GenerationRequest
from latte_core.engine.start_picture import picture_pixels
from latte_core.engine.survey import TEMPORAL_CHUNK
from latte_core.errors import NonFiniteError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Emit = Callable[[Event], None]
# check(done, total) raises Cancelled if the job was stopped.
Check = Callable[[int, int], None]


@dataclass(frozen=True)
class Pipeline:
    """A loaded model with its memory policy, and what makes its conditions of a request."""

    parts: Parts
    policy: MemoryPolicy
    conditioner: Conditioner

    @torch.no_grad()
    def run(self, request: GenerationRequest, emit: Emit, check: Check) -> Generation:
        """Make what a resolved request asks for, telling every step to `emit`."""
        timings: dict[str, float] = {}
        began = time.perf_counter()
        meter = MemoryMeter(self.parts.plan.device)
        check = _sampled(check, meter)
        check(0, 0)
        sampling = self.start(request)
        total = len(sampling.timesteps)
        emit(first_event(self.parts, sampling))  # at once: a large text encoder takes a while
        check(0, total)
        with _timed(timings, "encode_s"):
            prompt = self.conditioner.encode(request, self.policy)
        emit(
            Encoded(
                prompt.tokens,
                prompt.unknown_words,
                timings["encode_s"],
                dict(prompt.suggestions),
                sampling.step_plan.name,
                self.parts.missing_plan(request),
            )
        )
        check(0, total)
        name, network = self.parts.wanted(request)
        with _timed(timings, "denoise_s"), self.policy.using(name), accumulating(self.parts.plan):
            parts = replace(self.parts, transformer=network)
            denoiser = Denoiser(parts, prompt.conditions, sampling)
            denoiser.run(emit, check)
        with _timed(timings, "decode_s"):
            frames, stills = self._decode(sampling, emit, check)
        timings["total_s"] = time.perf_counter() - began
        assert request.seed is not None
        return Generation(
            frames=frames if len(frames) else stills[:1],
            stills=tuple(stills),
            latents=sampling.primary("latents"),
            initial_latents=sampling.primary("noise"),
            seed=request.seed,
            fps=self.parts.defaults.fps,
            timings=timings,
            recipe=self._recipe(request),
            memory_gib=meter.gib(),
        )

    def start(self, request: GenerationRequest) -> Sampling:
        """The noise and samplers of a resolved request; its start picture, if any, as latents.

        Raises NonFiniteError if the autoencoder makes no numbers of the picture.
        """
        if request.first_frame is None:
            return start(request, self.parts)
        assert request.height is not None and request.width is not None  # resolved
        picture = picture_pixels(request.first_frame, request.height, request.width)
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        device = self.parts.plan.device
        with self.policy.using("vae") as vae:
            known = encode_frames(vae, pixels.to(device)).float()
        if not bool(torch.isfinite(known).all()):
            raise NonFiniteError(
                "The autoencoder gave NaN or infinity for the first frame, so nothing was made. "
                "Take another picture; if it stays, the model folder is damaged."
            )
        return start(request, self.parts, known[:, :, None])

    def _decode(
        self, sampling: Sampling, emit: Emit, check: Check
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Pixels of the clip (F, H, W, 3), none in mode image, and of the stills (I, H, W, 3)."""
        clip = [] if sampling.clip is None else list(sampling.clip.latents[0].unbind(1))
        stills = [track.latents[0, :, 0] for track in sampling.stills]
        steps = len(sampling.timesteps)
        total = len(clip) + len(stills)
        pixels: list[NDArray[np.uint8]] = []
        if self.parts.temporal_vae is not None and len(clip) > 1:
            emit(Decoding(0, total))
            with self.policy.using("temporal_vae") as temporal:
                pixels.extend(
                    decode_temporal(
                        temporal, torch.stack(clip), TEMPORAL_CHUNK, TEMPORAL_CHUNK // 2
                    )
                )
            emit(Decoding(len(clip), total))
        # Clip and stills apart: a film is the same to the bit whatever is made beside it.
        if waiting := [part for part in (clip[len(pixels) :], stills) if part]:
            with self.policy.using("vae") as vae:
                for part in waiting:
                    for frame in self._frames(vae, torch.stack(part), part is stills):
                        check(steps, steps)
                        pixels.append(frame)
                        emit(Decoding(len(pixels), total))
        return _stacked(pixels[: len(clip)]), _stacked(pixels[len(clip) :])

    def _frames(
        self, vae: Any, latents: torch.Tensor, one_by_one: bool
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode latents (N, C, h, w), as many together as memory allows."""
        free = free_memory()[self.parts.plan.device]
        return iter_frames(vae, latents, 1 if one_by_one else frames_at_once(vae, latents, free))

    def _recipe(self, request: GenerationRequest) -> dict[str, Any]:
        """Everything that makes the same video again, JSON-able."""
        plan = self.parts.plan
        return {
            **request.to_dict(),
            "fps": self.parts.defaults.fps,
            "model": self.parts.name,
            "model_hash": self.parts.hash,
            "version": __version__,
            "device": plan.device,
            "memory": plan.name,
            "precision": plan.numbers,
            **({"compiled": True} if plan.compiled else {}),
        }


def open_pipeline(
    folder: Path, device: str = "auto", precision: str = AUTO, memory: str = "auto"
) -> Pipeline:
    """A model folder's pipeline, for measuring without a worker; `Engine` is for everything else.

    Raises as `load_parts`.
    """
    parts = load_parts(str(folder), memory, device, lambda event: None, None, precision)
    return Pipeline(parts, make_policy(parts.plan, parts.modules()), make_conditioner(parts))


def _sampled(check: Check, meter: MemoryMeter) -> Check:
    """As `check`, which comes before every step and frame; notes the memory in use there."""

    def sampled(done: int, total: int) -> None:
        meter.sample()
        check(done, total)

    return sampled


def _stacked(frames: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8)


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - began
