import torch

from latte_core.engine.memory import MemoryMeter

GIB = 2**30


def test_meter_sees_what_a_run_takes_and_gives_back():
    meter = MemoryMeter("cpu")
    ballast = torch.ones(GIB // 16)  # a quarter of a GiB
    meter.sample()
    del ballast
    used = meter.gib()
    assert used["peak"] - used["before"] > 0.2
    assert used["peak"] - used["after"] > 0.2


def test_meter_of_an_idle_run_sees_nothing():
    used = MemoryMeter("cpu").gib()
    assert abs(used["peak"] - used["before"]) < 0.1
