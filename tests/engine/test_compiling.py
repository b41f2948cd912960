"""Compiled blocks: what eager gives, compiled at load and never later; no compiler, no harm."""

import numpy as np
import pytest
import torch
from tiny_folder import FRAMES, SIZE
from tiny_requests import ask, same

from latte_core import Engine
from latte_core.model.block import Block


class Graphs:
    """A back end that compiles nothing: counts graphs made and graphs run."""

    def __init__(self):
        self.made = self.run = 0

    def __call__(self, graph, inputs):
        self.made += 1

        def counted(*args):
            self.run += 1
            return graph.forward(*args)

        return counted


@pytest.fixture
def graphs(monkeypatch):
    torch._dynamo.reset()
    found = Graphs()
    compile_with = torch.nn.Module.compile
    monkeypatch.setattr(Block, "compile", lambda self: compile_with(self, backend=found))
    yield found
    torch._dynamo.reset()


REQUESTS = {
    "usual": ask(),
    "longer": ask("a big red rocket flies over the green sea at night in snow"),
    "unguided": ask(guidance_scale=1.0, num_inference_steps=2),
    "plan": ask(plan="guidance-cache"),
}
OTHERS = {
    "size": ask(height=32, width=32, num_inference_steps=1),
    "negative": ask(negative_prompt="a blurry yellow cat runs in", num_inference_steps=1),
    "joint": ask(mode="joint", num_images=2, num_inference_steps=1),
}


def test_blocks_are_compiled_at_load_and_never_later(tiny_folder, graphs):
    told = []
    with (
        Engine.load(tiny_folder) as plain,
        Engine.load(tiny_folder).compile(told.append) as engine,
    ):
        assert [event.stage for event in told] == ["compile", "compiled"]
        assert "Compiled once in" in engine.describe().plan
        blocks = len(engine._pipeline.parts.transformer.blocks)
        made = graphs.made
        assert 4 <= made < 2 * 2 * blocks  # one and two rows of either kind, shared by all blocks
        for name, request in (REQUESTS | OTHERS).items():
            graphs.run = 0
            ours = engine.generate(request)
            used = graphs.run
            assert np.allclose(ours.latents, plain.generate(request).latents, atol=1e-4), name
            assert graphs.made == made, f"{name} was compiled for"
            steps = request.num_inference_steps
            if name in REQUESTS:  # every block of every pass
                assert used == blocks * steps
            assert ours.recipe["compiled"]
        graphs.run = 0
        engine.generate(OTHERS["size"])
        assert graphs.run == 0  # another shape runs as without a compiler


def test_a_plan_that_streams_lets_the_blocks_go(tiny_folder, graphs):
    from dataclasses import replace

    with Engine.load(tiny_folder).compile() as engine:
        plan = replace(engine._pipeline.parts.plan, name="streamed", streamed=True)
        engine._ladder.place(plan)
        graphs.run = 0
        assert "compiled" not in engine.generate(ask()).recipe
        assert graphs.run == 0


def test_a_machine_without_a_compiler_stays_eager_and_says_so(tiny_folder, monkeypatch):
    from torch._inductor import config

    torch._dynamo.reset()
    monkeypatch.setenv("PATH", "")
    told = []
    broken = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    monkeypatch.setattr(config, "compile_threads", 1)
    for name, value in broken.items():
        owner, _, own = name.rpartition(".")
        monkeypatch.setattr(getattr(config, owner) if owner else config, own, value)
    with (
        Engine.load(tiny_folder) as plain,
        Engine.load(tiny_folder).compile(told.append) as engine,
    ):
        (said,) = [event.message for event in told if event.stage == "compiled"]
        assert "Not compiled" in said and "install g++ or clang" in said
        assert said in engine.describe().plan
        made = engine.generate(ask())
        assert "compiled" not in made.recipe
        assert same(made, plain.generate(ask()))
    torch._dynamo.reset()


@pytest.mark.slow
def test_what_is_really_compiled_gives_what_eager_gives(tiny_folder):
    torch._dynamo.reset()
    with Engine.load(tiny_folder) as plain, Engine.load(tiny_folder).compile() as engine:
        assert "Compiled once in" in engine.describe().plan
        for request in REQUESTS.values():
            ours, theirs = engine.generate(request), plain.generate(request)
            assert np.allclose(ours.latents, theirs.latents, atol=1e-4)
    assert theirs.frames.shape[:3] == (FRAMES, SIZE, SIZE)
    torch._dynamo.reset()
