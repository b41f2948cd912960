"""Started by torchrun: train a line on every process and write what each ends with."""

import sys
from pathlib import Path

import torch
from tiny_training import LineTask

from latte_core.training.loop import LoopConfig, Trainer

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = LoopConfig(
        steps=6,
        learning_rate=0.05,
        warmup_steps=2,
        ema_decay=0.9,
        workers=0,
        log_every=1,
        save_every=3,
        device="cpu",
    )
    trainer = Trainer(LineTask(noise=0.1), config, folder / "run")
    trainer.run()
    rank = trainer.accelerator.process_index
    torch.save(trainer.task.model.state_dict(), folder / f"rank-{rank}.pt")
