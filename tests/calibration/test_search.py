"""The search for plans, against least squares on the vectors and against trying every table."""

import numpy as np
import pytest

from latte_core.calibration.search import (
    Facts,
    _extended,
    _Fits,
    _options,
    _Table,
    fit,
    predicted_error,
    search,
)
from latte_core.diffusion.step_plan import BOTH, PlannedStep, StepPlan, full, tabulate

SIZE = 400


def products(vectors):
    return vectors @ vectors.T / vectors.shape[1]


def wandering(calls, seed, smooth=0.9):
    """Vectors that change slowly, as noises do from step to step."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(calls, SIZE))
    for index in range(1, calls):
        steps[index] = smooth * steps[index - 1] + 0.2 * steps[index]
    return 1.0 + np.cumsum(0.3 * steps, axis=0)


def facts(calls, seed=0, scale=2.5):
    noise, difference = wandering(calls, seed), 0.3 * wandering(calls, seed + 1)
    weight = np.linspace(1.0, 0.1, calls)
    return Facts(products(noise), products(difference), weight, scale)


def test_weights_are_those_of_least_squares():
    vectors = wandering(8, seed=3)
    nodes = [5, 3, 2]
    weights, error = fit(products(vectors), 7, nodes)
    expected = np.linalg.lstsq(vectors[nodes].T, vectors[7], rcond=None)[0]
    assert weights == pytest.approx(expected, abs=0.05)
    left = vectors[7] - vectors[nodes].T @ weights
    assert error == pytest.approx(np.square(left).mean(), rel=1e-6)


def test_the_best_table_of_every_budget_is_found():
    """All tables of five steps, each with the same weights, one by one."""
    told = facts(5)
    fits = _Fits(told)
    every = []

    def grow(table, index):
        if index == told.calls:
            every.append(table)
            return
        for step, error in _options(fits, table, index):
            grow(_extended(table, step, index, error), index + 1)

    grow(_Table(), 0)
    assert len(every) > 50
    for budget in (0.8, 0.6, 0.4, 0.2):
        best = min(table.error for table in every if table.rows <= budget * 10)
        ((found,),) = search(told, [budget])
        assert found.share <= budget and found.name == f"budget-{100 * budget:.0f}"
        assert predicted_error(told, found) == pytest.approx(best, rel=1e-6)


def test_more_work_is_never_worse_and_beats_plans_without_calibration():
    told = facts(16)
    plans = [found[0] for found in search(told, [0.25, 0.5, 0.75])]
    errors = [predicted_error(told, plan) for plan in plans]
    assert errors == sorted(errors, reverse=True)
    kinds = ["both" if i % 2 == 0 or i < 2 else "reuse" for i in range(16)]
    alternate = tabulate("alternate", kinds, order=1)
    assert alternate.share > 0.5
    assert errors[1] < predicted_error(told, alternate)
    assert predicted_error(told, full(16)) == 0


def test_steps_that_can_be_told_exactly_are_the_ones_left_out():
    """Noise on a line from step 4 on, new at every step before."""
    rng = np.random.default_rng(5)
    start, slope = rng.normal(size=(2, SIZE))
    vectors = np.stack([*rng.normal(size=(4, SIZE)), *(start + i * slope for i in range(6))])
    told = Facts(products(vectors), None, np.ones(10), 1.0)
    ((plan,),) = search(told, [0.6])
    assert [step.evaluation for step in plan.steps[:6]] == ["both"] * 6
    assert [step.evaluation for step in plan.steps[6:]] == ["reuse"] * 4
    assert plan.steps[6].weights == pytest.approx((2, -1), abs=0.01)


def test_without_guidance_there_are_no_halves():
    told = Facts(facts(12).noise, None, np.ones(12), 1.0)
    ((plan,),) = search(told, [0.5])
    assert {step.evaluation for step in plan.steps} == {"both", "reuse"}


def test_alternatives_come_best_first_and_differ():
    (found,) = search(facts(12), [0.5], alternatives=3)
    errors = [predicted_error(facts(12), plan) for plan in found]
    assert errors == sorted(errors) and len({plan.steps for plan in found}) == 3


def test_the_prediction_counts_every_step_that_is_left_out():
    told = facts(4)
    plan = StepPlan(
        "one", (BOTH, BOTH, PlannedStep("reuse", (1.0,)), PlannedStep("prompt", (1.0,)))
    )
    change = told.noise[2, 2] + told.noise[1, 1] - 2 * told.noise[2, 1]
    away = told.difference[3, 3] + told.difference[1, 1] - 2 * told.difference[3, 1]
    expected = told.weight[2] * change + told.weight[3] * 1.5**2 * away
    assert predicted_error(told, plan) == pytest.approx(expected)
