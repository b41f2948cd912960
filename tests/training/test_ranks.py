"""Several processes: DDP and FSDP2 on two CPU processes against one process; SIGKILL and resume."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from train_ranks import make_trainer

from latte_core.errors import ConfigError

HERE = Path(__file__).parent


def environment():
    environ = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    return environ


def rows(folder):
    with (folder / "log.csv").open() as file:
        return {int(row["step"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Two processes: six steps by DDP; three by FSDP2, and six after a resume; six at once."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    runs = ["ddp:ddp:6", "cut:fsdp2:3", "cut:fsdp2:6", "sharded:fsdp2:6"]
    done = subprocess.run(
        [*command, str(HERE / "train_ranks.py"), str(folder), *runs],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process that accumulates two batches: the same global batch."""
    trainer = make_trainer(tmp_path_factory.mktemp("alone"), accumulate=2)
    average = trainer.run()
    return trainer.folder, trainer.task.model.state_dict(), average.state_dict()


def load(folder, name, steps=6):
    return [torch.load(folder / f"{name}-{steps}-{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", ["ddp", "sharded"])
def test_both_ranks_hold_equal_parameters(ranks, name):
    first, second = load(ranks, name)
    for part in ("weights", "average"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(first[part][n], second[part][n]) for n in first[part])


@pytest.mark.parametrize("name", ["ddp", "sharded"])
def test_two_processes_agree_with_one(ranks, alone, name):
    """Same global batch: losses, gradient norms, weights and average, to float tolerance."""
    folder, weights, average = alone
    found = load(ranks, name)[0]
    one, two = rows(folder), rows(ranks / name)
    assert list(one) == list(two) == [1, 2, 3, 4, 5, 6]
    for step, row in one.items():
        for figure in ("loss", "mse", "vb", "grad_norm"):
            assert float(two[step][figure]) == pytest.approx(float(row[figure]), rel=1e-3)
    for expected, part in ((weights, "weights"), (average, "average")):
        for key, value in expected.items():
            if key.endswith("qkv.bias"):
                continue  # a key's bias changes nothing, so Adam makes steps of rounding errors
            torch.testing.assert_close(found[part][key], value, rtol=1e-2, atol=1e-3)
    losses = [float(row["loss"]) for row in one.values()]
    assert max(losses) - min(losses) > 0.01  # positive control: steps differ


def test_fsdp2_shards_the_weights(ranks):
    first, second = load(ranks, "sharded")
    total = sum(value.numel() for value in first["weights"].values())
    assert 0 < first["shards"] < 0.7 * total
    assert first["shards"] + second["shards"] == total
    assert load(ranks, "ddp")[0]["shards"] == 0


def test_sharded_run_goes_on_bit_equal(ranks):
    for cut, whole in zip(load(ranks, "cut"), load(ranks, "sharded"), strict=True):
        for part in ("weights", "average"):
            assert all(torch.equal(cut[part][n], whole[part][n]) for n in whole[part])
    one, two = rows(ranks / "cut"), rows(ranks / "sharded")
    assert [row["loss"] for row in one.values()] == [row["loss"] for row in two.values()]
    early = load(ranks, "cut", 3)[0]["weights"]
    assert not all(torch.equal(early[n], v) for n, v in load(ranks, "cut")[0]["weights"].items())


def test_fsdp2_on_one_process_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="torchrun"):
        make_trainer(tmp_path, "fsdp2")


def test_run_that_was_killed_goes_on_bit_equal(tmp_path):
    """SIGKILL of a real process in the middle of its work; losses are those of a whole run."""
    command = [sys.executable, str(HERE / "train_ranks.py"), str(tmp_path), "killed:slow:400"]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    log = tmp_path / "killed" / "log.csv"
    end = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < end:
        if log.is_file() and log.read_text().count("\n") > 6:
            break
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read()[-3000:]
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    killed = make_trainer(tmp_path / "killed", save_every=2)
    assert killed.resume()
    reached = killed.progress.step
    assert reached >= 4
    steps = reached + 4
    killed = make_trainer(tmp_path / "killed", steps=steps, save_every=2)
    killed.resume()
    killed.run()
    whole = make_trainer(tmp_path / "whole", steps=steps, save_every=2)
    whole.run()
    one, two = rows(tmp_path / "killed"), rows(tmp_path / "whole")
    assert list(one) == list(range(1, steps + 1))
    for step, row in two.items():
        for figure in ("loss", "mse", "vb", "grad_norm"):
            assert one[step][figure] == row[figure]
    pairs = zip(whole.task.model.parameters(), killed.task.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
