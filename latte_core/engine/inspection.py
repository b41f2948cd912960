"""Look inside a run: what every block attends to at one step of it.

The run is made again up to that step, which gives the same latents to the bit, and in that step's
forward pass the attention layers tell their weights. What the layers compute is not changed: the
weights come from the same inputs and the same queries and keys, by a softmax of our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from latte_core.engine.events import Event, Step
from latte_core.engine.request import GenerationRequest
from latte_core.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from latte_core.engine.pipeline import Pipeline

MAX_PLACES = 64  # of which maps are kept at once: all of a frame of 8 x 8 tokens


@dataclass(frozen=True)
class Inspection:
    """A run to look into, and where: `step` counts from 1.

    `places` are numbers of tokens in a frame, row by row; none stands for all of them, if a frame
    has no more than 64. A clip is looked into even if stills are made beside it; stills are not.
    """

    request: GenerationRequest
    step: int
    places: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class BlockAttention:
    """The attention weights of one block, averaged over its heads, for P places.

    space (P, F, N): in every frame, how much the place's token takes from each of the N tokens of
    its frame. time (P, F, F): for the place, how much its token of each frame (rows) takes from
    its token of each frame (columns). None for an axis that the block does not attend. Rows sum
    to 1; what is missing to 1 went to condition tokens, where the model has such.
    """

    index: int
    axes: tuple[str, ...]
    space: NDArray[np.float32] | None
    time: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Inspected:
    """The last event of an inspection.

    `grid` is a frame's (rows, columns) of tokens; `preview` uint8 (F, h, w, 3) what the clip looks
    like after the step; `variant` and `blocks` describe the network.
    """

    step: int
    total: int
    variant: int
    grid: tuple[int, int]
    places: tuple[int, ...]
    blocks: tuple[BlockAttention, ...]
    preview: NDArray[np.uint8]


@dataclass
class Capture:
    """What the attention layers of a model told while `armed`."""

    rows: int  # of the model's batch; the last is the prompt's own
    frames: int
    tokens: int
    places: tuple[int, ...]
    armed: bool = False
    maps: dict[tuple[int, str], Tensor] = field(default_factory=dict)

    def record(self, index: int, axis: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A forward pre-hook of a `SelfAttention`."""
        if not self.armed:
            return
        x, rope = inputs[0], inputs[1] if len(inputs) > 1 else None
        own = x.unflatten(0, (self.rows, -1))[-1]  # (F, N, D) for space, (N, F, D) for time
        places = list(self.places)
        if axis == "space":
            weights = attention_weights(layer, own, rope, places)[: self.frames, :, : self.tokens]
            self.maps[index, axis] = weights.transpose(0, 1)  # (P, F, N)
        else:
            weights = attention_weights(layer, own[places], rope)
            self.maps[index, axis] = weights[:, : self.frames, : self.frames]  # (P, F, F)


def attention_weights(
    layer: Any, x: Tensor, rope: Tensor | None = None, rows: list[int] | None = None
) -> Tensor:
    """The weights of a `SelfAttention` layer for sequences x (B, S, D), as float32 (B, R, S).

    Averaged over heads; R are the queries `rows`, all S of them if not given.
    """
    from latte_core.model.positions import rotate

    q, k, _ = layer.qkv(x).chunk(3, dim=-1)
    q, k = (part.unflatten(2, (layer.num_heads, -1)).transpose(1, 2) for part in (q, k))
    if rope is not None:
        q, k = rotate(q, rope), rotate(k, rope)
    if rows is not None:
        q = q[:, :, rows]
    scores = q.float() @ k.float().mT / math.sqrt(q.shape[-1])
    weights: Tensor = scores.softmax(dim=-1).mean(dim=1)
    return weights


@contextmanager
def capturing(model: Any, capture: Capture) -> Iterator[Capture]:
    """Let every attention layer of a `Latte` report to `capture` inside the block."""
    handles = [
        layer.register_forward_pre_hook(partial(capture.record, index, axis))
        for index, block in enumerate(model.blocks)
        for axis, layer in block.attn.items()
    ]
    try:
        yield capture
    finally:
        for handle in handles:
            handle.remove()


class _Reached(Exception):  # noqa: N818 - the step that was asked for, no fault
    """The step is done; the rest of the run is not needed."""


def look(
    pipeline: Pipeline,
    inspection: Inspection,
    emit: Callable[[Event], None],
    check: Callable[[int, int], None],
) -> Inspected:
    """Run a resolved request up to the step and tell what its blocks attend to.

    Raises RequestError for a step or a place that there is not.
    """
    import torch

    from latte_core.engine.denoise import Denoiser

    if inspection.request.mode == "image":
        raise RequestError("mode", "mode is image, so there is no clip to look into: take a film.")
    request = replace(
        inspection.request, mode="video", num_images=0, image_class_labels=(), image_prompts=()
    )
    check(0, 0)
    with torch.no_grad():
        prompt = pipeline.conditioner.encode(request, pipeline.policy)
    sampling = pipeline.start(request)
    total = len(sampling.timesteps)
    _check_step(inspection.step, total)
    # A step plan may leave this step out; the run ends here, so nothing else changes.
    sampling = replace(sampling, step_plan=sampling.step_plan.evaluating(inspection.step - 1))
    config = pipeline.parts.transformer.config
    assert sampling.clip is not None
    _, _, frames, height, width = sampling.clip.latents.shape
    grid = (height // config.patch_size, width // config.patch_size)
    if len(sampling.windows) > 1:
        raise RequestError(
            "num_frames",
            f"num_frames is {frames}, but looking inside takes what the model sees at once: "
            f"{config.num_frames} frames or fewer.",
        )
    places = _check_places(inspection.places, grid[0] * grid[1])
    capture = Capture(
        prompt.conditions.halves, frames // config.patch_frames, grid[0] * grid[1], places
    )
    last: list[Step] = []

    def arm(done: int, steps: int) -> None:
        check(done, steps)
        capture.armed = done == inspection.step - 1

    def follow(step: Step) -> None:
        emit(step)
        last[:] = [step]
        if step.index == inspection.step:
            raise _Reached

    model = pipeline.parts.transformer
    with pipeline.policy.using("transformer"), capturing(model, capture), suppress(_Reached):
        Denoiser(pipeline.parts, prompt.conditions, sampling).run(follow, arm)
    blocks = _blocks(model, capture)
    preview = last[0].preview
    return Inspected(inspection.step, total, config.variant, grid, places, blocks, preview)


def _blocks(model: Any, capture: Capture) -> tuple[BlockAttention, ...]:
    maps = {key: value.cpu().numpy() for key, value in capture.maps.items()}
    return tuple(
        BlockAttention(
            index, block.spec.axes, maps.get((index, "space")), maps.get((index, "time"))
        )
        for index, block in enumerate(model.blocks)
    )


def _check_step(step: int, total: int) -> None:
    if isinstance(step, bool) or not isinstance(step, int) or not 1 <= step <= total:
        raise RequestError(
            "step", f"step is {step!r}, but this run has the steps 1 to {total}: choose one."
        )


def _check_places(places: tuple[int, ...], tokens: int) -> tuple[int, ...]:
    wanted = tuple(places) or tuple(range(tokens))
    if len(wanted) > MAX_PLACES:
        raise RequestError(
            "places",
            f"A frame has {tokens} tokens here, and maps of {MAX_PLACES} can be kept at once: "
            "name the places to look at.",
        )
    for place in wanted:
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < tokens:
            raise RequestError(
                "places",
                f"Place {place!r} is not in a frame of {tokens} tokens (0 to {tokens - 1}).",
            )
    return wanted
