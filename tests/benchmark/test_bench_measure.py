"""Rounds in turns, counts that are exact, and a command that says only what it knows."""

import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_folder import FRAMES, SIZE
from torch import nn

from latte_core.benchmark.measure import Case, count, cpu_ratio, measure, ratio
from latte_core.benchmark.report import Report, as_json, to_text
from latte_core.benchmark.shapes import open_folder
from latte_core.benchmark.subjects import Counter, Ours, Run, Setting, Stock
from latte_core.cli import main
from latte_core.engine import memory


class Fake:
    """Takes the seconds that it is told to, and makes one product of matrices."""

    network = "Linear"

    def __init__(self, name, seconds, log):
        self.setting = Setting(name, 2, 4.0, "ddim", 1, 8, 8)
        self.seconds, self.log = iter(seconds), log
        self.layer = nn.Linear(8, 16, bias=False)

    def generate(self, prompt, seed):
        self.log.append((self.setting.name, prompt, seed))
        wall = next(self.seconds)
        stages = {"text": 0.1, "denoise": wall - 0.3, "decode": 0.2, "all": wall}
        clip = np.zeros((1, 8, 8, 3), np.uint8)
        return Run(stages, 2 * wall, clip, np.ones((1, 4, 1, 1, 1), np.float32))

    def direct(self, prompt, seed):
        self.layer(torch.ones(3, 8))
        self.held = torch.ones(16 * 2**20)  # 64 MiB

    @contextmanager
    def counting(self):
        yield Counter(evaluations=2)


def test_subjects_take_turns_and_ratios_pair_the_rounds():
    log = []
    slow, fast = Fake("slow", [4.0, 40.0, 4.0], log), Fake("fast", [2.0, 20.0, 1.0], log)
    cases = [Case(f"prompt {n}", n) for n in range(3)]
    rows = measure([slow, fast], cases, Case("warm", 9), "cpu", lambda text: None)
    assert [entry[0] for entry in log] == ["slow", "fast", "fast", "slow", "slow", "fast"]
    assert [row.median_s("all") for row in rows] == [4.0, 2.0]
    assert ratio(*rows, "all") == cpu_ratio(*rows) == 2.0  # of 2, 2 and 4; the busy round counts
    assert rows[0].range_s("all") == (4.0, 40.0)
    data = as_json(Report("world", tuple(rows), {}, (), {}))
    assert data["rows"][1]["ratio"]["all"] == 2.0
    assert "| fast | all | 2 (1-20) | 2.00 |" in to_text(Report("world", tuple(rows), {}, (), {}))


def test_counts_are_exact():
    counts = count(Fake("one", [], []), Case("a", 1), "cpu")
    assert counts.flops == {"text": 0, "denoise": 2 * 3 * 8 * 16, "decode": 0, "all": 768}
    assert 63 * 2**20 < counts.peak_bytes < 80 * 2**20


def _doubling(vae):
    """FLOP of stock's convolutions behind doubled sides, for a clip of the tiny folder."""
    blocks = vae.decoder.up_blocks[:-1]
    side, total = SIZE // 2 ** len(blocks), 0
    for block in blocks:
        side *= 2
        width = block.upsamplers[0].conv.out_channels
        total += FRAMES * 2 * 9 * width * width * side * side
    return total


def test_both_pipelines_are_counted_alike(tiny_folder):
    bench = open_folder(tiny_folder, "cpu")
    setting = Setting("x", 3, 4.0, "ddim", FRAMES, SIZE, SIZE)
    Ours(bench.forgetful(), setting).direct("a red rocket flies", 1)  # known to this one alone
    ours = Ours(bench.forgetful(), setting)
    case = Case("a red rocket flies", 1)
    theirs, made = (count(one, case, "cpu") for one in (Stock(bench.stock, setting, None), ours))
    ours.engine.close()
    assert theirs.evaluations == made.evaluations == 6  # three steps with guidance
    # Where sides double, 16 products do what 36 do there.
    assert theirs.flops["decode"] - made.flops["decode"] == pytest.approx(
        _doubling(bench.stock.vae) * 20 / 36, rel=0.02
    )
    # The same network, less what stock computes for nothing: prompts once per frame.
    assert 0.9 * theirs.flops["denoise"] < made.flops["denoise"] < theirs.flops["denoise"]
    assert 0 < made.flops["text"] < theirs.flops["text"] / 3  # two prompts of 120 tokens there


def test_command_prints_tables_and_writes_json(capsys, tmp_path, tiny_folder):
    out = tmp_path / "bench.json"
    options = [
        "--model",
        str(tiny_folder),
        "--steps",
        "1",
        "--repeats",
        "1",
        "--prompts",
        "2",
        "--device",
        "cpu",
        "--plans",
        "bf16",
    ]
    assert main(["bench", *options, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| ours, 1 steps | denoise |" in printed and "prompts followed" in printed
    rows = json.loads(out.read_text())["rows"]
    assert [row["name"] for row in rows] == [
        "stock, 1 steps",
        "ours, 1 steps",
        "ours, 1 steps, bf16",
    ]
    assert rows[1]["latents_apart"] < 1e-5
    assert rows[0]["evaluations"] == rows[1]["evaluations"] == 2
    assert rows[2]["precision"] == "bf16" and rows[2]["near"]["psnr"] > 25
    assert 0 < rows[2]["latents_apart"] < 0.1  # other numbers, the same clip
    assert 0 <= rows[1]["followed"] <= 1 and rows[1]["prompts"] == 2


def settings_of(plans, shape="world", stock_steps=None):
    """The rows of 20 steps with these plans; the model's own settings are 50 steps of budget-25."""
    from latte_core.benchmark.command import _settings
    from latte_core.checkpoints import LATTE_1_DEFAULTS

    parts = SimpleNamespace(
        defaults=replace(LATTE_1_DEFAULTS, plan="budget-25"),
        plan=SimpleNamespace(device="cpu", precision="fp32"),
    )
    asked = SimpleNamespace(steps=20, size=None, plans=plans, stock_steps=stock_steps, shape=shape)
    return _settings(asked, parts)


@pytest.mark.parametrize("unit,numbers", [(False, ""), (True, "bf16")])
def test_default_is_a_row_of_what_a_request_gets_here(monkeypatch, unit, numbers):
    monkeypatch.setattr(memory, "cpu_bf16_pays", lambda: unit)
    stock, exact, half, own = settings_of("budget-50,default", stock_steps=50)
    assert [one.steps for one in (stock, exact, half, own)] == [50, 20, 20, 50]
    assert [one.plan for one in (exact, half, own)] == ["full", "budget-50", "budget-25"]
    assert (exact.precision, half.precision, own.precision) == (None, None, numbers or None)
    default = "ours, default settings (50 steps, plan budget-25)"
    assert own.name == (f"{default}, {numbers}" if numbers else default)
    *_, asked = settings_of("default+fp32")
    assert (asked.name, asked.precision) == (default, None)
    *_, random = settings_of("default", shape="latte-1")  # no folder to read other numbers from
    assert (random.name, random.precision) == (default, None)


def test_any_plan_is_a_row_in_other_numbers_too():
    _, _, *rows = settings_of("bf16,budget-50+bf16,default+fp16,full+bf16")
    assert [(one.plan, one.steps, one.precision) for one in rows] == [
        ("full", 20, "bf16"),
        ("budget-50", 20, "bf16"),
        ("budget-25", 50, "fp16"),
        ("full", 20, "bf16"),
    ]
    assert [one.name for one in rows[1:3]] == [
        "ours, 20 steps, plan budget-50, bf16",
        "ours, default settings (50 steps, plan budget-25), fp16",
    ]


def test_turbo_is_a_row_of_its_own_steps(capsys, tmp_path, tiny_folder):
    from latte_core.benchmark.command import ASSETS

    out = tmp_path / "bench.json"
    options = ["--steps", "2", "--repeats", "1", "--prompts", "1", "--plans", "alternate,turbo"]
    assert main(["bench", *options, "--device", "cpu", "--json", str(out)]) == 0
    *_, planned, turbo = json.loads(out.read_text())["rows"]
    card = json.loads((ASSETS / "latte-world" / "latte_manifest.json").read_text())["card"]
    assert turbo["evaluations"] == card["turbo"]["num_inference_steps"]  # a row each, no guidance
    assert turbo["name"].startswith("ours, turbo") and turbo["near"] is None
    assert planned["near"]["ssim"] > 0  # a plan, unlike turbo, is compared with the exact clip
    capsys.readouterr()
    assert main(["bench", "--model", str(tiny_folder), *options, "--device", "cpu"]) == 2
    assert "no turbo transformer" in capsys.readouterr().err
