"""Carry out a step plan: run the rows that it asks for, extrapolate what it leaves out.

What is remembered is the guided noise that the model saw, because of noise, picture and velocity
it changes most evenly from step to step, and guidance differences in units of noise too. Nothing
is remembered that the plan does not read, so the full plan costs no memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from latte_core.diffusion.guidance import Conditions, guided
from latte_core.diffusion.schedulers import predict_noise, prediction_of_noise
from latte_core.diffusion.step_plan import StepPlan

# Runs the network for these conditions: (rows, Cout, F, h, w).
Evaluate = Callable[[Conditions], Tensor]


class PlannedOutputs:
    """The guided outputs of one run, step by step.

    `scheduler` gives the noise levels, `prediction_type` what the network predicts.
    """

    def __init__(
        self, plan: StepPlan, conditions: Conditions, scheduler: Any, prediction_type: str
    ) -> None:
        self.plan = plan
        self._conditions = conditions
        self._prompt = conditions.row(-1) if conditions.halves == 2 else conditions
        self._levels: Tensor = scheduler.alphas_cumprod
        self._type = prediction_type
        self._noises: deque[Tensor] = deque(maxlen=plan.remembered("reuse"))
        self._differences: deque[Tensor] = deque(maxlen=plan.remembered("prompt"))
        self._variance: Tensor | None = None
        # The last output before anything was mixed into it: what the network itself makes of the
        # step, or would make of it where it is not asked.
        self.own = torch.empty(0)

    @property
    def held_bytes(self) -> int:
        """Bytes that are remembered now."""
        variance = [] if self._variance is None else [self._variance]
        held = [*self._noises, *self._differences, *variance]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def at(self, index: int, seen: Tensor, timestep: Tensor, evaluate: Evaluate) -> Tensor:
        """The guided output (1, Cout, F, h, w) in float32 for call `index`, counted from 0.

        seen (1, C, F, h, w) are the latents as the network sees them.
        """
        step = self.plan.steps[index]
        if step.evaluation == "reuse":
            self.own = self._reused(step.weights, seen, timestep)
            return self.own
        if step.evaluation == "both" or self._conditions.halves == 1:
            halves = evaluate(self._conditions).float()
            self._note_difference(halves, seen, timestep)
            output = guided(halves, self._conditions, seen.shape[1])
        else:
            output = evaluate(self._prompt).float()
            if step.weights:
                output = self._lead(output, step.weights, seen, timestep)
        self.own = output
        if not step.mix and not self._noises.maxlen:
            return output
        own, variance = output.tensor_split([seen.shape[1]], dim=1)
        noise = self._noise(own, seen, timestep)
        if step.mix:
            mixed = _weighted(step.mix, [noise, *self._noises])
            output = self.standing_for(mixed, variance, seen, timestep)
        self._note_noise(noise, variance)
        return output

    def standing_for(
        self, noise: Tensor, variance: Tensor | None, seen: Tensor, timestep: Tensor
    ) -> Tensor:
        """The output of a network that sees this noise, with its variance channels, if any."""
        prediction = prediction_of_noise(noise, seen, timestep, self._levels, self._type)
        return prediction if variance is None else torch.cat([prediction, variance], dim=1)

    def _noise(self, prediction: Tensor, seen: Tensor, timestep: Tensor) -> Tensor:
        return predict_noise(prediction, seen, timestep, self._levels, self._type)

    def _note_difference(self, halves: Tensor, seen: Tensor, timestep: Tensor) -> None:
        if not self._differences.maxlen or self._conditions.halves == 1:
            return
        away, prompt = halves[:, : seen.shape[1]].chunk(2)
        difference = self._noise(prompt, seen, timestep) - self._noise(away, seen, timestep)
        self._differences.appendleft(difference)

    def _note_noise(self, noise: Tensor, variance: Tensor) -> None:
        if not self._noises.maxlen:
            return
        # A copy: a view would keep the variance of every remembered step.
        self._noises.appendleft(noise.clone())
        if variance.shape[1]:
            self._variance = variance.clone()

    def _lead(
        self, output: Tensor, weights: Sequence[float], seen: Tensor, timestep: Tensor
    ) -> Tensor:
        """The prompt's output, guided by the difference that the last ones lead to."""
        told, variance = output.tensor_split([seen.shape[1]], dim=1)
        away = self._conditions.guidance_scale - 1
        noise = self._noise(told, seen, timestep) + away * _weighted(weights, self._differences)
        return self.standing_for(noise, variance, seen, timestep)

    def _reused(self, weights: Sequence[float], seen: Tensor, timestep: Tensor) -> Tensor:
        """An output that stands for the noise that the last ones lead to."""
        noise = _weighted(weights, self._noises)
        return self.standing_for(noise, self._variance, seen, timestep)


def _weighted(weights: Sequence[float], remembered: Iterable[Tensor]) -> Tensor:
    """Sum of the newest remembered tensors, each with its weight."""
    terms = [weight * tensor for weight, tensor in zip(weights, remembered, strict=False)]
    return torch.stack(terms).sum(0)
