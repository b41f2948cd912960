"""How the published models were sampled: settings, classes and scheduler by data set. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latte_core.checkpoints.manifest import LATTE_1_DEFAULTS, Defaults, PreviewMap
from latte_core.errors import CheckpointError

if TYPE_CHECKING:
    from latte_core.model import ModelConfig

PIXELS_PER_LATENT = 8  # of Stable Diffusion's autoencoder, which every published Latte uses
FPS = 8  # of every clip that the original scripts write
UCF101_CLASSES = Path(__file__).with_name("ucf101_classes.txt")


@dataclass(frozen=True)
class Kind:
    """A published model: what it is of, how it was sampled, and how many classes it has.

    `num_classes` is None where the kind says nothing about them.
    """

    title: str
    conditioning: str | None
    num_classes: int | None = 0
    guidance_scale: float = 1.0


# Source: configs/*/*_sample.yaml of Vchitect/Latte: DDPM, 250 steps, 16 frames, guidance 7 for
# UCF101 and none for the others.
KINDS = {
    "ffs": Kind("Latte for FaceForensics", "none"),
    "skytimelapse": Kind("Latte for SkyTimelapse", "none"),
    "taichi-hd": Kind("Latte for Taichi-HD", "none"),
    "ucf101": Kind("Latte for UCF101", "class", 101, 7.0),
    "t2v": Kind("Latte for text", "text"),
    "none": Kind("Latte", None, None),
}
DDPM_STEPS = 250
# Where a class model's data set is unknown. Source: the default of DiT's sampling script.
CLASS_GUIDANCE = 4.0

# The chain of training, and the spacing that gives the original's 250 steps: both ends, rounded.
# Source: diffusion/ of Vchitect/Latte.
CLASS_SCHEDULER: Mapping[str, Any] = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.42.0",
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "variance_type": "learned_range",
    "clip_sample": False,
    "prediction_type": "epsilon",
    "timestep_spacing": "linspace",
    "steps_offset": 0,
}

# Stable Diffusion 1.x latents to RGB, as found by linear regression by the forum user keturn:
# discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204. Its output range
# -1..1 is brought to 0..1 here by halving, and a bias of one half.
SD1_RGB = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)


def find_kind(chosen: str | None, name: str, config: ModelConfig, image: bool) -> str:
    """The kind of a model: as chosen, else told by its shape or by the published file's name.

    `name` is the file's, without its suffix. A model that starts from an image model is of none.
    Raises CheckpointError for a chosen kind that the weights are not of.
    """
    if chosen is not None:
        _check_kind(chosen, config)
        return chosen
    if image:
        return "none"
    if config.conditioning == "text":
        return "t2v"
    if config.conditioning == "class":
        return "ucf101" if config.num_classes == KINDS["ucf101"].num_classes else "none"
    return name if name in KINDS and KINDS[name].conditioning == "none" else "none"


def _check_kind(chosen: str, config: ModelConfig) -> None:
    if chosen not in KINDS:
        raise CheckpointError(f"kind is {chosen!r}; it can be {', '.join(KINDS)}.")
    kind = KINDS[chosen]
    if kind.conditioning not in (None, config.conditioning):
        raise CheckpointError(
            f"kind is {chosen}, which has conditioning {kind.conditioning!r}, but the weights have "
            f"{config.conditioning!r}; leave --kind out."
        )
    if kind.num_classes is not None and kind.num_classes != config.num_classes:
        raise CheckpointError(
            f"kind is {chosen}, which has {kind.num_classes} classes, but the weights have "
            f"{config.num_classes}; leave --kind out."
        )


def find_defaults(kind: str, config: ModelConfig, pixels_per_latent: int) -> Defaults:
    """Settings of a generation: the published ones, at the model's own size and length."""
    size = config.sample_size * pixels_per_latent
    shape: dict[str, Any] = {"num_frames": config.num_frames, "height": size, "width": size}
    if config.conditioning == "text":
        return Defaults(**(asdict(LATTE_1_DEFAULTS) | shape))
    guidance = KINDS[kind].guidance_scale
    if config.conditioning == "class" and KINDS[kind].num_classes is None:
        guidance = CLASS_GUIDANCE
    return Defaults(
        num_inference_steps=DDPM_STEPS,
        guidance_scale=guidance,
        fps=FPS,
        scheduler="ddpm",
        **shape,
    )


def class_names(kind: str, config: ModelConfig) -> list[str]:
    """Names of the classes in the order of their labels, their numbers where they are unknown."""
    if kind != "ucf101":
        return [str(number) for number in range(config.num_classes)]
    lines = UCF101_CLASSES.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def sd1_preview() -> PreviewMap:
    """The latent-to-RGB map of Stable Diffusion 1.x, whose autoencoder Latte-1 uses."""
    weight = tuple((red / 2, green / 2, blue / 2) for red, green, blue in SD1_RGB)
    return PreviewMap(weight=weight, bias=(0.5, 0.5, 0.5))


def plain_preview(channels: int) -> PreviewMap:
    """A map for latents of which nothing is known: Stable Diffusion's where the number fits.

    Else the first three channels are the colours, two standard deviations to either side.
    """
    if channels == len(SD1_RGB):
        return sd1_preview()
    rows = ((0.25, 0.0, 0.0), (0.0, 0.25, 0.0), (0.0, 0.0, 0.25))
    black = ((0.0, 0.0, 0.0),) * max(0, channels - len(rows))
    return PreviewMap(weight=(*rows[:channels], *black), bias=(0.5, 0.5, 0.5))
