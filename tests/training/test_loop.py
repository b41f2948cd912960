"""The trainer: exact resume, schedule, average, accumulation, two processes."""

import csv
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import LineTask, Points
from tiny_training import tiny_loop as config

from latte_core.errors import ConfigError, NonFiniteError
from latte_core.training.autoencoder import Frames
from latte_core.training.average import averaged
from latte_core.training.loop import LoopConfig, Trainer, learning_rate_factor, to_device

HERE = Path(__file__).parent


def rows(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def same(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_killed_run_goes_on_bit_equal(tmp_path):
    whole = Trainer(LineTask(noise=0.1), config(), tmp_path / "whole")
    average = whole.run()
    killed = Trainer(LineTask(noise=0.1, fail_at=4), config(), tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    torch.manual_seed(99)
    again = Trainer(LineTask(seed=8, noise=0.1), config(), tmp_path / "killed")
    assert not same(again.task.model, killed.task.model)
    assert again.resume()
    assert again.progress.step == 3
    resumed = again.run()
    assert same(again.task.model, whole.task.model)
    assert same(resumed, average)
    figures = {row["step"]: (row["loss"], row["error"]) for row in rows(tmp_path / "whole")}
    assert list(figures) == ["1", "2", "3", "4", "5", "6"]
    for row in rows(tmp_path / "killed"):
        assert (row["loss"], row["error"]) == figures[row["step"]]


def test_batches_and_noise_depend_on_the_position(tmp_path):
    """Positive control: a run that forgets its position ends elsewhere."""
    whole = Trainer(LineTask(noise=0.1), config(), tmp_path / "whole")
    whole.run()
    for forgotten in (0, 2):
        again = Trainer(LineTask(noise=0.1), config(steps=3), tmp_path / f"from-{forgotten}")
        again.run()
        again.config = config()
        again.progress.step = forgotten
        again.run()
        assert not same(again.task.model, whole.task.model)


def test_finished_run_is_not_trained_on(tmp_path):
    first = Trainer(LineTask(), config(), tmp_path)
    first.run()
    again = Trainer(LineTask(seed=1), config(), tmp_path)
    assert again.resume()
    again.run()
    assert again.task.seen == []
    assert same(again.task.model, first.task.model)


def test_all_of_a_batch_goes_to_the_device():
    one = torch.zeros(2)
    batch = {"alone": one, "named": Frames(one, one), "words": ["kept"]}
    moved = to_device(batch, torch.device("meta"))
    assert isinstance(moved["named"], Frames)
    tensors = (moved["alone"], *moved["named"])
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 3
    assert moved["words"] == ["kept"]


def test_new_folder_has_nothing_to_resume(tmp_path):
    assert not Trainer(LineTask(), config(), tmp_path / "new").resume()


@pytest.mark.parametrize("killed_in", ["writing", "swapping", "swapping first", "cleaning"])
def test_kill_while_saving_costs_nothing(tmp_path, killed_in):
    trainer = Trainer(LineTask(), config(steps=3), tmp_path)
    trainer.run()
    state, old, new = (tmp_path / name for name in ("state", "state-old", "state-new"))
    if killed_in == "writing":
        new.mkdir()
        (new / "model.safetensors").write_bytes(b"half")
    elif killed_in == "swapping":
        shutil.copytree(state, new)
        state.rename(old)
    elif killed_in == "swapping first":
        state.rename(old)
    else:
        old.mkdir()
        (old / "rest").write_bytes(b"old")
    again = Trainer(LineTask(seed=5), config(), tmp_path)
    assert again.resume()
    assert again.progress.step == 3
    again.run()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["state"]
    third = Trainer(LineTask(seed=6), config(), tmp_path)
    assert third.resume()
    assert third.progress.step == 6


def test_learning_rate_rises_stays_and_falls_to_zero(tmp_path):
    plan = config(warmup_steps=10, decay_share=0.5)
    assert learning_rate_factor(plan, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate_factor(plan, 9, 0.1) == 1
    assert learning_rate_factor(plan, 50, 0.5) == 1
    assert learning_rate_factor(plan, 75, 0.75) == pytest.approx(0.5)
    assert learning_rate_factor(plan, 100, 1.0) == 0
    assert learning_rate_factor(plan, 100, 1.2) == 0
    assert learning_rate_factor(config(decay_share=0.0), 999, 1.0) == 1
    trainer = Trainer(LineTask(), config(warmup_steps=2, decay_share=0.5), tmp_path)
    rates, step = [], trainer._step
    trainer._step = lambda *given: (
        step(*given),
        rates.append(trainer.optimizer.param_groups[0]["lr"]),
    )[0]
    trainer.run()
    assert rates == pytest.approx([0.025, 0.05, 0.05, 0.05, 0.05 * 2 / 3, 0.05 / 3])


def test_average_equals_the_closed_form(tmp_path):
    task = LineTask(noise=0.1)
    trainer = Trainer(task, config(steps=30, ema_decay=0.5, warmup_steps=1), tmp_path)
    average = trainer.run()
    weights = [*task.seen[1:], task.model[0].weight.detach()]  # after updates 1 to 30
    decays = [min(0.5, (1 + n) / (10 + n)) for n in range(1, 30)]
    shares = [1.0, *(1 - d for d in decays)]  # the first update copies
    kept = [math.prod(decays[k:]) for k in range(30)]
    expected = sum(s * k * w for s, k, w in zip(shares, kept, weights, strict=True))
    assert sum(s * k for s, k in zip(shares, kept, strict=True)) == pytest.approx(1)
    torch.testing.assert_close(average[0].weight.detach(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(expected, weights[-1], atol=1e-3)


def test_average_keeps_tied_weights_tied():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    average = averaged(model, 0.9)
    average.update_parameters(model)
    assert average.module["a"].weight is average.module["b"].weight


def test_accumulated_batches_equal_one_large_batch(tmp_path):
    small = LineTask(batches=Points(4))
    Trainer(small, config(accumulate=2), tmp_path / "small").run()
    large = LineTask(batches=Points(8))
    Trainer(large, config(), tmp_path / "large").run()
    half = LineTask(batches=Points(4))
    Trainer(half, config(), tmp_path / "half").run()
    assert len(small.seen) == 12
    torch.testing.assert_close(small.model[0].weight, large.model[0].weight)
    assert not torch.allclose(half.model[0].weight, large.model[0].weight, atol=1e-3)


def test_training_fits_the_line(tmp_path):
    trainer = Trainer(LineTask(), config(steps=150, save_every=200, log_every=50), tmp_path)
    trainer.run()
    errors = [float(row["error"]) for row in rows(tmp_path)]
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize(("spoilt", "word"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_loss_that_is_no_number_stops_the_run_before_it_is_used(tmp_path, spoilt, word):
    trainer = Trainer(LineTask(spoil_at=5, spoil_with=spoilt), config(), tmp_path)
    told = rf"loss is {word} at step 4\. Lower the learning rate \(0.05\)"
    with pytest.raises(NonFiniteError, match=told):
        trainer.run()
    assert all(torch.isfinite(p).all() for p in trainer.task.model.parameters())
    again = Trainer(LineTask(), config(), tmp_path)
    assert again.resume()
    again.run()
    assert all(torch.isfinite(p).all() for p in again.task.model.parameters())


def test_gradient_that_is_no_number_stops_the_run(tmp_path):
    task = LineTask()
    task.model[0].weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteError, match=r"gradient is (NaN|infinite) at step 0"):
        Trainer(task, config(), tmp_path).run()
    assert torch.equal(task.model[0].weight, LineTask().model[0].weight)


def test_gradient_is_held_from_the_step_that_is_asked_for(tmp_path):
    """SGD-like check through Adam's first moment: (1 - 0.9) times the gradient it was given."""

    def first_moment(**changes):
        task = LineTask()
        trainer = Trainer(task, config(steps=1, **changes), tmp_path / str(changes))
        trainer.run()
        norms = [state["exp_avg"].norm() for state in trainer.optimizer.state.values()]
        return float(torch.stack(norms).norm()) / 0.1, float(rows(trainer.folder)[0]["grad_norm"])

    norm, logged = first_moment(clip_norm=1e9)
    assert norm == pytest.approx(logged, rel=1e-4)
    assert first_moment(clip_norm=norm / 2) == pytest.approx((norm / 2, norm), rel=1e-3)
    assert first_moment(clip_norm=norm / 2, clip_after=1)[0] == pytest.approx(norm, rel=1e-4)


def test_average_without_warmup_starts_from_the_first_weights(tmp_path):
    task = LineTask()
    first = task.model[0].weight.detach().clone()
    trainer = Trainer(task, config(steps=1, ema_decay=0.75, ema_warmup=False), tmp_path)
    average = trainer.run()
    expected = 0.75 * first + 0.25 * task.model[0].weight.detach()
    torch.testing.assert_close(average[0].weight.detach(), expected)


def test_log_shows_the_mean_over_accumulated_batches(tmp_path):
    small = LineTask(batches=Points(4))
    Trainer(small, config(accumulate=2, steps=1), tmp_path / "small").run()
    Trainer(LineTask(batches=Points(8)), config(steps=1), tmp_path / "large").run()
    losses = [float(rows(tmp_path / name)[0]["loss"]) for name in ("small", "large")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_resumed_run_cuts_its_log_back(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Trainer(LineTask(fail_at=5), config(), tmp_path).run()
    with (tmp_path / "log.csv").open("a") as file:
        file.write("6,0.1,0.")  # cut off by a kill
    again = Trainer(LineTask(), config(), tmp_path)
    again.resume()
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3"]
    again.run()
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3", "4", "5", "6"]


def test_log_of_an_older_version_keeps_its_columns(tmp_path):
    (tmp_path / "log.csv").write_text("step,minutes,loss\n")
    Trainer(LineTask(), config(steps=1), tmp_path).run()
    assert set(rows(tmp_path)[0]) == {"step", "minutes", "loss"}


def test_compiled_run_saves_plain_names(tmp_path, monkeypatch):
    """The original's checkpoints of compiled models did not load (reference 8.1, defect 9)."""
    compiled = []
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda m: compiled.append(real(m, backend="eager")) or compiled[0]
    )
    Trainer(LineTask(), config(steps=2, compile=True), tmp_path).run()
    assert all(name.startswith("_orig_mod.") for name in compiled[0].state_dict())
    plain = Trainer(LineTask(seed=1), config(steps=2), tmp_path)
    assert plain.resume()
    assert plain.progress.step == 2
    again = Trainer(LineTask(), config(steps=2), tmp_path / "plain")
    again.run()
    for ours, theirs in zip(plain.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_clock_ends_the_run(tmp_path):
    trainer = Trainer(LineTask(), config(minutes=0.5), tmp_path)
    trainer.progress.seconds = 15.0
    assert trainer._share() == 0.5
    trainer.progress.seconds = 30.0
    trainer.run()
    assert trainer.task.seen == []


def test_sheets_and_figures_are_written(tmp_path):
    Trainer(LineTask(), config(picture_every=4, log_every=4), tmp_path).run()
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [
        "sheet-0000004.png",
        "sheet-0000006.png",
    ]
    assert [row["step"] for row in rows(tmp_path)] == ["4", "6"]
    assert set(rows(tmp_path)[0]) == {"step", "minutes", "error", "loss", "grad_norm"}


def test_stages_of_other_precision_follow_each_other(tmp_path):
    Trainer(LineTask(), config(steps=1), tmp_path / "a").run()
    trainer = Trainer(LineTask(), config(steps=1, precision="bf16"), tmp_path / "b")
    assert trainer.accelerator.mixed_precision == "bf16"
    trainer.run()
    assert Trainer(LineTask(), config(), tmp_path / "c").accelerator.mixed_precision == "no"


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"accumulate": 0}, {"decay_share": 1.5}, {"ema_decay": 1.0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LoopConfig(**wrong)


def test_two_processes_train_one_model(tmp_path):
    """Both ranks end with the same weights: those of one process that accumulates two batches."""
    environ = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(HERE / "train_line.py"), str(tmp_path)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank-{r}.pt") for r in (0, 1))
    task = LineTask(noise=0.1)
    Trainer(task, config(accumulate=2), tmp_path / "one").run()
    for name, value in task.model.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5)
    assert [row["step"] for row in rows(tmp_path / "run")] == ["1", "2", "3", "4", "5", "6"]
