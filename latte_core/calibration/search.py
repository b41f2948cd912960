"""The best step plan for every amount of work, from facts about a few full runs.

The error of a plan is taken as the sum of the errors of its steps, each weighed by what an error
there costs in the end. The error of a step that is left out follows from the inner products of the
steps' noises alone: its weights are the least-squares ones, so no order has to be chosen by hand.
A beam search goes through the steps and keeps the best tables for every number of rows.
Source of the idea (errors of the final video, a path through the steps): arXiv 2511.00090.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_core.diffusion.step_plan import (
    BOTH,
    MAX_ORDER,
    MAX_WEIGHT,
    ROWS,
    PlannedStep,
    StepPlan,
)

BEAM = 60  # tables kept for every number of rows
LONGEST_GAP = 6  # steps between an evaluation and the last that reads it
RIDGE = 1e-5  # of the newest noise's power; keeps weights from fitting one prompt's noise

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Facts:
    """What full runs of S calls tell, averaged over prompts.

    noise and difference (S, S): mean product of the guided noises of two steps, and of their
    guidance differences, which is None for a model without guidance. weight (S,): mean squared
    error of the final latents for a mean squared error of 1 in the noise of a step.
    """

    noise: Matrix
    difference: Matrix | None
    weight: Matrix
    guidance_scale: float

    @property
    def calls(self) -> int:
        """Calls of the network in a full run."""
        return len(self.weight)


@dataclass(frozen=True)
class _Table:
    """A plan up to some step: what it would cost in the end, and what it remembers."""

    error: float = 0.0
    rows: int = 0
    evaluated: tuple[int, ...] = ()
    guided: tuple[int, ...] = ()
    steps: tuple[PlannedStep, ...] = ()


@dataclass
class _Fits:
    """Least-squares weights and their errors, each computed once."""

    facts: Facts
    known: dict[tuple[Any, ...], list[tuple[PlannedStep, float]]] = field(default_factory=dict)

    def left_out(self, index: int, nodes: tuple[int, ...]) -> list[tuple[PlannedStep, float]]:
        """Ways to reuse noises of `nodes` (newest first) at a step, with their final errors."""
        return self._fits("reuse", index, nodes, self.facts.noise, 1.0)

    def half(self, index: int, nodes: tuple[int, ...]) -> list[tuple[PlannedStep, float]]:
        """Ways to run the prompt's half alone at a step, with their final errors."""
        if self.facts.difference is None:
            return []
        scale = (self.facts.guidance_scale - 1) ** 2
        return self._fits("prompt", index, nodes, self.facts.difference, scale)

    def _fits(
        self, evaluation: Any, index: int, nodes: tuple[int, ...], products: Matrix, scale: float
    ) -> list[tuple[PlannedStep, float]]:
        key = (evaluation, index, nodes)
        if key not in self.known:
            found = []
            for count in range(1, len(nodes) + 1):
                weights, error = fit(products, index, nodes[:count])
                if np.abs(weights).max() <= MAX_WEIGHT:
                    step = PlannedStep(evaluation, tuple(float(w) for w in weights))
                    found.append((step, error * scale * float(self.facts.weight[index])))
            # A higher order has to earn its place: by 2 % at least.
            best = found[:1]
            for step, error in found[1:]:
                if error < 0.98 * best[0][1]:
                    best = [(step, error)]
            self.known[key] = best
        return self.known[key]


def fit(products: Matrix, index: int, nodes: Sequence[int]) -> tuple[Matrix, float]:
    """Weights of `nodes` that come nearest to step `index`, and the mean squared error left."""
    chosen = list(nodes)
    among = products[np.ix_(chosen, chosen)]
    ridge = RIDGE * products[chosen[0], chosen[0]] * np.eye(len(chosen))
    # The ridge pulls towards repeating the newest, not towards nothing.
    start = np.eye(len(chosen))[0]
    weights = np.linalg.solve(among + ridge, products[chosen, index] + ridge @ start)
    error = products[index, index] - 2 * weights @ products[chosen, index]
    return weights, float(max(0.0, error + weights @ among @ weights))


def search(facts: Facts, budgets: Sequence[float], alternatives: int = 1) -> list[list[StepPlan]]:
    """For every budget (a share of all rows) the best plans that keep it, best first.

    Plans are called budget-50 for a budget of 0.5.
    """
    fits = _Fits(facts)
    tables = [_Table()]
    for index in range(facts.calls):
        following: dict[int, dict[Any, _Table]] = {}
        for table in tables:
            for step, error in _options(fits, table, index):
                _keep(following, _extended(table, step, index, error))
        tables = [
            table
            for same_rows in following.values()
            for table in sorted(same_rows.values(), key=lambda one: one.error)[:BEAM]
        ]
    found = []
    for budget in budgets:
        within = [table for table in tables if table.rows <= budget * 2 * facts.calls + 1e-9]
        best = sorted(within, key=lambda one: one.error)[:alternatives]
        name = f"budget-{100 * budget:.0f}"
        found.append([StepPlan(name, table.steps) for table in best])
    return found


def predicted_error(facts: Facts, plan: StepPlan) -> float:
    """The mean squared error of the final latents that the facts let expect of a plan."""
    evaluated: list[int] = []
    guided: list[int] = []
    total = 0.0
    for index, step in enumerate(plan.steps):
        products = facts.noise if step.evaluation == "reuse" else facts.difference
        nodes = (evaluated if step.evaluation == "reuse" else guided)[::-1][: len(step.weights)]
        if step.evaluation != "both" and products is not None:
            weights, chosen = np.array(step.weights), list(nodes)
            error = products[index, index] - 2 * weights @ products[chosen, index]
            error += weights @ products[np.ix_(chosen, chosen)] @ weights
            scale = 1.0 if step.evaluation == "reuse" else (facts.guidance_scale - 1) ** 2
            total += float(scale * facts.weight[index] * max(0.0, error))
        if step.evaluation != "reuse":
            evaluated.append(index)
        if step.evaluation == "both":
            guided.append(index)
    return total


def _options(fits: _Fits, table: _Table, index: int) -> list[tuple[PlannedStep, float]]:
    options = [(BOTH, 0.0)]
    if table.guided and index - table.guided[0] <= LONGEST_GAP:
        options += fits.half(index, table.guided)
    if table.evaluated and index - table.evaluated[0] <= LONGEST_GAP:
        options += fits.left_out(index, table.evaluated)
    return options


def _extended(table: _Table, step: PlannedStep, index: int, error: float) -> _Table:
    evaluated, guided = table.evaluated, table.guided
    if step.evaluation != "reuse":
        evaluated = (index, *evaluated)[: MAX_ORDER + 1]
    if step.evaluation == "both":
        guided = (index, *guided)[: MAX_ORDER + 1]
    rows = table.rows + ROWS[step.evaluation]
    return _Table(table.error + error, rows, evaluated, guided, (*table.steps, step))


def _keep(following: dict[int, dict[Any, _Table]], table: _Table) -> None:
    """Of tables that remember the same, only the best can become the best."""
    same_rows = following.setdefault(table.rows, {})
    key = (table.evaluated, table.guided)
    if key not in same_rows or table.error < same_rows[key].error:
        same_rows[key] = table
