"""Training: one loop, and the tasks that it trains.

`loop` is the trainer, on one process or several (`parallel`, `average`). It is given a task: a
model, batches by number, a loss and a picture to look at. `stages` goes through a `recipe` of the
bundled model with the tasks `autoencoder` and `text_to_video`; `bundle` puts its parts together.

`run` carries out a `config`, for any Latte and any clips: `networks` makes what it names, `samples`
its batches, `diffusion` is the task, `lora` adds what alone learns, `outcome` writes the result.
"""
