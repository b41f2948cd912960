"""Weights of a plan, fitted while it is followed: each step leads back to the path of full runs.

A plan's own latents drift from those of the full run. So the noise that a step should use is not
the full run's: it is the one from which the sampler's next latents are the full run's again. All
runs go through the plan side by side; at every step the least-squares weights of what is known
there (own noise, guidance differences, noises before) are taken, and then used. What an earlier
extrapolation did wrong is thereby set right by the next evaluation.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latte_core.diffusion.guidance import Conditions, guided
from latte_core.diffusion.planned import Evaluate, PlannedOutputs
from latte_core.diffusion.step_plan import (
    BOTH,
    MAX_ORDER,
    MAX_WEIGHT,
    Evaluation,
    PlannedStep,
    StepPlan,
)
from latte_core.engine.denoise import Denoiser

if TYPE_CHECKING:
    from latte_core.calibration.search import Matrix
    from latte_core.calibration.trajectory import Run
    from latte_core.engine.pipeline import Pipeline

RIDGES = (1e-4, 1e-2, 1.0)  # the first that keeps weights inside MAX_WEIGHT
LEAST_SLOPE = 1e-6  # of the next latents by the noise; with less there is nothing to aim at


class _Unfolding(PlannedOutputs):
    """The outputs of a plan whose entries become known step by step."""

    def __init__(
        self, plan: StepPlan, conditions: Conditions, scheduler: Any, prediction_type: str
    ) -> None:
        super().__init__(plan, conditions, scheduler, prediction_type)
        self.plan = StepPlan(plan.name, ())
        self._noises = deque(maxlen=MAX_ORDER + 1)
        self._differences = deque(maxlen=MAX_ORDER + 1)
        self._made = torch.empty(0)

    @property
    def away(self) -> float:
        """Guidance differences that are added to the prompt's noise."""
        return self._conditions.guidance_scale - 1

    def led_by(self, evaluation: Evaluation) -> int:
        """Guidance differences that a step can be led by."""
        half = evaluation == "prompt" and self._conditions.halves == 2
        return len(self._differences) if half else 0

    def known(
        self, evaluation: Evaluation, seen: Tensor, timestep: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """Run the rows of a step; what its noise can be made of (K, n), its own first."""
        parts = [*self._noises]
        if evaluation != "reuse":
            whole = evaluation == "both" or self._conditions.halves == 1
            told = self._conditions if whole else self._prompt
            self._made = evaluate(told).float()
            own = guided(self._made, told, seen.shape[1])[:, : seen.shape[1]]
            led = [*self._differences][: self.led_by(evaluation)]
            parts = [self._noise(own, seen, timestep), *led, *parts]
        return torch.stack([part.flatten().cpu() for part in parts])

    def take(self, step: PlannedStep, seen: Tensor, timestep: Tensor) -> Tensor:
        """The step's output, now that its weights are found, of the rows that `known` has run."""
        self.plan = StepPlan(self.plan.name, (*self.plan.steps, step))
        return self.at(len(self.plan.steps) - 1, seen, timestep, lambda conditions: self._made)

    def seeing(self, noise: Tensor, seen: Tensor, timestep: Tensor) -> Tensor:
        """The output of a network that sees this noise (n,)."""
        return self.standing_for(noise.view_as(seen).to(seen), self._variance, seen, timestep)


class _Path:
    """One run on its way through a plan."""

    def __init__(self, pipeline: Pipeline, run: Run) -> None:
        self._run = run
        self._sampling = copy.deepcopy(run.states[0])
        self._type = pipeline.parts.prediction_type
        self._denoiser = Denoiser(pipeline.parts, run.conditions, self._sampling, _Unfolding)
        assert isinstance(self._denoiser.outputs, _Unfolding)
        self.outputs: _Unfolding = self._denoiser.outputs
        self._track = self._sampling.tracks[0]
        self._seen = self._track.latents

    @property
    def error(self) -> float:
        """Mean squared error of the latents to the full run's at the end."""
        return float(np.square(self._sampling.primary("latents") - self._run.latents).mean())

    def known(self, index: int, evaluation: Evaluation) -> Tensor:
        """Run the rows of a step; what its noise can be made of (K, n)."""
        timestep = self._sampling.timesteps[index]
        self._seen = self._track.model_input(timestep)
        evaluate = partial(self._denoiser.evaluate, self._seen, timestep)
        return self.outputs.known(evaluation, self._seen, timestep, evaluate)

    def wanted(self, index: int) -> Tensor:
        """The noise (n,) with which the sampler's next latents are those of the full run."""
        exact = self._run.noises[index]
        ends = [self._after(index, exact + more) for more in (0.0, 1.0)]
        slope = float((ends[1] - ends[0]).mean())
        if abs(slope) < LEAST_SLOPE:
            return exact
        return exact + (self._run.latents_after(index) - ends[0]).flatten() / slope

    def take(self, index: int, step: PlannedStep) -> None:
        """Take the step with its weights."""
        timestep = self._sampling.timesteps[index]
        output = self.outputs.take(step, self._seen, timestep)
        self._track.advance(output, timestep, self._type)

    def _after(self, index: int, noise: Tensor) -> Tensor:
        """The next latents if the network had seen this noise (n,)."""
        timestep = self._sampling.timesteps[index]
        trial = copy.deepcopy(self._track)
        seen = trial.model_input(timestep)
        output = self.outputs.seeing(noise, seen, timestep)
        trial.advance(output, timestep, self._type)
        return trial.latents.cpu()


@torch.no_grad()
def follow(pipeline: Pipeline, runs: Sequence[Run], plan: StepPlan) -> tuple[StepPlan, float]:
    """The plan with fitted weights, and the mean squared error of the final latents it leaves."""
    with pipeline.policy.using("transformer"):
        paths = [_Path(pipeline, run) for run in runs]
        steps = []
        for index, planned in enumerate(plan.steps):
            known = [path.known(index, planned.evaluation) for path in paths]
            wanted = [path.wanted(index) for path in paths]
            steps.append(_fitted(planned.evaluation, known, wanted, paths[0].outputs))
            for path in paths:
                path.take(index, steps[-1])
    return StepPlan(plan.name, tuple(steps)), sum(path.error for path in paths) / len(paths)


def _fitted(
    evaluation: Evaluation, known: list[Tensor], wanted: list[Tensor], outputs: _Unfolding
) -> PlannedStep:
    """The entry whose noise comes nearest to what is wanted, over all runs."""
    features = [one.double() for one in known]
    products = sum((f @ f.mT for f in features), torch.zeros(()))
    targets = sum((f @ w.double() for f, w in zip(features, wanted, strict=True)), torch.zeros(()))
    differences, away = outputs.led_by(evaluation), outputs.away
    for ridge in RIDGES:
        weights = _solve(products.numpy(), targets.numpy(), ridge, away, differences)
        step = _entry(evaluation, [float(w) for w in weights], differences, away)
        if step is not None:
            return step
    return BOTH if evaluation == "both" else PlannedStep(evaluation, (1.0,))


def _solve(products: Matrix, targets: Matrix, ridge: float, away: float, apart: int) -> Matrix:
    """Least squares pulled towards the plain step: own noise, the last difference."""
    plain = np.zeros(len(targets))
    plain[0] = 1.0
    if apart:
        plain[1] = away
    scale = np.sqrt(np.diag(products))
    pull = ridge * np.eye(len(targets))
    among = products / scale / scale[:, None] + pull
    solved: Matrix = np.linalg.solve(among, targets / scale + pull @ (plain * scale)) / scale
    return solved


def _entry(
    evaluation: Evaluation, weights: list[float], differences: int, away: float
) -> PlannedStep | None:
    """Weights as an entry has them; None if they are larger than an entry may have."""
    own, led, before = weights[0], weights[1 : 1 + differences], weights[1 + differences :]
    if evaluation == "reuse":
        parts: tuple[list[float], list[float]] = (weights, [])
    elif not differences:
        parts = ([], [own, *before])
    else:
        divisor = own * away
        if abs(divisor) < 1 / MAX_WEIGHT:
            return None
        parts = ([one / divisor for one in led], [own, *before])
    if max(abs(one) for part in parts for one in part) > MAX_WEIGHT:
        return None
    return PlannedStep(evaluation, *(tuple(part) for part in parts))


def improve(
    plan: StepPlan, error: float, tries: int, attempt: Callable[[StepPlan], tuple[StepPlan, float]]
) -> tuple[StepPlan, float]:
    """Look among the neighbours of a fitted plan for better ones, as long as there are tries.

    `attempt` fits a table and says what error it leaves.
    """
    tried = {_letters(plan)}
    order = np.random.default_rng(0)
    while True:
        fresh = [one for one in neighbours(_letters(plan)) if one not in tried]
        order.shuffle(fresh)
        for letters in fresh:
            if not tries:
                return plan, error
            tries -= 1
            tried.add(letters)
            found, left = attempt(StepPlan(plan.name, tuple(blank(one) for one in letters)))
            if left < error:
                plan, error = found, left
                break
        else:
            return plan, error


def evenly(name: str, total: int, rows: int) -> StepPlan:
    """A table of so many rows whose evaluations are as far from each other as can be.

    A row that is left over goes to the last step.
    """
    whole = min(total, max(1, rows // 2))
    places = {index * total // whole for index in range(whole)}
    letters: list[Evaluation] = ["both" if n in places else "reuse" for n in range(total)]
    if letters[-1] == "reuse" and rows % 2 and rows > 1:
        letters[-1] = "prompt"
    return StepPlan(name, tuple(map(blank, letters)))


def neighbours(letters: tuple[Evaluation, ...]) -> list[tuple[Evaluation, ...]]:
    """Tables of the same work: two entries at most two steps apart trade places, or two become one.

    A step with both rows may become two with the prompt's, and the other way round.
    """
    found: dict[tuple[Evaluation, ...], None] = {}
    places = range(1, len(letters))
    for one in places:
        for other in places:
            pair = (letters[one], letters[other])
            if one < other <= one + 2 and pair[0] != pair[1]:
                found[_with(letters, one, pair[1], other, pair[0])] = None
            if pair == ("both", "reuse"):
                found[_with(letters, one, "prompt", other, "prompt")] = None
            elif one != other and pair == ("prompt", "prompt"):
                found[_with(letters, one, "both", other, "reuse")] = None
    return list(found)


def _with(
    letters: tuple[Evaluation, ...], one: int, first: Evaluation, other: int, second: Evaluation
) -> tuple[Evaluation, ...]:
    changed = list(letters)
    changed[one], changed[other] = first, second
    return tuple(changed)


def _letters(plan: StepPlan) -> tuple[Evaluation, ...]:
    return tuple(step.evaluation for step in plan.steps)


def blank(evaluation: Evaluation) -> PlannedStep:
    """An entry whose weights are still to be fitted."""
    return PlannedStep(evaluation, (1.0,) if evaluation == "reuse" else ())
