"""Samplers by name, as diffusers' schedulers. One object is made per request.

A scheduler's config comes from the model folder (betas, prediction type, spacing), so that a
name means the same thing as `Class.from_config(pipeline.scheduler.config)` in plain diffusers.
Importing this module needs neither torch nor diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from latte_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

LEARNED_VARIANCE = ("learned", "learned_range")


@dataclass(frozen=True)
class SchedulerSpec:
    """A diffusers class, the options that we set on top of the folder's config, and a label.

    `reads_variance` says that the class can use a learned variance; from all others it is kept.
    """

    class_name: str
    label: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    reads_variance: bool = False


SCHEDULERS: dict[str, SchedulerSpec] = {
    "ddim": SchedulerSpec("DDIMScheduler", "DDIM, the reference"),
    "ddpm": SchedulerSpec("DDPMScheduler", "DDPM, many steps", reads_variance=True),
    "dpm++2m": SchedulerSpec("DPMSolverMultistepScheduler", "DPM-Solver++ 2M, 20 to 25 steps"),
    "unipc": SchedulerSpec("UniPCMultistepScheduler", "UniPC, 12 to 15 steps"),
    "euler": SchedulerSpec("EulerDiscreteScheduler", "Euler"),
    "euler-a": SchedulerSpec("EulerAncestralDiscreteScheduler", "Euler with fresh noise"),
    "heun": SchedulerSpec("HeunDiscreteScheduler", "Heun, two model calls a step"),
    # The four-call Runge-Kutta start needs at least four steps and gains nothing after ten.
    "pndm": SchedulerSpec(
        "PNDMScheduler", "PNDM", options=MappingProxyType({"skip_prk_steps": True})
    ),
    "deis": SchedulerSpec("DEISMultistepScheduler", "DEIS"),
    "kdpm2-a": SchedulerSpec(
        "KDPM2AncestralDiscreteScheduler", "KDPM2 with fresh noise, two model calls a step"
    ),
}


def make_scheduler(name: str, scheduler_config: Mapping[str, Any]) -> Any:
    """Make the diffusers scheduler `name` for a folder's scheduler_config.json.

    Raises ConfigError for an unknown name or a config that the class refuses.
    """
    import diffusers

    if name not in SCHEDULERS:
        raise ConfigError(f"scheduler is {name!r}, but must be one of: {', '.join(SCHEDULERS)}.")
    spec = SCHEDULERS[name]
    config = {key: value for key, value in scheduler_config.items() if not key.startswith("_")}
    config.update(spec.options)
    if config.get("variance_type") in LEARNED_VARIANCE and not spec.reads_variance:
        del config["variance_type"]
    if name == "ddim" and _is_spaced(config):
        return SpacedDDIM(diffusers.DDPMScheduler.from_config(config))
    try:
        return getattr(diffusers, spec.class_name).from_config(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ConfigError(f"The model's scheduler config does not suit {name}: {error}") from error


class SpacedDDIM:
    """DDIM without noise, on timesteps from one end of the chain to the other (`linspace`).

    These are the original's timesteps (0, 20, 41, 61, ..., 999 for 50 steps), whose distances
    differ; diffusers' DDIMScheduler always steps by 1000 // N and so would miss the next one.
    `chain` is a DDPMScheduler, which knows the betas and the neighbours of every timestep.
    """

    init_noise_sigma = 1.0

    def __init__(self, chain: Any) -> None:
        self._chain = chain
        self.config = chain.config
        self.alphas_cumprod: Tensor = chain.alphas_cumprod

    @property
    def timesteps(self) -> Tensor:
        """The timesteps of a sampling, descending (N,)."""
        return self._chain.timesteps

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Choose the number of steps, at most as many as the chain has."""
        self._chain.set_timesteps(num_inference_steps)

    def scale_model_input(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """The latents as they are."""
        return latents

    def step(
        self, prediction: Tensor, timestep: Tensor, latents: Tensor, return_dict: bool = False
    ) -> tuple[Tensor]:
        """Latents (B, C, F, h, w) of the next timestep, the picture itself after the last."""
        before = int(self._chain.previous_timestep(timestep))
        bars, kind = self.alphas_cumprod, self.config.prediction_type
        picture = predict_x0(prediction, latents, timestep, bars, kind)
        here = float(bars[int(timestep)])
        there = float(bars[before]) if before >= 0 else 1.0
        noise = (latents - here**0.5 * picture) / (1 - here) ** 0.5
        return (there**0.5 * picture + (1 - there) ** 0.5 * noise,)


def _is_spaced(config: Mapping[str, Any]) -> bool:
    """Whether a config means the original's DDIM: uneven steps, and nothing clipped."""
    clips = config.get("clip_sample", True) or config.get("thresholding", False)
    return config.get("timestep_spacing") == "linspace" and not clips


def reads_variance(scheduler: Any) -> bool:
    """Whether this scheduler object wants the model's variance channels beside its prediction."""
    return scheduler.config.get("variance_type") in LEARNED_VARIANCE


def predict_x0(
    prediction: Tensor,
    model_input: Tensor,
    timestep: Tensor | float,
    alphas_cumprod: Tensor,
    prediction_type: str,
) -> Tensor:
    """The picture that the model has in mind at this step.

    prediction and model_input (B, C, F, h, w): the model's output without variance channels, and
    the latents exactly as the model saw them. Samplers that work in units of sigma divide their
    latents by sqrt(1 + sigma^2) for the model, so the model's input is variance preserving
    with every sampler and one formula serves all. Fractional timesteps interpolate linearly.
    """
    signal, noise = _level(timestep, alphas_cumprod)
    if prediction_type == "epsilon":
        return (model_input - noise * prediction) / signal
    if prediction_type == "v_prediction":
        return signal * model_input - noise * prediction
    if prediction_type == "sample":
        return prediction
    raise _unknown(prediction_type)


def predict_noise(
    prediction: Tensor,
    model_input: Tensor,
    timestep: Tensor | float,
    alphas_cumprod: Tensor,
    prediction_type: str,
) -> Tensor:
    """The noise that the model sees in its input (B, C, F, h, w): unit noise, no picture."""
    signal, noise = _level(timestep, alphas_cumprod)
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "v_prediction":
        return signal * prediction + noise * model_input
    if prediction_type == "sample":
        return (model_input - signal * prediction) / noise
    raise _unknown(prediction_type)


def prediction_of_noise(
    seen_noise: Tensor,
    model_input: Tensor,
    timestep: Tensor | float,
    alphas_cumprod: Tensor,
    prediction_type: str,
) -> Tensor:
    """What the model would have predicted if it had seen this noise: predict_noise backwards."""
    signal, noise = _level(timestep, alphas_cumprod)
    if prediction_type == "epsilon":
        return seen_noise
    if prediction_type == "v_prediction":
        return (seen_noise - noise * model_input) / signal
    if prediction_type == "sample":
        return (model_input - noise * seen_noise) / signal
    raise _unknown(prediction_type)


def prediction_of_picture(
    picture: Tensor,
    model_input: Tensor,
    timestep: Tensor | float,
    alphas_cumprod: Tensor,
    prediction_type: str,
) -> Tensor:
    """What the model would have predicted if it had this picture in mind: predict_x0 backwards."""
    signal, noise = _level(timestep, alphas_cumprod)
    if prediction_type == "epsilon":
        return (model_input - signal * picture) / noise
    if prediction_type == "v_prediction":
        return (signal * model_input - picture) / noise
    if prediction_type == "sample":
        return picture
    raise _unknown(prediction_type)


def _level(timestep: Tensor | float, alphas_cumprod: Tensor) -> tuple[float, float]:
    """Factors of picture and noise at a timestep."""
    position = float(timestep)
    low = min(max(int(position), 0), len(alphas_cumprod) - 1)
    high = min(low + 1, len(alphas_cumprod) - 1)
    part = min(max(position - low, 0.0), 1.0)
    alpha = (1 - part) * float(alphas_cumprod[low]) + part * float(alphas_cumprod[high])
    return alpha**0.5, (1 - alpha) ** 0.5


def _unknown(prediction_type: str) -> ConfigError:
    return ConfigError(
        f"prediction_type is {prediction_type!r}, but must be epsilon, v_prediction or sample."
    )
