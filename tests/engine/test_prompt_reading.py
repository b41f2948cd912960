"""A run reads its prompt once, whatever the number of steps, and only what its sampler needs."""

from functools import partial

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


def test_a_known_prompt_moves_no_text_encoder(tiny_folder, monkeypatch):
    """Under offload, 9 GB of T5 stay where they are for a new seed, other steps or guidance."""
    moved = []
    with Engine.load(tiny_folder, memory="offload", device="cpu") as engine:

        def note(name, moving, *inputs, **named):
            moved.append(name)
            return moving(*inputs, **named)

        for name, hook in engine._pipeline.policy._hooks.items():
            moving = hook.hook.pre_forward
            monkeypatch.setattr(
                hook.hook,
                "pre_forward",
                partial(note, name, moving),
            )

        def parts_moved(**changes):
            moved.clear()
            values = {"prompt": PROMPT, "seed": 1, "num_inference_steps": 1, **changes}
            engine.generate(GenerationRequest(**values))
            return list(dict.fromkeys(moved))

        assert parts_moved() == ["text_encoder", "transformer", "vae"]
        for change in ({"seed": 2}, {"num_inference_steps": 2}, {"guidance_scale": 2.0}):
            assert parts_moved(**change) == ["transformer", "vae"]
        assert "text_encoder" in parts_moved(prompt="a blue cow")
        assert parts_moved() == ["transformer", "vae"]  # the first is still known
