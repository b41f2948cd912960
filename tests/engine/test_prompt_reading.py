"""A run reads its prompt once, whatever the number of steps, and only what its sampler needs."""

import pytest

from latte_core import Engine, GenerationRequest

PROMPT = "a red rocket flies over the sea"


@pytest.mark.parametrize("mode", ["video", "joint"])
def test_keys_and_values_are_made_once_a_run(tiny_folder, mode):
    with Engine.load(tiny_folder, device="cpu") as engine:
        model, made, seen = engine._pipeline.parts.transformer, [], []
        for block in model.blocks:
            if block.cross is not None:
                block.cross.kv.register_forward_hook(lambda *_: made.append(1))
        model.prompt.register_forward_hook(lambda *_: made.append("projected"))
        model.register_forward_hook(lambda _module, _args, out: seen.append(out.shape[1]))
        engine.generate(GenerationRequest(PROMPT, mode=mode, seed=1, num_inference_steps=5))
        assert made == ["projected", 1, 1]  # once for two blocks, not in each of five steps
        assert seen == [4] * 5  # the mean alone: this sampler reads no variance
