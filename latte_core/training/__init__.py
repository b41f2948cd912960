"""Training: one loop, and the tasks that it trains.

`loop` is the trainer; `autoencoder` and `text_to_video` are what it is given: a model, batches by
number, a loss and a picture to look at. `bundle` puts the trained parts into a model folder.
"""
