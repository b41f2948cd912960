"""The engine: a request in, events out, one thread around the model."""
