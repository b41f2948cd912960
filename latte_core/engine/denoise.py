"""From noise to latents, step by step.

Every picture (the clip, each still) is a `Track` with its own sampler and its own random source,
so a clip does not depend on the stills beside it. All tracks share one forward pass a step.
"""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latte_core.components.preview import preview_frames
from latte_core.diffusion.guidance import Conditions
from latte_core.diffusion.planned import PlannedOutputs
from latte_core.diffusion.schedulers import (
    make_scheduler,
    predict_x0,
    prediction_of_picture,
    reads_variance,
)
from latte_core.diffusion.step_plan import FULL, StepPlan
from latte_core.engine.events import Step
from latte_core.engine.parts import Parts
from latte_core.engine.request import GenerationRequest
from latte_core.engine.windows import Window, in_windows, plan_windows
from latte_core.errors import ConfigError, NonFiniteError, RequestError

if TYPE_CHECKING:
    from latte_core.model.latte import Reading

TIMED_STEPS = 2  # before a time to go is told
# Of a start picture's correction, from frame to frame. Eight held-out clips from start pictures,
# the change to the second frame in medians of later changes: 2.66 without (0), 1.40 with 0.7, 1.20
# with 0.9, 1.16 with 0.97, which lets the subject's old place shine through for longest.
FADING = 0.9


class Track:
    """One picture on its way from noise; latents are float32 (1, C, frames, h, w).

    `known` (1, C, 1, h, w) is what the first frame has to become.
    """

    def __init__(
        self,
        noise: Tensor,
        scheduler: Any,
        generator: torch.Generator,
        known: Tensor | None = None,
    ) -> None:
        self.noise = noise
        self.known = known
        self.scheduler = scheduler
        self.latents = noise * scheduler.init_noise_sigma
        self.seen = self.latents
        accepted = inspect.signature(scheduler.step).parameters
        self._options = {"generator": generator} if "generator" in accepted else {}

    @property
    def frames(self) -> int:
        """Frames of this picture."""
        return self.latents.shape[2]

    def model_input(self, timestep: Tensor) -> Tensor:
        """The latents as the model is to see them at this step."""
        self.seen = self.scheduler.scale_model_input(self.latents, timestep)
        return self.seen

    def estimate(self, output: Tensor, timestep: Tensor, prediction_type: str) -> Tensor:
        """The picture that an output of the model stands for at this step."""
        prediction, levels = output[:, : self.latents.shape[1]], self.scheduler.alphas_cumprod
        estimate = predict_x0(prediction, self.seen, timestep, levels, prediction_type)
        return estimate if self.known is None else lead(estimate, self.known)

    def advance(self, output: Tensor, timestep: Tensor, prediction_type: str) -> None:
        """Take one step with the model's output."""
        channels = self.latents.shape[1]
        prediction = output[:, :channels]
        if self.known is not None:
            estimate = self.estimate(output, timestep, prediction_type)
            levels = self.scheduler.alphas_cumprod
            prediction = prediction_of_picture(
                estimate, self.seen, timestep, levels, prediction_type
            )
            output = torch.cat([prediction, output[:, channels:]], dim=1)
        used = output if reads_variance(self.scheduler) else prediction
        self.latents = self.scheduler.step(
            used, timestep, self.latents, **self._options, return_dict=False
        )[0]


@dataclass(frozen=True, eq=False)
class Sampling:
    """The tracks of one request: the clip, if there is one, then the stills; and its steps.

    `windows` are the parts of the clip that the network sees at once.
    """

    clip: Track | None
    stills: tuple[Track, ...]
    timesteps: tuple[Tensor, ...]
    step_plan: StepPlan
    windows: tuple[Window, ...] = (Window(0, 0),)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All tracks in the order in which the model sees them."""
        return self.stills if self.clip is None else (self.clip, *self.stills)

    def primary(self, attribute: str) -> NDArray[np.float32]:
        """Noise or latents (1, C, F, h, w) of the clip, or of all stills where there is none."""
        shown = self.stills if self.clip is None else (self.clip,)
        return torch.cat([getattr(track, attribute) for track in shown], dim=2).cpu().numpy()


def lead(estimate: Tensor, known: Tensor) -> Tensor:
    """Lead an estimate of a clip (1, C, F, h, w) to begin with known latents (1, C, 1, h, w).

    The first frame becomes what is known. What it lacked is added to the frames behind it too, ever
    less, because a frame looks like the one before; the next steps keep of it what moves well.
    """
    frames = torch.arange(estimate.shape[2], device=estimate.device)
    fading = (FADING**frames).view(-1, 1, 1)
    return estimate + fading * (known - estimate[:, :, :1])


def start(request: GenerationRequest, parts: Parts, known: Tensor | None = None) -> Sampling:
    """Draw the noise of a resolved request and make its samplers.

    `known` (1, C, 1, h, w) are the latents of the clip's first frame, where it is given.

    The clip's noise is one draw (1, C, F, h, w) from the seed, as stock makes it; still i starts
    from its frame i. Raises RequestError if the sampler cannot run so few steps, or has no such
    step plan.
    """
    assert request.seed is not None and request.num_frames is not None  # resolved
    assert request.height is not None and request.width is not None
    factor, channels = parts.vae_factor, parts.transformer.config.in_channels
    frame = (request.height // factor, request.width // factor)
    generator = torch.Generator().manual_seed(request.seed)
    noise = torch.randn((1, channels, request.num_frames, *frame), generator=generator)
    device, scheduler = parts.plan.device, _scheduler(request, parts)
    clip = None
    if request.mode != "image":
        clip = Track(noise.to(device), scheduler, generator, known)
    stills = []
    for index in range(request.num_images):
        own = _still_generator(request.seed, index)
        if index < request.num_frames:
            start_noise = noise[:, :, index : index + 1]
        else:
            start_noise = torch.randn((1, channels, 1, *frame), generator=own)
        # A fresh copy is a sampler that has taken no step, and cheaper than making one.
        stills.append(Track(start_noise.to(device), copy.deepcopy(scheduler), own))
    timesteps = tuple(scheduler.timesteps)
    assert request.scheduler is not None and request.num_inference_steps is not None
    step_plan = parts.plans.find(
        request.plan or FULL, request.scheduler, request.num_inference_steps, len(timesteps)
    )
    frames = 0 if clip is None else clip.frames
    windows = plan_windows(frames, parts.transformer.config, request.tempo)
    return Sampling(clip, tuple(stills), timesteps, step_plan, windows)


def _still_generator(seed: int, index: int) -> torch.Generator:
    """A random source for one still. torch's CPU generator reads 32 bits of a seed, so they mix."""
    mixed = np.random.SeedSequence([seed, index + 1]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


def _scheduler(request: GenerationRequest, parts: Parts) -> Any:
    assert request.scheduler is not None
    scheduler = make_scheduler(request.scheduler, parts.scheduler_config)
    try:
        scheduler.set_timesteps(request.num_inference_steps)
    except (ValueError, IndexError, ConfigError) as error:
        raise RequestError(
            "num_inference_steps",
            f"num_inference_steps is {request.num_inference_steps}, which {request.scheduler} "
            "cannot do with this model: try more steps or another scheduler.",
        ) from error
    return scheduler


class Denoiser:
    """Runs the steps of one sampling, one event a step. `kind` is how outputs are come by."""

    def __init__(
        self,
        parts: Parts,
        conditions: Conditions,
        sampling: Sampling,
        kind: type[PlannedOutputs] = PlannedOutputs,
    ) -> None:
        self._parts = parts
        self._sampling = sampling
        self._stop_if_asked: Callable[[], None] = lambda: None
        self._readings: dict[Any, Reading] = {}
        dtype = getattr(torch, parts.plan.transformer_dtype)
        self.outputs = kind(
            sampling.step_plan,
            conditions.to(parts.plan.device, dtype),
            sampling.tracks[0].scheduler,
            parts.prediction_type,
        )

    @torch.no_grad()
    def run(self, emit: Callable[[Step], None], check: Callable[[int, int], None]) -> None:
        """Take every step; `check(done, total)` is called before each window and may raise."""
        total = len(self._sampling.timesteps)
        durations: list[float] = []
        for index, timestep in enumerate(self._sampling.timesteps, start=1):
            self._stop_if_asked = partial(check, index - 1, total)
            self._stop_if_asked()
            began = time.perf_counter()
            estimates = self.step(timestep, index)
            pictures = _pictures(self._parts, self._sampling, estimates)
            durations.append(time.perf_counter() - began)
            emit(Step(index, total, *pictures, durations[-1], _time_to_go(durations, total)))
        check(total, total)

    def step(self, timestep: Tensor, index: int) -> list[Tensor]:
        """Take step `index`, counted from 1; returns each track's estimate of its picture.

        The estimates are the network's own. What a step plan mixes into its output leads the
        latents back to their path, and as a picture would look like a flash. Raises NonFiniteError.
        """
        tracks = self._sampling.tracks
        seen = torch.cat([track.model_input(timestep) for track in tracks], dim=2)
        output = self.outputs.at(index - 1, seen, timestep, partial(self.evaluate, seen, timestep))
        self._check_finite(output, index)
        kind = self._parts.prediction_type
        own = zip(tracks, _per_track(self.outputs.own, tracks), strict=True)
        estimates = [track.estimate(part, timestep, kind) for track, part in own]
        for track, part in zip(tracks, _per_track(output, tracks), strict=True):
            track.advance(part, timestep, kind)
        return estimates

    def evaluate(self, seen: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The network's outputs (rows, Cout, F, h, w) for latents (1, C, F, h, w)."""
        windows = self._sampling.windows
        return in_windows(windows, seen, conditions, partial(self._network, timestep))

    def _network(
        self,
        timestep: Tensor,
        seen: Tensor,
        conditions: Conditions,
        num_images: int,
        frame_positions: Tensor | None,
    ) -> Tensor:
        """Run the network once; with a memory plan that splits the halves, once for each."""
        self._stop_if_asked()
        rows = conditions.halves
        if rows == 2 and self._parts.plan.split:
            alone = (conditions.row(0), conditions.row(-1))
            apart = (
                self._network(timestep, seen, half, num_images, frame_positions) for half in alone
            )
            return torch.cat([*apart])
        output: Tensor = self._parts.transformer(
            seen.expand(rows, -1, -1, -1, -1),
            timestep.to(seen.device).expand(rows),
            prompt_embeds=self._read(conditions),
            class_labels=conditions.labels,
            num_images=num_images,
            frame_positions=frame_positions,
        )
        return output

    def _read(self, conditions: Conditions) -> Reading:
        """What all steps share, made at the first one that asks for these conditions.

        Where the blocks come in by turns, it is made in main memory, where they wait.
        """
        embeds = conditions.embeds
        # Windows cut the same tensor anew each time; it lives as long as this run.
        key = None if embeds is None else (embeds.data_ptr(), embeds.shape)
        if key not in self._readings:
            tracks, plan = self._sampling.tracks, self._parts.plan
            at = torch.device("cpu") if plan.streamed else None
            reading = self._parts.transformer.read(
                _moved(embeds, at),
                _moved(conditions.mask, at),
                images=sum(track.frames == 1 for track in tracks),
                variance=any(reads_variance(track.scheduler) for track in tracks),
                absorb=plan.absorbs,
            )
            self._readings[key] = _moved(reading, torch.device(plan.device) if at else None)
        return self._readings[key]

    def _check_finite(self, output: Tensor, index: int) -> None:
        if not bool(torch.isfinite(output).all()):
            raise NonFiniteError(
                f"The transformer gave NaN or infinity at step {index}, so nothing was made. Lower "
                "the guidance, try another seed or scheduler; if it stays, the model is damaged."
            )


def first_event(parts: Parts, sampling: Sampling) -> Step:
    """Step 0: the noise that the seed stands for, which needs neither prompt nor network."""
    noise = [track.noise for track in sampling.tracks]
    pictures = _pictures(parts, sampling, noise)
    return Step(0, len(sampling.timesteps), *pictures, seconds=0.0, eta_s=None)


def _pictures(
    parts: Parts, sampling: Sampling, estimates: list[Tensor]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Previews of the clip (F, h, w, 3) and of the stills (I, h, w, 3)."""
    shown = preview_frames(torch.cat(estimates, dim=2)[0], parts.preview)
    clip_frames = sampling.clip.frames if sampling.clip else 0
    return shown[:clip_frames], shown[clip_frames:]


def _moved(value: Any, device: torch.device | None) -> Any:
    """The tensors in nested tuples on another device; as they are if there is none."""
    if device is None or value is None or isinstance(value, bool):
        return value
    if isinstance(value, Tensor):
        return value.to(device)
    parts = [_moved(part, device) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def _per_track(output: Tensor, tracks: tuple[Track, ...]) -> Iterator[Tensor]:
    yield from output.split([track.frames for track in tracks], dim=2)


def _time_to_go(durations: list[float], total: int) -> float | None:
    """Remaining seconds by the mean of the steps so far, the first (warm-up) left out."""
    if len(durations) < TIMED_STEPS:
        return None
    steady = durations[1:]
    return (total - len(durations)) * sum(steady) / len(steady)
