"""Requests for the tiny model, and when two results count as the same."""

import numpy as np

from latte_core import GenerationRequest

PROMPT = "a red rocket flies over the sea"
WAIT_S = 60  # for threads; only a hang takes so long


def ask(prompt=PROMPT, **fields):
    """A short request with a fixed seed."""
    return GenerationRequest(prompt, **{"seed": 7, "num_inference_steps": 4, **fields})


def same(one, other):
    """Whether two generations are equal to the byte."""
    return (
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.latents, other.latents)
        and np.array_equal(one.initial_latents, other.initial_latents)
        and len(one.stills) == len(other.stills)
        and all(map(np.array_equal, one.stills, other.stills))
    )


def count_rows(engine, monkeypatch):
    """A list to which every call of the transformer adds the number of its rows."""
    rows, model = [], engine._pipeline.parts.transformer
    forward = model.forward

    def counted(latents, *args, **options):
        rows.append(len(latents))
        return forward(latents, *args, **options)

    monkeypatch.setattr(model, "forward", counted)
    return rows
