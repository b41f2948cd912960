"""Training without accelerate: the same numbers, the same files, and what it refuses."""

import csv
import math
from collections import namedtuple

import pytest
import torch
from tiny_training import LineTask, Points, tiny_loop
from torch import nn

from latte_core.errors import ConfigError, NonFiniteError
from latte_core.training import parallel
from latte_core.training.loop import Trainer
from latte_core.training.one_process import OneProcess

PLAIN, ACCELERATED = "plain", "accelerated"


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train a line in a folder, with accelerate or as if it were not installed."""

    def run(way, task, folder="run", **changes):
        found = {PLAIN: None, ACCELERATED: object()}[way]
        monkeypatch.setattr(parallel, "find_spec", lambda name: found)
        trainer = Trainer(task, tiny_loop(**changes), tmp_path / folder)
        assert isinstance(trainer.accelerator, OneProcess) == (way == PLAIN)
        trainer.resume()
        average = trainer.run()
        with (trainer.folder / "log.csv").open() as file:
            rows = list(csv.DictReader(file))
        figures = [{k: v for k, v in row.items() if k != "minutes"} for row in rows]
        weights = [p.detach() for m in (trainer.task.model, average) for p in m.parameters()]
        return figures, weights

    return run


class Dropping(LineTask):
    """A line's network that also draws from torch's own generator."""

    def __post_init__(self):
        super().__post_init__()
        self.model.insert(1, nn.Dropout(0.3))


def equal(a, b):
    return a[0] == b[0] and all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))


SETTINGS = {
    "plain": {},
    "bf16": {"precision": "bf16"},
    "accumulating": {"accumulate": 3},
    "clipped": {"clip_norm": 0.01, "clip_after": 2},
}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_losses_and_weights_are_those_of_accelerate(train, changes):
    found, expected = (train(w, Dropping(noise=0.1), w, **changes) for w in (PLAIN, ACCELERATED))
    assert len(found[0]) == 6
    assert equal(found, expected)


def test_settings_reach_the_numbers(train):
    """Positive control: each setting that the comparison turns changes the run."""
    plain = train(PLAIN, LineTask(noise=0.1), "plain")
    for name, changes in list(SETTINGS.items())[1:]:
        assert not equal(train(PLAIN, LineTask(noise=0.1), name, **changes), plain), name


@pytest.mark.parametrize(
    ("first", "second"),
    [(PLAIN, PLAIN), (PLAIN, ACCELERATED), (ACCELERATED, PLAIN)],
)
def test_killed_run_goes_on_bit_equal_in_either_way(train, first, second):
    whole = train(PLAIN, Dropping(noise=0.1), "whole")
    with pytest.raises(KeyboardInterrupt):
        train(first, Dropping(noise=0.1, fail_at=4), "killed")
    assert equal(train(second, Dropping(seed=8, noise=0.1), "killed"), whole)


def test_accumulated_batches_make_one_update(train):
    """Twelve losses, six updates; each is that of one batch of both's points."""
    small = LineTask(batches=Points(4))
    _, found = train(PLAIN, small, "small", accumulate=2)
    _, expected = train(PLAIN, LineTask(batches=Points(8)), "large")
    assert len(small.seen) == 12
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_bf16_computes_in_halves_and_answers_in_float32(tmp_path):
    """Nested outputs are widened; the weights stay as wide as they were."""
    pair = namedtuple("pair", "a b")

    class Net(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            seen.append(y.dtype)
            return pair({"y": y}, [y, (x.long(), 3)])

    seen: list = []
    model = Net(2, 2)
    process = OneProcess(True, "bf16", 1)
    process.prepare(model, torch.optim.AdamW(model.parameters()))
    found = model(torch.ones(1, 2))
    assert seen == [torch.bfloat16]
    assert isinstance(found, pair)
    assert found.a["y"].dtype == found.b[0].dtype == model.weight.dtype == torch.float32
    assert found.b[1][0].dtype == torch.int64 and found.b[1][1] == 3


def test_tied_weights_are_kept_once_and_read_back(tmp_path):
    def tied():
        model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
        model["b"].weight = model["a"].weight
        process = OneProcess(True, "fp32", 1)
        process.prepare(model, torch.optim.AdamW(model.parameters()))
        return process, model

    process, model = tied()
    process.save_state(str(tmp_path))
    again, other = tied()
    assert not torch.equal(other["a"].weight, model["a"].weight)
    again.load_state(str(tmp_path))
    assert other["a"].weight is other["b"].weight
    assert torch.equal(other["a"].weight, model["a"].weight)


def test_state_that_would_run_code_is_refused(train, tmp_path):
    train(PLAIN, LineTask())
    torch.save({"state": print}, tmp_path / "run" / "state" / "optimizer.bin")
    with pytest.raises(Exception, match="print"):
        train(PLAIN, LineTask(), steps=8)


def test_gradient_that_is_no_number_stops_the_run(train):
    task = LineTask()
    task.model[0].weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteError, match=r"gradient is (NaN|infinite) at step 0"):
        train(PLAIN, task)


def test_several_processes_need_accelerate(train, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"one of 2 processes.*pip install accelerate"):
        train(PLAIN, LineTask())


def test_shards_need_several_processes(train):
    with pytest.raises(ConfigError, match="torchrun --nproc_per_node 2"):
        train(PLAIN, LineTask(), strategy="fsdp2")
