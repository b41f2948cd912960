"""What a request will take of memory before it is run, and the model placed by another plan.

The figures are those by which the memory plan was chosen (plans.py), for the request's own size
instead of the model's. They are a forecast: a run that is short all the same steps down by itself
(ladder.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from latte_core.engine.ladder import Ladder
from latte_core.engine.memory import cpu_bf16_pays, free_memory
from latte_core.engine.plans import GIB, ModelSizes, Plan, needed_bytes, rungs
from latte_core.errors import MemoryPlanError

if TYPE_CHECKING:
    from latte_core.engine.parts import Parts
    from latte_core.engine.request import GenerationRequest
    from latte_core.engine.worker import Job, Worker


@dataclass(frozen=True)
class MemoryNeed:
    """What a request needs with one memory plan, and what there is for it, on the plan's device."""

    plan: str
    device: str
    needed_gib: float
    free_gib: float

    @property
    def fits(self) -> bool:
        """Whether it should go."""
        return self.needed_gib <= self.free_gib


class MemoryOutlook:
    """The memory of one engine, asked and changed while it works."""

    def __init__(self, ladder: Ladder, worker: Worker) -> None:
        self._ladder = ladder
        self._worker = worker

    @property
    def sentence(self) -> str:
        """The memory plan of now, in GiB."""
        return self._ladder.pipeline.parts.plan.sentence

    def needs(self, request: GenerationRequest) -> tuple[MemoryNeed, ...]:
        """The need with the plan of now, then with every smaller one, largest first.

        What the model itself holds counts as free: the forecast is of the whole.
        """
        parts = self._ladder.pipeline.parts
        if parts.sizes is None:
            return ()
        device = parts.plan.device
        free = (free_memory()[device] + _held_bytes(parts)) / GIB
        return tuple(
            MemoryNeed(plan.name, device, needed_bytes(plan) / GIB, free)
            for plan in self._rungs(parts, sizes_of(parts, request))
        )

    def place(self, name: str) -> Job[None]:
        """Put the model where a smaller plan wants it, as a job without events behind the others.

        The job fails with MemoryPlanError, and nothing changes, for a plan that is not smaller
        than that of now or that this machine cannot carry out.
        """

        def work(job: Job[None]) -> None:
            parts = self._ladder.pipeline.parts
            smaller = () if parts.sizes is None else self._rungs(parts, parts.sizes)[1:]
            chosen = next((plan for plan in smaller if plan.name == name), None)
            if name == parts.plan.name:
                return
            if chosen is None:
                names = ", ".join(plan.name for plan in smaller) or "none"
                raise MemoryPlanError(
                    f"{name} is no smaller memory plan than {parts.plan.name}: there is {names}."
                )
            try:
                self._ladder.place(chosen)
            except Exception:  # no bitsandbytes for packed weights, or no room
                self._ladder.place(parts.plan)
                raise

        return self._worker.submit(work)

    def _rungs(self, parts: Parts, sizes: ModelSizes) -> tuple[Plan, ...]:
        return rungs(parts.plan, sizes, free_memory(), cpu_bf16_pays())


def sizes_of(parts: Parts, request: GenerationRequest) -> ModelSizes:
    """The model's sizes with the activations of a request, None there being the model's default.

    A longer clip goes through the network in windows of the trained length; stills come on top.
    """
    assert parts.sizes is not None
    asked = request.resolve(parts.defaults_for(request), parts.clip_lengths)
    own = parts.defaults
    assert asked.height and asked.width and asked.num_frames  # resolved
    area = asked.height * asked.width / (own.height * own.width)
    clip = (
        0 if asked.mode == "image" else min(asked.num_frames, parts.transformer.config.num_frames)
    )
    frames = (clip + asked.stills) / own.num_frames
    guided = parts.sizes.halves if (asked.guidance_scale or 1.0) > 1 else 1
    return replace(
        parts.sizes,
        tokens=round(parts.sizes.tokens * area * frames),
        decoder_elements=round(parts.sizes.decoder_elements * area),
        halves=guided,
    )


def _held_bytes(parts: Parts) -> int:
    """Bytes of the plan's device that this model holds already."""
    if parts.plan.device == "cuda":
        return int(torch.cuda.memory_reserved())
    return sum(_bytes(module) for module in parts.modules().values())


def _bytes(module: torch.nn.Module) -> int:
    tensors: Iterable[torch.Tensor] = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
