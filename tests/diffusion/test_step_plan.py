"""Step plans as tables: what they save, what they may read, and how they extrapolate."""

import numpy as np
import pytest

from latte_core.diffusion.step_plan import (
    BOTH,
    BUILT_IN,
    UNGUIDED,
    PlannedStep,
    StepPlan,
    extrapolation,
    from_text,
    full,
    tabulate,
    to_text,
)
from latte_core.errors import ConfigError


@pytest.mark.parametrize("total", [1, 2, 3, 4, 20, 50, 250])
@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_plans_suit_every_number_of_steps(name, total):
    plan = BUILT_IN[name](total)
    assert (plan.name, len(plan.steps)) == (name, total)
    assert plan.steps[0] == BOTH
    assert 0 < plan.share <= 1
    assert (plan.share < 1) == (name != "full") or total < 4


def test_built_in_plans_save_what_they_say():
    shares = {name: make(50).share for name, make in BUILT_IN.items()}
    assert shares["full"] == 1
    assert shares["interval"] == pytest.approx(0.85)
    assert 0.7 < shares["guidance-cache"] < 0.85
    assert 0.6 < shares["alternate"] < 0.65
    assert 0.5 < shares["alternate-cache"] < 0.6


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("known", [(0, 1, 2), (1, 4, 6), (0, 5, 6), (2, 3, 9)])
def test_weights_continue_polynomials_of_their_order(order, known):
    """Against numpy's own fit, on random polynomials; one degree more is missed."""
    rng = np.random.default_rng(order)
    for position in (10, 12):
        weights = extrapolation(position, known, order)
        assert len(weights) == order + 1
        for degree in (order, order + 1):
            curve = np.polynomial.Polynomial(rng.normal(size=degree + 1))
            told = sum(w * curve(k) for w, k in zip(weights, known[::-1], strict=False))
            assert np.isclose(told, curve(position)) == (degree == order)


def test_order_falls_where_too_little_is_known():
    assert extrapolation(1, [0], 2) == (1.0,)
    assert extrapolation(2, [0, 1], 2) == pytest.approx((2.0, -1.0))


def test_rows_calls_and_memory_are_counted():
    plan = tabulate("one", ["both", "both", "prompt", "reuse", "prompt", "reuse"], order=1)
    assert (plan.rows, plan.calls, plan.share) == (6, 4, 0.5)
    assert (plan.remembered("reuse"), plan.remembered("prompt")) == (2, 1)
    assert plan.extra_bytes((1, 4, 16, 8, 8), learned_variance=False) == 3 * 4096 * 4
    assert plan.extra_bytes((1, 4, 16, 8, 8), learned_variance=True) == 4 * 4096 * 4
    assert full(50).extra_bytes((1, 4, 16, 8, 8), learned_variance=True) == 0


def test_what_is_mixed_is_remembered():
    plan = StepPlan("mixed", (BOTH, PlannedStep("both", (), (1.5, -0.5))))
    assert (plan.rows, plan.remembered("reuse"), plan.remembered("prompt")) == (4, 1, 0)
    assert StepPlan("own", (PlannedStep("both", (), (1.0,)),)).remembered("reuse") == 0


def test_any_plan_for_latte_1_needs_less_than_a_tenth_of_a_gib():
    """The largest that can be written, for 16 frames and 8 stills of 512 x 512 and 64 frames."""
    prompt = PlannedStep("prompt", (1, 1, 1), (1, 1, 1, 1))
    steps = [BOTH] * 3 + [prompt, PlannedStep("reuse", (1, 1, 1))]
    largest = StepPlan("largest", tuple(steps))
    for frames in (16 + 8, 64):
        assert largest.extra_bytes((1, 4, frames, 64, 64), True) <= 0.1 * 2**30
    # Keeping the attention outputs of 84 layers, as others do, would not pass.
    assert 84 * 75_500_000 > 0.1 * 2**30


@pytest.mark.parametrize(
    "steps,words",
    [
        ([PlannedStep("reuse", (1,))], "Step 1 .* reads 1 remembered values, but there are 0"),
        ([BOTH, PlannedStep("prompt", (2, -1))], "Step 2"),
        ([BOTH, UNGUIDED, PlannedStep("prompt", (2, -1))], "Step 3"),
        ([UNGUIDED, PlannedStep("prompt", (1,))], "Step 2"),
        ([PlannedStep("both", (), (1, 0.5))], "Step 1 .* reads 1 remembered values"),
    ],
)
def test_plans_that_read_what_is_not_there_are_refused(steps, words):
    with pytest.raises(ConfigError, match=words):
        StepPlan("bad", tuple(steps))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "both 1",
        "reuse",
        "reuse 1 1 1 1",
        "prompt nan",
        "reuse 99",
        "half",
        "reuse x",
        None,
        3,
        "reuse 1 | 1",
        "both | x",
        "both | 1 1 1 1 1",
        "| 1",
        "both | nan",
    ],
)
def test_damaged_entries_are_refused(text):
    with pytest.raises(ConfigError):
        from_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "both",
        "prompt",
        "prompt 1",
        "reuse 2 -1",
        "reuse 3 -3.5 1.25",
        "both | 1.5 -0.5",
        "prompt | 2",
        "prompt 1 -0.5 | 1.5 -0.25 0.125 1",
    ],
)
def test_entries_read_as_they_were_written(text):
    assert to_text(from_text(text)) == text
