"""diffusers' own LattePipeline on our weights, timed stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch

from latte_core.checkpoints.transformer import to_diffusers_state
from latte_core.components.autoencoder_kl import AutoencoderKL
from latte_core.components.text_encoder import TextEncoder
from latte_core.diffusion.schedulers import SCHEDULERS
from latte_core.model import Latte

# diffusers' LattePipeline; untyped to checkers.
StockPipeline = Any


def stock_on(
    model: Latte, vae: AutoencoderKL, text: TextEncoder | None, scheduler_config: Mapping[str, Any]
) -> StockPipeline:
    """A stock pipeline on the very tensors of `model`, `vae` and text encoder, none copied.

    Without a text encoder the pipeline wants prompt embeddings.
    """
    import diffusers

    network: Any = diffusers.LatteTransformer3DModel
    whole: Any = diffusers.LattePipeline
    options = {k: v for k, v in model.config.to_json().items() if not k.startswith("_")}
    with torch.device("meta"):
        transformer = network(**options)
        autoencoder = diffusers.AutoencoderKL.from_config(vae.config.to_json())
    transformer.load_state_dict(to_diffusers_state(model), assign=True)
    autoencoder.load_state_dict(vae.state_dict(), assign=True)
    # Tables, which are in no state: the same numbers as ours (tests/parity).
    transformer.pos_embed.pos_embed = model.positions.space[0]
    transformer.temp_pos_embed = model.positions.time[:, :, 0]
    pipeline = whole(
        tokenizer=None if text is None else text.tokenizer,
        text_encoder=None if text is None else text.model,
        vae=autoencoder.eval().requires_grad_(False),
        transformer=transformer.eval().requires_grad_(False),
        scheduler=diffusers.DDIMScheduler.from_config(dict(scheduler_config)),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def use_scheduler(pipeline: StockPipeline, name: str) -> None:
    """Give the pipeline diffusers' sampler of that name, made from its present one's config."""
    import diffusers

    kind = getattr(diffusers, SCHEDULERS[name].class_name)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **SCHEDULERS[name].options)


def timed_call(
    pipeline: StockPipeline, call: Callable[[], Any], wait: Callable[[], None]
) -> tuple[Any, dict[str, float]]:
    """Make one whole call of the pipeline; returns its result and its seconds by stage.

    Text and decoding are clocked where the pipeline calls them; `wait` lets the device finish.
    """
    seconds = {"text": 0.0, "decode": 0.0}
    for stage, name in (("text", "encode_prompt"), ("decode", "decode_latents")):
        setattr(pipeline, name, _clocked(getattr(pipeline, name), stage, seconds, wait))
    try:
        began = time.perf_counter()
        result = call()
        wait()
        seconds["all"] = time.perf_counter() - began
    finally:
        for name in ("encode_prompt", "decode_latents"):
            delattr(pipeline, name)  # the class's own shows again
    seconds["denoise"] = seconds["all"] - seconds["text"] - seconds["decode"]
    return result, seconds


def _clocked(
    method: Callable[..., Any], stage: str, seconds: dict[str, float], wait: Callable[[], None]
) -> Callable[..., Any]:
    """As `method`, adding its time to `seconds[stage]`."""

    @wraps(method)
    def clocked(*positional: Any, **named: Any) -> Any:
        wait()
        began = time.perf_counter()
        result = method(*positional, **named)
        wait()
        seconds[stage] += time.perf_counter() - began
        return result

    return clocked
