"""Regional compilation: the blocks alone, a space block and a time block once for all of them.

Everything is compiled when the model is loaded, at its default size and for prompts of any length.
Later nothing is compiled any more: what has another shape runs as it did before, so that no request
ever waits for a compiler.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from latte_core.checkpoints import TURBO_FOLDER
from latte_core.engine.events import Loading
from latte_core.engine.memory import recover
from latte_core.model.attention import longest_absorbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from latte_core.engine.parts import Parts
    from latte_core.engine.pipeline import Pipeline
    from latte_core.model import Latte

logger = logging.getLogger(__name__)

# Prompt tokens of the pass that is compiled; any but 0 and 1, which torch takes for constants.
TOKENS = 6
# Ways that a block is met: space or time, first or later in line, one or two rows, the prompt read
# absorbed or not, with room.
VARIANTS = 32


def compile_blocks(pipeline: Pipeline, report: Callable[[Loading], None]) -> Pipeline:
    """Compile the blocks of the transformers in place; returns the pipeline with what came of it.

    Without a compiler, or where it fails, the model stays as it was and the plan's sentence says
    so. Call it in the thread that runs the model, with the parts in their places.
    """
    parts = pipeline.parts
    if parts.plan.streamed:
        why = "blocks that come in by turns are not compiled"
        return _told(pipeline, f"Not compiled: {why}.", False, report)
    report(Loading("compile", "Compiling once, which takes a minute or so", 0.95))
    began = time.perf_counter()
    try:
        for name, network in _networks(parts):
            with pipeline.policy.using(name) as module:
                _warm(module, parts)
            _settle(network)
    except (RuntimeError, OSError, ImportError, MemoryError) as error:
        logger.warning("The model runs uncompiled: %s", str(error))
        release_blocks(parts)
        recover()
        return _told(pipeline, f"Not compiled: {_reason(error)}", False, report)
    seconds = time.perf_counter() - began
    return _told(pipeline, f"Compiled once in {seconds:.0f} s.", True, report)


def release_blocks(parts: Parts) -> None:
    """Let every block run uncompiled again."""
    for _, network in _networks(parts):
        for block in network.blocks:
            block._compiled_call_impl = None


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Inside, the blocks run uncompiled, so that counters see every operation."""
    blocks = [part for part in network.modules() if part._compiled_call_impl is not None]
    kept = [block._compiled_call_impl for block in blocks]
    try:
        for block in blocks:
            block._compiled_call_impl = None
        yield
    finally:
        for block, call in zip(blocks, kept, strict=True):
            block._compiled_call_impl = call


def _networks(parts: Parts) -> Iterator[tuple[str, Latte]]:
    yield "transformer", parts.transformer
    if parts.turbo is not None:
        yield TURBO_FOLDER, parts.turbo


@torch.no_grad()
def _warm(network: Latte, parts: Parts) -> None:
    """Run the network for each number of rows that a step can have, compiling the blocks.

    Where short prompts are read absorbed and long ones are not, both are compiled for.
    """
    for block in network.blocks:
        block.compile()
    config, lengths = network.config, {False: TOKENS}
    if config.caption_channels and parts.plan.absorbs:
        lengths[True] = min(TOKENS, longest_absorbed(config.hidden_size, config.num_heads))
    guided = parts.conditioning != "none" and not parts.plan.split
    with torch._dynamo.config.patch(recompile_limit=VARIANTS):
        for rows, absorb in product((2, 1) if guided else (1,), lengths):
            network(**_inputs(network, parts, rows, lengths[absorb], absorb))


def _inputs(network: Latte, parts: Parts, rows: int, tokens: int, absorb: bool) -> dict[str, Any]:
    """What a step gives to the network, at the model's default size, for prompts of some tokens."""
    config, shape = network.config, parts.defaults
    weight = next(network.parameters())
    sides = (shape.height // parts.vae_factor, shape.width // parts.vae_factor)
    latents = torch.zeros(1, config.in_channels, shape.num_frames, *sides, device=weight.device)
    told: dict[str, Any] = {
        "latents": latents.expand(rows, -1, -1, -1, -1),
        "timesteps": torch.full((rows,), 500, device=weight.device),
    }
    if config.num_classes:
        told["class_labels"] = torch.zeros(rows, dtype=torch.int64, device=weight.device)
    if config.caption_channels:
        embeds = weight.new_zeros(rows, tokens, config.caption_channels)
        told["prompt_embeds"] = network.read(embeds, absorb=absorb)
        for prompt in filter(None, told["prompt_embeds"].video):
            for part in (prompt.tokens, *(prompt.kv or ())):
                torch._dynamo.maybe_mark_dynamic(part, part.ndim - 2)
            if prompt.absorbed is not None:
                for part, axis in zip(prompt.absorbed, (1, 2, 1), strict=True):
                    torch._dynamo.maybe_mark_dynamic(part, axis)
    return told


def _settle(network: Latte) -> None:
    """From now on, blocks take what was compiled for their inputs, and compile nothing."""
    for block in network.blocks:
        block._compiled_call_impl = torch._dynamo.run(block._call_impl)


def _told(
    pipeline: Pipeline, sentence: str, compiled: bool, report: Callable[[Loading], None]
) -> Pipeline:
    plan = pipeline.parts.plan
    report(Loading("compiled", sentence, 0.98))
    plan = replace(plan, sentence=f"{plan.sentence} {sentence}", compiled=compiled)
    return replace(pipeline, parts=replace(pipeline.parts, plan=plan))


def _reason(error: Exception) -> str:
    """Why it failed, and what can be done."""
    text = str(error)
    if "C++ compiler" in text or "C compiler" in text or "InvalidCxxCompiler" in text:
        return "there is no working C++ compiler; install g++ or clang and start again."
    first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return f"torch's compiler failed ({first[:120]}); the model runs as without it."
