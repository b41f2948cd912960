"""The models that are measured: the bundled one, and random weights of Latte-1's true shape."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latte_core.benchmark.stock import StockPipeline, stock_on
from latte_core.benchmark.subjects import Embeds
from latte_core.checkpoints import LATTE_1_DEFAULTS, plain_preview
from latte_core.components.text_encoder import MAX_TOKENS, TextEncoder, new_text_encoder
from latte_core.components.vae import VaeConfig, for_decoding, load_vae, new_vae
from latte_core.diffusion.guidance import pair_prompts
from latte_core.engine.labels import make_conditioner
from latte_core.engine.memory import MemoryPolicy, free_memory, make_policy
from latte_core.engine.parts import Parts
from latte_core.engine.pipeline import Pipeline, open_pipeline
from latte_core.engine.plans import GIB, Plan
from latte_core.engine.precision import REFERENCE, Device
from latte_core.engine.prompts import EncodedPrompt
from latte_core.engine.request import GenerationRequest
from latte_core.errors import ConfigError
from latte_core.model import Latte, ModelConfig
from latte_core.model.config import LATTE_1

# Sizes of T5-v1.1-XXL's encoder. Source: text_encoder/config.json of Latte-1.
T5_XXL = {"d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_layers": 24, "num_heads": 64}
T5_XXL_PARAMETERS = 4_762_310_656
# Source: vae/config.json of Latte-1, which is Stable Diffusion's.
SD_VAE = VaeConfig((128, 256, 512, 512), 2, 4, 0.18215, 512, 32)
# Source: scheduler/scheduler_config.json of Latte-1.
LATTE_1_SCHEDULER = {
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "clip_sample": False,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
# Prompts of several lengths, for weights that understand none.
SENTENCES = (
    "a dog in astronaut suit and sunglasses floating in space",
    "yellow and black tropical fish dart through the sea",
    "a cat eating food out of a bowl in the style of van gogh",
    "slow pan upward of blazing oak fire in an indoor fireplace",
    "an epic tornado attacking above a glowing city at night",
    "sunset over the sea",
    "a small cactus with a happy face in the sahara desert",
)


@dataclass(frozen=True, eq=False)
class Bench:
    """Two pipelines on the same weights, and what the reader of the figures has to know.

    `embeds` stand in for a text encoder that does not fit. `trained` says whether pictures mean
    anything. `folder` is where the model was read.
    """

    pipeline: Pipeline
    stock: StockPipeline
    embeds: Embeds | None
    trained: bool
    notes: tuple[str, ...]
    folder: Path | None = None

    def forgetful(self, precision: str | None = None) -> Pipeline:
        """Our pipeline with a memory of prompts of its own, so that no row profits of another's.

        In another `precision` it has networks of its own too. Raises ConfigError if the device
        does not compute so, or if there is no folder to read them from.
        """
        if precision is not None:
            if self.folder is None:
                raise ConfigError(
                    f"The row {precision} needs a model folder: leave --shape latte-1 out."
                )
            return open_pipeline(self.folder, self.device, precision, "resident")
        if self.embeds is not None:
            return self.pipeline
        return replace(self.pipeline, conditioner=make_conditioner(self.pipeline.parts))

    @property
    def device(self) -> Device:
        """Where both run."""
        return self.pipeline.parts.plan.device


def open_folder(folder: Path, device: str = "auto") -> Bench:
    """Our pipeline and the stock one on the weights of a model folder, exact as the device can."""
    pipeline = open_pipeline(folder, device, REFERENCE, "resident")
    parts = pipeline.parts
    dtype = getattr(torch, parts.plan.vae_dtype)
    vae = load_vae(folder / "vae", dtype).to(parts.plan.device)
    stock = stock_on(parts.transformer, vae, parts.text, parts.scheduler_config)
    return Bench(pipeline, stock, None, True, (), folder)


def latte_1(device: str = "auto") -> Bench:
    """Random weights of Latte-1's shape; its text encoder only where memory holds it."""
    place: Device = "cuda" if device in ("auto", "cuda") and torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if place == "cpu" else torch.float16
    free, needed = free_memory()[place], T5_XXL_PARAMETERS * dtype.itemsize
    # Beside it: the transformer, the autoencoder and the work of both.
    fits = needed + 6 * GIB * dtype.itemsize / 2 < free
    sizes = T5_XXL if fits else None
    bench = random_bench(LATTE_1, SD_VAE, sizes, place, dtype)
    if fits:
        return bench
    note = (
        f"T5-XXL needs {needed / GIB:.1f} GiB in {_name(dtype)} and {free / GIB:.1f} GiB are free "
        f"on {place}: random prompt embeddings stand in for it, so text took no time on either side"
    )
    return replace(bench, notes=(*bench.notes, note))


def random_bench(
    config: ModelConfig,
    vae_config: VaeConfig,
    t5_sizes: dict[str, int] | None,
    device: Device,
    dtype: torch.dtype,
) -> Bench:
    """Both pipelines on the same random weights; without `t5_sizes` on random embeddings."""
    with torch.random.fork_rng(), torch.device(device), _making(dtype):
        torch.manual_seed(0)
        transformer = _randomised(Latte(config))
        vae = new_vae(vae_config).eval().requires_grad_(False)
        text = None if t5_sizes is None else _text_encoder(t5_sizes)
        embeds = None if text is not None else _embeds(config.caption_channels)
    parts = _parts(transformer, vae, text, device, dtype)
    policy = make_policy(parts.plan, parts.modules())
    conditioner = make_conditioner(parts) if embeds is None else Prepared(embeds)
    stock = stock_on(transformer, copy.deepcopy(vae), text, parts.scheduler_config)
    for_decoding(vae, device)
    note = "weights are random: what the pictures show means nothing and is not judged"
    return Bench(Pipeline(parts, policy, conditioner), stock, embeds, False, (note,))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A `Conditioner` that has its embeddings already."""

    embeds: Embeds

    def encode(self, request: GenerationRequest, policy: MemoryPolicy) -> EncodedPrompt:
        """Look the prompt up."""
        own, scale = self.embeds.of[request.prompt], request.guidance_scale or 1.0
        null = self.embeds.of[""][:, : own.shape[1]] if scale > 1 else None
        return EncodedPrompt(pair_prompts(own, null, scale), own.shape[1], ())


def _parts(
    transformer: Latte, vae: Any, text: TextEncoder | None, device: Device, dtype: torch.dtype
) -> Parts:
    """Parts of networks in memory, at the size that they were made for."""
    config, name = transformer.config, _name(dtype)
    side = config.sample_size * vae.config.factor
    return Parts(
        name="random weights",
        hash="",
        text=text,
        transformer=transformer,
        vae=vae,
        temporal_vae=None,
        scheduler_config=dict(LATTE_1_SCHEDULER),
        preview=plain_preview(config.in_channels),
        defaults=replace(LATTE_1_DEFAULTS, num_frames=config.num_frames, height=side, width=side),
        plan=Plan("resident", device, False, device, None, name, name, name, 0, "all in memory"),
    )


@torch.no_grad()
def _randomised(model: Latte) -> Latte:
    """Fill what starts at zero, so that every layer takes part."""
    for parameter in model.parameters():
        if not bool(parameter.any()):
            parameter.normal_(std=0.02)
    return model.eval().requires_grad_(False)


def _text_encoder(sizes: dict[str, int]) -> TextEncoder:
    """A random T5 that knows the words of `SENTENCES`."""
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    text = new_text_encoder([(f"▁{word}", -4.0) for word in words], **sizes)
    module: nn.Module = text.model
    module.eval().requires_grad_(False)
    return text


@contextmanager
def _making(dtype: torch.dtype) -> Iterator[None]:
    """New weights are of `dtype` from the start: in fp32, T5-XXL may not fit."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


def _embeds(width: int) -> Embeds:
    """One token a word and an end token; the empty prompt at every length."""
    lengths = {sentence: len(sentence.split()) + 1 for sentence in SENTENCES} | {"": MAX_TOKENS}
    made: dict[str, Tensor] = {
        sentence: 0.1 * torch.randn(1, length, width) for sentence, length in lengths.items()
    }
    return Embeds(made)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
