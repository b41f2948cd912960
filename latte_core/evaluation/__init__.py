"""Evaluation: does a clip show what its prompt says?

`probe` is a small network that names subject, motion, scene and colour of a clip of the world;
`prompt_following` generates clips for held-out prompts and reports how often the probe agrees,
with real clips as the ceiling and shuffled prompts as the floor.
"""
