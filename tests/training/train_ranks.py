"""Started by torchrun, or alone: train a tiny joint class model, by DDP or by FSDP2.

Arguments: a folder, then runs as NAME:STRATEGY:STEPS. A run of a name that was there goes on.
Every process writes what its whole weights and average are at the end of each run.
"""

import sys
import time
from pathlib import Path

import torch
from tiny_clips import stir, tiny_shape, tiny_task
from tiny_training import tiny_loop

from latte_core.training.loop import Trainer


def make_trainer(folder, strategy="ddp", steps=6, **changes):
    task = tiny_task(tiny_shape("class", depth=4), images=1)
    stir(task.model)
    own = {"learning_rate": 1e-2, "decay_share": 0.0, "strategy": strategy}
    config = tiny_loop(steps=steps, **(own | changes))
    return Trainer(task, config, folder)


def whole(model):
    state = model.state_dict()
    return {n: p.full_tensor() if hasattr(p, "full_tensor") else p for n, p in state.items()}


def slowed(trainer, seconds):
    """Give a test the time to kill the run."""
    step = trainer._step
    trainer._step = lambda *given: (time.sleep(seconds), step(*given))[1]
    return trainer


if __name__ == "__main__":
    top = Path(sys.argv[1])
    for run in sys.argv[2:]:
        name, strategy, steps = run.split(":")
        if strategy == "slow":
            trainer = slowed(make_trainer(top / name, "ddp", int(steps), save_every=2), 0.05)
        else:
            trainer = make_trainer(top / name, strategy, int(steps))
        trainer.resume()
        average = trainer.run()
        model = trainer.accelerator.unwrap_model(trainer.model)
        shards = sum(p.to_local().numel() for p in model.parameters() if hasattr(p, "to_local"))
        found = {"weights": whole(model), "average": average.state_dict(), "shards": shards}
        torch.save(found, top / f"{name}-{steps}-{trainer.accelerator.process_index}.pt")
