"""Loss curves: what the logs hold, where it is drawn, and how large the file is."""

import csv
import math

import numpy as np
import pytest
from PIL import Image
from tiny_training import LineTask, tiny_recipe_data

from latte_core import cli
from latte_core.errors import DataError
from latte_core.training import curves
from latte_core.training.curves import Axis, Curve, draw_curves, read_curves, smooth
from latte_core.training.loop import LoopConfig, Trainer
from latte_core.training.stage_names import LEARNED

RED = (0x8C, 0x3B, 0x1B)


def write_log(path, rows, names=("step", "minutes", "loss")):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def test_curves_are_the_trainers_own_logs_in_the_order_of_stages(tmp_path):
    for stage in ("probe", "autoencoder"):
        config = LoopConfig(steps=4, workers=0, log_every=2, device="cpu", save_every=9)
        Trainer(LineTask(), config, tmp_path / stage).run()
    with (tmp_path / "probe" / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    found = read_curves(tmp_path)
    assert [(c.stage, c.figure) for c in found] == [("autoencoder", "loss"), ("probe", "loss")]
    assert found[1].steps == (2, 4)
    assert found[1].values == tuple(losses)


def test_logs_of_one_stage_follow_each_other(tmp_path):
    for number in (10, 2, 1):
        rows = [(5, 1.0, number), (10, 2.5, number + 0.5)]
        write_log(tmp_path / f"video-{number}.csv", rows)
    (found,) = read_curves(tmp_path)
    assert found.stage == "video"
    assert found.steps == (5, 10, 15, 20, 25, 30)
    assert found.values == (1, 1.5, 2, 2.5, 10, 10.5)
    assert found.starts == (10, 20)
    assert found.minutes == 7.5


def test_rows_that_cannot_be_read_are_passed_over(tmp_path):
    names = ("step", "minutes", "psnr", "loss")
    write_log(tmp_path / "autoencoder.csv", [(1, 1, 20, 0.5), (2, 2, "", "nan"), (3, "0.")], names)
    found = {c.figure: c for c in read_curves(tmp_path)}
    assert found["loss"].values == (0.5,)
    assert found["psnr"].values == (20,)


def test_mean_of_a_line_is_the_line_and_of_noise_its_middle():
    line = [float(n) for n in range(101)]
    assert smooth(line)[10:-10] == pytest.approx(line[10:-10])
    waves = [1.0 + (-1) ** n for n in range(101)]
    assert all(abs(value - 1) < 0.35 for value in smooth(waves)[3:-3])
    assert smooth([2.0]) == [2.0]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis(0, 1000, 0, 1), [0, 200, 400, 600, 800, 1000]),
        (Axis(0.03, 0.4, 0, 1, log=True), [0.03, 0.1, 0.3]),
        (Axis(19, 31, 0, 1), [20, 25, 30]),
        (Axis(0.01, 10, 0, 1, log=True), [0.01, 0.1, 1, 10]),
    ],
)
def test_axis_has_round_marks(axis, expected):
    assert axis.marks() == pytest.approx(expected)


@pytest.mark.parametrize("low", [1e-4, 0.03, 0.99, 7.0])
@pytest.mark.parametrize("ratio", [1.0001, 1.3, 5, 1e4])
@pytest.mark.parametrize("log", [True, False])
def test_every_axis_has_a_few_marks_on_it(low, ratio, log):
    axis = Axis(low, low * ratio, 0, 1, log)
    marks = axis.marks()
    assert 2 <= len(marks) <= 9
    assert all(-1e-9 <= axis.place(mark) <= 1 + 1e-9 for mark in marks)


def test_logarithmic_axis_puts_the_geometric_mean_in_the_middle():
    assert Axis(0.1, 10, 0, 100, log=True).place(1) == pytest.approx(50)
    assert Axis(0, 10, 0, 100).place(1) == pytest.approx(10)


def line_of(curve):
    """Height of the bold line in every column of a curve's panel, NaN where there is none."""
    pixels = np.asarray(curves._panel(curve).convert("RGB")).astype(int)
    bold = np.abs(pixels - RED).sum(axis=2) == 0
    rows = np.arange(len(bold))[:, None]
    with np.errstate(invalid="ignore"):
        return (rows * bold).sum(0) / bold.sum(0)


def test_bold_line_lies_where_the_values_are():
    steps = tuple(float(n) for n in range(1, 201))
    values = tuple(1 + n / 200 for n in range(200))
    curve = Curve("video", "loss", steps, values, 3.0)
    across, up = curves.axes_of(curve)
    drawn = line_of(curve)
    for n in (30, 100, 170):
        assert drawn[round(across.place(steps[n]))] == pytest.approx(up.place(values[n]), abs=2)
    other = line_of(Curve("video", "loss", steps, values[::-1], 3.0))
    assert not np.allclose(drawn, other, atol=5, equal_nan=True)  # positive control


def test_command_draws_all_stages_into_a_small_file(tmp_path):
    import json

    for stage in LEARNED:
        rows = [(n, n / 9, math.exp(-n / 90) * (1 + 0.1 * math.sin(n * n))) for n in range(1, 400)]
        write_log(tmp_path / "run" / stage / "log.csv", rows)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(tiny_recipe_data()))
    line = ["train", str(recipe), "--folder", str(tmp_path / "run"), "--stage", "curves"]
    assert cli.main([*line, "--out", str(tmp_path / "logs" / "curves.png")]) == 0
    assert cli.main(line) == 0
    chart = tmp_path / "run" / "curves.png"
    assert chart.read_bytes() == (tmp_path / "logs" / "curves.png").read_bytes()
    assert chart.stat().st_size < 60_000
    with Image.open(chart) as image:
        rows = math.ceil(len(LEARNED) / curves.COLUMNS)
        assert image.size == (3 * curves.WIDTH, rows * curves.HEIGHT)


def test_one_row_and_level_values_are_drawn(tmp_path):
    write_log(tmp_path / "stills.csv", [(50, 1, 0.4)])
    write_log(tmp_path / "motion.csv", [(50, 1, 0.4), (100, 2, 0.4)])
    draw_curves(tmp_path, tmp_path / "chart.png")
    for curve in read_curves(tmp_path):
        assert np.isfinite(line_of(curve)).sum() > 1


def test_folder_without_logs_is_said(tmp_path):
    with pytest.raises(DataError, match=r"STAGE/log\.csv"):
        draw_curves(tmp_path, tmp_path / "chart.png")
    assert not (tmp_path / "chart.png").exists()
