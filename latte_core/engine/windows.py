"""Clips longer than the model was trained on: windows over time that agree where they overlap.

At every step the network sees one window of the trained length after the other, each sharing half
of its frames with the next, and the outputs are blended with weights that fade towards a window's
ends. All windows read the same noisy frames, so what they share converges to one clip, and no
border is left to see. Memory is that of one window.

How time goes on in a longer clip is its tempo:

    stretch   one motion fills the clip: positions in time are spread from first to last frame
    steady    the trained speed: every window has the positions of a clip of its own

Sources: MultiDiffusion (arXiv 2302.08113) for the blending, FreeNoise (arXiv 2310.15169) for
windows over time, position interpolation (arXiv 2306.15595) for the spread positions. Tried on
the bundled model with 32 frames and 12 held-out prompts: FreeNoise's repeated noise and borders
that move from step to step gain nothing over fresh noise and fixed borders; every second frame in
a window flickers (three times the frame difference).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from latte_core.engine.values import WHOLE_LIMITS
from latte_core.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from latte_core.diffusion.guidance import Conditions
    from latte_core.engine.request import GenerationRequest
    from latte_core.model.config import ModelConfig

MAX_FRAMES = WHOLE_LIMITS["num_frames"][1]

# network(latents, conditions, num_images, frame_positions) -> outputs, the latents' frames
Network = Callable[["Tensor", "Conditions", int, "Tensor | None"], "Tensor"]


@dataclass(frozen=True)
class Window:
    """Frames start..stop of a clip, and where their tokens are in time.

    `positions` has one value per token frame; None stands for the trained ones.
    """

    start: int
    stop: int
    positions: tuple[float, ...] | None = None


def possible_lengths(config: ModelConfig) -> tuple[int, ...]:
    """Numbers of frames that a model can make, in windows where they are too many for one pass."""
    tube, trained = config.patch_frames, config.num_frames
    shortest = tube if config.temporal_positions == "rope" else trained
    lengths = set(range(shortest, max(trained, MAX_FRAMES) + 1, tube))
    # Tubes of frames hold no single picture.
    return tuple(sorted(lengths | ({1} if tube == 1 else set())))


def possible_tempos(config: ModelConfig, card: Mapping[str, Any]) -> tuple[str, ...]:
    """The tempos that a model has for longer clips, its default first; () if there are none.

    A model of the procedural world was trained on whole motions, which have to end where they end,
    so it stretches; one of cuts from videos goes on at their speed. Rotations know distances only.
    """
    if len(possible_lengths(config)) < 2 or max(possible_lengths(config)) <= config.num_frames:
        return ()
    if config.temporal_positions == "rope":
        return ("steady",)
    return ("stretch", "steady") if "world" in card else ("steady", "stretch")


def with_tempo(
    request: GenerationRequest, config: ModelConfig, card: Mapping[str, Any]
) -> GenerationRequest:
    """A resolved request with the model's tempo if its clip is longer than trained, else none.

    Raises RequestError for a tempo that the model does not have.
    """
    if request.mode == "image" or (request.num_frames or 1) <= config.num_frames:
        return replace(request, tempo=None)
    tempos = possible_tempos(config, card)
    tempo = request.tempo or tempos[0]
    if tempo not in tempos:
        raise RequestError(
            "tempo",
            f"tempo is {tempo}, but this model, whose positions in time are relative, has: "
            f"{', '.join(tempos)}.",
        )
    return replace(request, tempo=tempo)


def window_starts(frames: int, length: int, tube: int = 1) -> tuple[int, ...]:
    """First frames of windows of `length` frames over a longer clip, each half over the next.

    `tube` frames are never cut apart.
    """
    stride = max(tube, length // 2 // tube * tube)
    return (*range(0, frames - length, stride), frames - length)


def plan_windows(frames: int, config: ModelConfig, tempo: str | None) -> tuple[Window, ...]:
    """The windows of a clip; a single one for what the model makes in one pass."""
    length, tube = config.num_frames, config.patch_frames
    if frames <= length:
        return (Window(0, frames),)
    spread = tempo == "stretch" and config.temporal_positions == "absolute"
    step = (length // tube - 1) / (frames // tube - 1)
    return tuple(
        Window(
            start,
            start + length,
            tuple(step * k for k in range(start // tube, (start + length) // tube))
            if spread
            else None,
        )
        for start in window_starts(frames, length, tube)
    )


def in_windows(
    windows: Sequence[Window],
    latents: Tensor,
    conditions: Conditions,
    network: Network,
) -> Tensor:
    """Run the network over the windows of a clip and blend what it gives.

    latents (1, C, F+I, h, w): the clip, whose frames the windows cover, then stills, which come
    along with the first window. Returns (rows, C_out, F+I, h, w), float32 where it was blended.
    """
    import torch

    frames = max(window.stop for window in windows)
    stills = latents.shape[2] - frames
    if len(windows) == 1:
        return network(latents, conditions, stills, _positions(windows[0], latents))
    blended: Tensor | None = None
    images: list[Tensor] = []
    weights = torch.zeros(frames, device=latents.device)
    for window in windows:
        part, told, count = slice(window.start, window.stop), conditions.of_clip(), 0
        seen = latents[:, :, part]
        if stills and not images:
            told, count = conditions, stills
            seen = torch.cat([seen, latents[:, :, frames:]], dim=2)
        output = network(seen, told, count, _positions(window, latents)).float()
        if count:
            images.append(output[:, :, -count:])
            output = output[:, :, :-count]
        if blended is None:
            blended = output.new_zeros(*output.shape[:2], frames, *output.shape[3:])
        weight = _fading(window.stop - window.start, latents.device)
        blended[:, :, part] += output * weight.view(-1, 1, 1)
        weights[part] += weight
    assert blended is not None
    return torch.cat([blended / weights.view(-1, 1, 1), *images], dim=2)


def _positions(window: Window, latents: Tensor) -> Tensor | None:
    if window.positions is None:
        return None
    import torch

    return torch.tensor(window.positions, device=latents.device)


def _fading(length: int, device: torch.device) -> Tensor:
    """Weights of a window's frames: highest in its middle, lowest, but above 0, at its ends."""
    import torch

    place = torch.arange(length, device=device)
    return torch.minimum(place + 1, length - place).float()
