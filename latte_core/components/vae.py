"""The autoencoder between pixels and latents: make, read, write, encode, decode frame by frame.

Latents are scaled to about unit variance on the way in and scaled back on the way out, so no caller
multiplies by the scaling factor. Only the temporal decoder is diffusers'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latte_core.components.autoencoder_kl import AutoencoderConfig, AutoencoderKL, Upsample
from latte_core.errors import CheckpointError, ConfigError, NonFiniteError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# diffusers' class; its bases are untyped to checkers.
AutoencoderKLTemporalDecoder = Any

MAX_AT_ONCE = 4  # frames decoded together; more gained nothing on the CPU (measured at 64 px)
# Of the widest map, about what stays near a core. At 128 px four frames at once, 4 MiB in fp32,
# took 0.96 of the CPU seconds of two on one thread, and 0.90 of the time on two; eight took more.
CACHED_BYTES = 4 * 2**20
# A frame with a widest map of less than an eighth of the weights is bound by reading these, so that
# several share it: with Stable Diffusion's decoder at 64 px four at once took 0.90 and 0.87 of the
# CPU seconds of one at a time, two rounds taken in turns.
WEIGHTS_SHARE = 8
LIVE_MAPS = 3  # full-size maps alive at the peak of decoding, as in the engine's memory plans

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"

# Attention layers of old Stable Diffusion autoencoders, as the first diffusers releases named them.
OLD_ATTENTION_NAMES = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}


@dataclass(frozen=True)
class VaeConfig:
    """Shape of an `AutoencoderKL`; the side shrinks by 2 ** (len(block_out_channels) - 1)."""

    block_out_channels: tuple[int, ...] = (32, 64, 128, 128)
    layers_per_block: int = 1
    latent_channels: int = 4
    scaling_factor: float = 1.0
    sample_size: int = 64
    norm_num_groups: int = 8
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        if not self.block_out_channels or self.layers_per_block < 1 or self.latent_channels < 1:
            raise ConfigError("An autoencoder needs at least one block, layer and latent channel.")
        if any(width % self.norm_num_groups for width in self.block_out_channels):
            raise ConfigError(
                f"Every width of block_out_channels {self.block_out_channels} must be a multiple "
                f"of norm_num_groups {self.norm_num_groups}."
            )
        if not self.scaling_factor > 0:
            raise ConfigError(f"scaling_factor must be above 0, not {self.scaling_factor}.")


def new_vae(config: VaeConfig) -> AutoencoderKL:
    """Make an autoencoder with fresh random weights."""
    depth = len(config.block_out_channels)
    return AutoencoderKL(
        AutoencoderConfig(
            down_block_types=("DownEncoderBlock2D",) * depth,
            up_block_types=("UpDecoderBlock2D",) * depth,
            **asdict(config),
        )
    )


def load_vae(folder: Path, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """Read an `AutoencoderKL` folder. Raises CheckpointError if a tensor is missing or surplus."""
    vae: AutoencoderKL = _load(AutoencoderKL, folder, dtype)
    return vae


def load_temporal_vae(
    folder: Path, dtype: torch.dtype = torch.float32
) -> AutoencoderKLTemporalDecoder:
    """Read an `AutoencoderKLTemporalDecoder` folder, as in Latte-1's vae_temporal_decoder."""
    import diffusers

    return _load(diffusers.AutoencoderKLTemporalDecoder, folder, dtype)


def save_vae(vae: AutoencoderKL, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write config and weights so that stock diffusers reads them; `vae` itself stays as it is."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().to("cpu", dtype).contiguous()
        for name, value in vae.state_dict().items()
    }
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise CheckpointError(
            f"The autoencoder holds NaN or infinity in {dtype}: nothing was written to {folder}."
        )
    vae.save_config(folder)
    target = folder / WEIGHTS_NAME
    partial = folder / f".{WEIGHTS_NAME}.partial"
    try:
        save_file(state, partial, metadata={"format": "pt"})
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@torch.no_grad()
def encode_frames(
    vae: AutoencoderKL, pixels: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Encode frames to scaled latents.

    pixels (N, 3, H, W) in -1..1 -> (N, 4, h, w). Without a generator the posterior's mean is
    taken, with one a sample of the posterior.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ShapeError(f"pixels must be (N, 3, H, W), not {tuple(pixels.shape)}.")
    posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
    latents = posterior.mode() if generator is None else posterior.sample(generator=generator)
    return latents * vae.config.scaling_factor


def for_decoding(vae: AutoencoderKL, device: str) -> AutoencoderKL:
    """Lay the weights out as convolutions are fastest: channels last, but for Apple's GPUs.

    On the CPU that and a few frames at once take 0.56 of the time (64 px, fp32, measured), and
    doubling sides in one go with the convolution behind it, in fp32, 0.85 of what is left.
    """
    if device != "mps":
        untyped: Any = vae  # the checker's `to` does not know the argument
        untyped.to(memory_format=torch.channels_last)
    if device == "cpu" and vae.dtype == torch.float32:
        for module in vae.decoder.modules():
            if isinstance(module, Upsample):
                module.join()
    return vae


def frames_at_once(vae: AutoencoderKL, latents: Tensor, free_bytes: int) -> int:
    """How many of the frames (N, 4, h, w) to decode in one go on the autoencoder's device.

    On the CPU so many that the widest map stays in its cache, or is small beside the weights that
    every pass has to read; on a GPU as many as a quarter of the free memory holds.
    """
    widths = vae.config.block_out_channels
    pixels = latents.shape[2] * latents.shape[3] * 4 ** (len(widths) - 1)
    frame = widths[min(1, len(widths) - 1)] * pixels * vae.dtype.itemsize
    if vae.device.type == "cpu":
        weights = sum(weight.numel() * weight.itemsize for weight in vae.decoder.parameters())
        return max(1, min(MAX_AT_ONCE, max(CACHED_BYTES, weights // WEIGHTS_SHARE) // frame))
    return max(1, min(MAX_AT_ONCE, free_bytes // (4 * LIVE_MAPS * frame)))


@torch.no_grad()
def iter_frames(
    vae: AutoencoderKL, latents: Tensor, at_once: int = 1
) -> Iterator[NDArray[np.uint8]]:
    """Decode scaled latents (N, 4, h, w), `at_once` together, yielding uint8 frames (H, W, 3)."""
    for chunk in latents.split(at_once):
        with torch.no_grad():  # a generator's own decorator does not reach across its yields
            frames = _decode(vae, chunk)
        yield from _to_uint8(frames)


def decode_frames(vae: AutoencoderKL, latents: Tensor) -> NDArray[np.uint8]:
    """Decode scaled latents (N, 4, h, w) -> uint8 (N, H, W, 3), one frame at a time."""
    return np.stack(list(iter_frames(vae, latents)))


@torch.no_grad()
def decode_temporal(
    vae: AutoencoderKLTemporalDecoder, latents: Tensor, chunk: int = 16, overlap: int = 8
) -> NDArray[np.uint8]:
    """Decode the frames of one clip with the temporal decoder, in overlapping chunks.

    latents (F, 4, h, w) -> uint8 (F, H, W, 3). Where two chunks overlap, they are cross-faded
    linearly, so that no seam shows. A clip of at most `chunk` frames is decoded in one piece.
    """
    if not 0 <= overlap < chunk:
        raise ConfigError(f"overlap must be in 0..{chunk - 1} for chunks of {chunk}: {overlap}.")
    total = latents.shape[0]
    blended: Tensor | None = None
    for start, stop in _chunks(total, chunk, overlap):
        part = _decode(vae, latents[start:stop], num_frames=stop - start).float().cpu()
        if blended is None:
            blended = torch.zeros(total, *part.shape[1:])
            blended[start:stop] = part
            end = stop
            continue
        shared = end - start
        weight = torch.linspace(0, 1, shared + 2)[1:-1].view(-1, 1, 1, 1)
        blended[start:end] = blended[start:end] * (1 - weight) + part[:shared] * weight
        blended[end:stop] = part[shared:]
        end = stop
    if blended is None:
        raise ShapeError("A clip without frames cannot be decoded.")
    return _to_uint8(blended)


def _chunks(total: int, chunk: int, overlap: int) -> list[tuple[int, int]]:
    """Ranges of at most `chunk` frames that cover 0..total, neighbours sharing >= `overlap`."""
    if total <= chunk:
        return [(0, total)] if total else []
    starts = [*range(0, total - chunk, chunk - overlap), total - chunk]
    return [(start, start + chunk) for start in starts]


def _decode(vae: Any, latents: Tensor, **options: int) -> Tensor:
    """Decode latents, brought to the autoencoder's own scale, device and dtype."""
    weight = next(vae.parameters())  # diffusers' own `device` and `dtype` walk all modules
    unscaled = latents.to(weight.device, weight.dtype) / vae.config.scaling_factor
    return vae.decode(unscaled, **options).sample


def _to_uint8(frames: Tensor) -> NDArray[np.uint8]:
    """Frames (N, 3, H, W) in -1..1 -> uint8 (N, H, W, 3). Raises NonFiniteError on NaN."""
    frames = frames.float()
    if not bool(torch.isfinite(frames).all()):
        raise NonFiniteError(
            "The image decoder gave NaN or infinity instead of pixels, so no file was made. "
            "Try another seed or lower guidance; if it stays, the model folder is damaged."
        )
    scaled = ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


def _load(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Build `kind` from folder/config.json and fill every one of its tensors, or refuse."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config_path, weights_path = folder / "config.json", folder / WEIGHTS_NAME
    for path in (config_path, weights_path):
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: download or copy the model folder again.")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        vae = kind.from_config(config)
        state = load_file(weights_path)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"The autoencoder in {folder} cannot be read ({error}): copy the folder again."
        ) from error
    state = {_modern_name(name): value.to(dtype) for name, value in state.items()}
    _fill(vae, state, weights_path)
    return vae.eval().requires_grad_(False)


def _modern_name(name: str) -> str:
    if ".attentions." in name:
        for old, new in OLD_ATTENTION_NAMES.items():
            name = name.replace(old, new)
    return name


def _fill(vae: Any, state: dict[str, Tensor], source: Path) -> None:
    expected = vae.state_dict()
    for label, names in (
        ("lacks", expected.keys() - state.keys()),
        ("has the unknown tensor", state.keys() - expected.keys()),
    ):
        if names:
            raise CheckpointError(f"{source} {label} {min(names)}: copy the model folder again.")
    for name, value in state.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{source}: {name} is {tuple(value.shape)}, config.json wants "
                f"{tuple(expected[name].shape)}."
            )
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{source}: {name} holds NaN or infinity: the file is damaged.")
    vae.load_state_dict(state, assign=True)  # takes their dtype over, too
