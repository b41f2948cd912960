"""Growth: the counts of Latte-1's shape against the published ones, and fits against their laws."""

import csv

import pytest
from PIL import Image

from latte_core.benchmark.chart import draw_chart
from latte_core.benchmark.growth import Point, fit, fit_memory, step_cost, to_table, write_csv

GIB = 2**30


def test_one_step_of_latte_1_costs_what_is_published():
    """50 steps of 512 x 512 x 16 are printed as 3.36 PFLOP (TeaCache) and 3.439 (AdaCache)."""
    flops, memory = step_cost(16, 512)
    assert 3.36e15 < 50 * flops < 3.44e15
    assert memory < 3 * GIB  # the peak without text encoder and decoder, weights included


def law(factor, exponent, kind="measured", axis="size"):
    return [Point(kind, axis, x, factor * x**exponent, 2**20 * x) for x in (16, 32, 64, 128)]


def test_fit_finds_the_law_and_says_where_there_is_none():
    found = fit(law(0.5, 2.0))
    assert (found.factor, found.exponent, found.r2) == pytest.approx((0.5, 2.0, 1.0))
    steps = [Point("measured", "steps", x, 0.3 + 0.05 * x, 1) for x in (2, 4, 8)]
    along = fit(steps)
    assert (along.fixed, along.factor, along.exponent, along.r2) == pytest.approx((0.3, 0.05, 1, 1))
    assert along.cost(20) == pytest.approx(1.3)
    assert "| 0.3 + 0.05 steps | 1.000 |" in to_table(steps)
    jumps = [Point("measured", "size", x, y, 1) for x, y in ((1, 1), (2, 9), (3, 1), (4, 9))]
    assert fit(jumps).r2 < 0.8


def test_points_are_written_and_drawn(tmp_path):
    points = [*law(0.5, 2.0), *law(1e12, 1.0, "computed", "steps")]
    write_csv(points, tmp_path / "growth.csv")
    rows = list(csv.DictReader((tmp_path / "growth.csv").open()))
    assert len(rows) == 8 and float(rows[0]["exponent"]) == pytest.approx(2)
    assert "| measured | size | 16: 128 s | 128: 8.19e+03 s | size^2.00 |" in to_table(points)
    draw_chart(points, tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as chart:
        assert chart.size == (320, 960)  # cost and memory of either kind
        for top in range(0, 960, 240):
            panel = chart.crop((0, top, 320, top + 240))
            assert len(panel.getcolors(100_000)) > 4
            dots = dict(map(reversed, panel.getcolors(100_000)))[(0x8C, 0x3B, 0x1B)]
            assert dots > 3 * 20  # four dots of 7 pixels across


def test_memory_is_a_fixed_and_a_growing_share():
    points = [Point("measured", "size", x, 1.0, 5000 + 3 * x * x) for x in (16, 32, 64, 128)]
    found = fit_memory(points)
    assert (found.fixed, found.growing, found.r2) == pytest.approx((5000, 3, 1))
    even = [Point("measured", "steps", x, 1.0, 700) for x in (2, 4, 8)]
    assert fit_memory(even).growing == pytest.approx(0, abs=1e-9)
