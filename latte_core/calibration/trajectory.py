"""Full runs, recorded: how the noise moves from step to step, and what an error costs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latte_core.calibration.search import Facts, Matrix, fit
from latte_core.diffusion.guidance import Conditions
from latte_core.diffusion.planned import Evaluate, PlannedOutputs
from latte_core.diffusion.schedulers import predict_noise
from latte_core.diffusion.step_plan import BOTH, PlannedStep, StepPlan, full
from latte_core.engine.denoise import Denoiser, Sampling, start
from latte_core.engine.pipeline import Pipeline
from latte_core.engine.request import GenerationRequest

NODES = 3  # evaluations that a probed step is extrapolated from


class Recorder(PlannedOutputs):
    """The outputs of a full run, whose noises and guidance differences are kept."""

    def __init__(
        self, plan: StepPlan, conditions: Conditions, scheduler: Any, prediction_type: str
    ) -> None:
        super().__init__(plan, conditions, scheduler, prediction_type)
        self.noises: list[Tensor] = []
        self.differences: list[Tensor] = []

    def at(self, index: int, seen: Tensor, timestep: Tensor, evaluate: Evaluate) -> Tensor:
        """As without recording."""

        def watched(conditions: Conditions) -> Tensor:
            halves = evaluate(conditions)
            if conditions.halves == 2:
                away, prompt = halves[:, : seen.shape[1]].float().chunk(2)
                noises = (
                    predict_noise(half, seen, timestep, self._levels, self._type)
                    for half in (prompt, away)
                )
                self.differences.append((next(noises) - next(noises)).flatten().cpu())
            return halves

        output = super().at(index, seen, timestep, watched)
        prediction = output[:, : seen.shape[1]]
        noise = predict_noise(prediction, seen, timestep, self._levels, self._type)
        self.noises.append(noise.flatten().cpu())
        return output


@dataclass(frozen=True, eq=False)
class Run:
    """One full run: S noises and guidance differences (S, n), and the state before each step."""

    noises: Tensor
    differences: Tensor | None
    states: tuple[Sampling, ...]
    conditions: Conditions
    latents: Matrix

    def latents_after(self, index: int) -> Tensor:
        """The latents (1, C, F, h, w) behind step `index`, counted from 0."""
        if index + 1 == len(self.states):
            return torch.from_numpy(self.latents).float()
        return self.states[index + 1].tracks[0].latents.cpu()


@torch.no_grad()
def record(pipeline: Pipeline, request: GenerationRequest) -> Run:
    """Make a resolved request in full and keep what the steps said."""
    conditions = pipeline.conditioner.encode(request, pipeline.policy).conditions
    sampling = start(request, pipeline.parts)
    sampling = replace(sampling, step_plan=full(len(sampling.timesteps)))
    with pipeline.policy.using("transformer"):
        denoiser = Denoiser(pipeline.parts, conditions, sampling, Recorder)
        recorder = denoiser.outputs
        assert isinstance(recorder, Recorder)
        states = []
        for index, timestep in enumerate(sampling.timesteps, start=1):
            states.append(copy.deepcopy(sampling))
            denoiser.step(timestep, index)
    differences = torch.stack(recorder.differences) if recorder.differences else None
    latents = sampling.primary("latents").astype(np.float64)
    return Run(torch.stack(recorder.noises), differences, tuple(states), conditions, latents)


@torch.no_grad()
def final_error(pipeline: Pipeline, run: Run, plan: StepPlan, begin: int = 0) -> float:
    """Mean squared error of the final latents if `plan` is followed from call `begin` on."""
    sampling = replace(copy.deepcopy(run.states[begin]), step_plan=plan)
    with pipeline.policy.using("transformer"):
        denoiser = Denoiser(pipeline.parts, run.conditions, sampling)
        for index in range(begin, len(plan.steps)):
            denoiser.step(sampling.timesteps[index], index + 1)
    return float(np.square(sampling.primary("latents") - run.latents).mean())


def gather_facts(pipeline: Pipeline, runs: Sequence[Run], every: int, scale: float) -> Facts:
    """Average the runs, and probe every `every`-th step for what an error there costs.

    The runs take turns at the steps, so that more prompts cost no more time.
    """
    noise = _products([run.noises for run in runs])
    guided = [run.differences for run in runs if run.differences is not None]
    difference = _products(guided) if guided else None
    calls = len(noise)
    probed = [*range(1, calls, every)]
    if probed and probed[-1] != calls - 1:
        probed.append(calls - 1)
    costs = [
        probe(pipeline, runs[turn % len(runs)], noise, index) for turn, index in enumerate(probed)
    ]
    # Costs span orders of magnitude, so what lies between is taken in the logarithm.
    weight = np.exp(np.interp(np.arange(calls), probed or [0], np.log(costs or [1.0])))
    return Facts(noise, difference, weight, scale)


def probe(pipeline: Pipeline, run: Run, noise: Matrix, index: int) -> float:
    """Leave one step out and run on: the final squared error per squared error of its noise."""
    nodes = [*range(max(0, index - NODES), index)][::-1]
    weights, _ = fit(noise, index, nodes)
    told = run.noises[nodes].mT.double() @ torch.from_numpy(weights)
    error = float((told - run.noises[index].double()).square().mean())
    # The noises before the step are its own run's, which full steps make again.
    begin = nodes[-1]
    calls = len(run.states)
    steps = [BOTH] * calls
    steps[index] = PlannedStep("reuse", tuple(float(w) for w in weights))
    return final_error(pipeline, run, StepPlan("probe", tuple(steps)), begin) / max(error, 1e-12)


def _products(rows: Sequence[Tensor]) -> Matrix:
    """Mean products of the rows (S, n) of several runs with each other, (S, S)."""

    def each() -> Iterator[Tensor]:
        for one in rows:
            exact = one.double()
            yield exact @ exact.mT / exact.shape[1]

    return torch.stack([*each()]).mean(0).numpy()
