"""Attention maps: rows sum to 1, equal torch's own attention, and looking changes nothing."""

import math

import numpy as np
import pytest
import torch
from tiny_requests import ask, same

from latte_core import (
    Cancelled,
    Engine,
    Inspected,
    Inspection,
    Latte,
    ModelConfig,
    RequestError,
    Step,
)
from latte_core.engine.inspection import Capture, attention_weights, capturing
from latte_core.model.positions import rope_table


def tiny(**fields):
    """Blocks that run in milliseconds, for clips of 5 frames with 16 tokens each."""
    values = {"hidden_size": 48, "depth": 4, "num_heads": 4, "sample_size": 8, "num_frames": 5}
    return ModelConfig(**(values | fields))


def look(engine, request, step, places=()):
    events = list(engine.submit(Inspection(request, step, places)).events())
    assert isinstance(events[-1], Inspected)
    return events[-1], events[:-1]


def reference(layer, x, rope=None):
    """Weights (B, S, S) by torch's attention: applied to the identity it gives them back."""
    q, k, _ = layer.qkv(x).chunk(3, dim=-1)
    q, k = (t.reshape(*t.shape[:2], layer.num_heads, -1).movedim(2, 1) for t in (q, k))
    if rope is not None:
        pairs = [torch.complex(*t.chunk(2, dim=-1)) for t in (q, k)]
        turns = torch.complex(*rope[:, : x.shape[1]])
        q, k = (torch.cat([(p * turns).real, (p * turns).imag], dim=-1) for p in pairs)
    eye = torch.eye(x.shape[1]).expand(*q.shape[:2], -1, -1)
    return torch.nn.functional.scaled_dot_product_attention(q, k, eye).mean(1)


@pytest.mark.parametrize("with_rope", [False, True])
def test_weights_equal_torchs_own_attention(with_rope):
    torch.manual_seed(0)
    config = tiny(temporal_positions="rope")
    layer = Latte(config).blocks[1].attn["time"]
    x = torch.randn(3, 7, config.hidden_size)
    rope = rope_table(config.head_dim, 7, x.device) if with_rope else None
    with torch.no_grad():
        weights = attention_weights(layer, x, rope)
        assert torch.allclose(weights, reference(layer, x, rope), atol=1e-6)
        assert torch.allclose(weights.sum(-1), torch.ones(3, 7))
        some = attention_weights(layer, x, rope, [4, 1])
        assert torch.allclose(some, weights[:, [4, 1]], atol=1e-6)
        assert not torch.allclose(weights, weights.mT, atol=1e-4)  # rows are not columns


@pytest.mark.parametrize("variant", [1, 2, 3, 4])
def test_every_variant_tells_what_its_blocks_attend(variant):
    torch.manual_seed(1)
    model = Latte(tiny(variant=variant)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    inputs = {}
    for index, block in enumerate(model.blocks):
        for axis, layer in block.attn.items():
            layer.register_forward_pre_hook(
                lambda _, args, key=(index, axis): inputs.update({key: args[0]})
            )
    latents = torch.randn(2, 4, 5, 8, 8)
    capture = Capture(rows=2, frames=5, tokens=16, places=(3, 9), armed=True)
    with torch.no_grad(), capturing(model, capture):
        model(latents, torch.tensor([500, 500]))
    wanted = {(i, axis) for i, block in enumerate(model.blocks) for axis in block.spec.axes}
    assert capture.maps.keys() == wanted
    for (index, axis), found in capture.maps.items():
        with torch.no_grad():
            whole = reference(model.blocks[index].attn[axis], inputs[index, axis])
        if axis == "space":  # (2 * 5, 16, 16), the prompt's own rows last
            assert torch.allclose(found, whole[5:, [3, 9]].transpose(0, 1), atol=1e-6)
        else:  # (2 * 16, 5, 5)
            assert torch.allclose(found, whole[16:][[3, 9]], atol=1e-6)
    before = dict(capture.maps)
    with torch.no_grad():
        model(latents, torch.tensor([100, 100]))
    assert capture.maps == before  # the hooks are gone


def test_condition_tokens_are_left_out_of_the_maps():
    model = Latte(tiny(injection="all_tokens", conditioning="class", num_classes=3)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    capture = Capture(rows=1, frames=5, tokens=16, places=(0,), armed=True)
    with torch.no_grad(), capturing(model, capture):
        model(torch.randn(1, 4, 5, 8, 8), torch.tensor([9]), class_labels=torch.tensor([1]))
    assert capture.maps[0, "space"].shape == (1, 5, 16)
    assert capture.maps[1, "time"].shape == (1, 5, 5)
    for weights in capture.maps.values():
        sums = weights.sum(-1)
        assert bool((sums < 1 - 1e-4).all()) and bool((sums > 0).all())


def test_inspection_of_a_run_gives_maps_of_every_block(engine):
    request = ask(num_inference_steps=3, seed=5)
    found, events = look(engine, request, 2)
    whole = [e for e in engine.stream(request) if isinstance(e, Step)]
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.index for step in steps] == [1, 2]
    for step, own in zip(steps, whole[1:], strict=False):  # the same run, to the bit
        assert np.array_equal(step.preview, own.preview)
    assert np.array_equal(found.preview, whole[2].preview)
    assert (found.step, found.total, found.grid, found.variant) == (2, 3, (4, 4), 1)
    assert [block.axes for block in found.blocks] == [("space",), ("time",)] * 2
    for block in found.blocks:
        for values, columns in ((block.space, 16), (block.time, 8)):
            if values is not None:
                assert values.shape == (16, 8, columns) and values.dtype == np.float32
                assert np.allclose(values.sum(-1), 1, atol=1e-5) and values.min() >= 0
    assert (found.blocks[0].time, found.blocks[1].space) == (None, None)


def test_maps_differ_by_step_seed_and_place(engine):
    request = ask(num_inference_steps=3, seed=5)
    first, third = (look(engine, request, step)[0].blocks[1].time for step in (1, 3))
    other = look(engine, ask(num_inference_steps=3, seed=6), 1)[0].blocks[1].time
    assert np.abs(first - third).max() > 1e-6 and np.abs(first - other).max() > 1e-6
    some, _ = look(engine, request, 1, places=(7, 2))
    assert np.allclose(some.blocks[1].time, first[[7, 2]], atol=1e-6) and some.places == (7, 2)
    assert np.abs(first[7] - first[2]).max() > 1e-6


def test_looking_leaves_the_engine_as_it_was(engine):
    request = ask(num_inference_steps=2, seed=9)
    before = engine.generate(request)
    look(engine, request, 1)
    assert same(before, engine.generate(request))
    layers = engine._pipeline.parts.transformer.blocks[0].attn.values()
    assert all(not layer._forward_pre_hooks for layer in layers)


def test_stills_do_not_change_what_the_clip_attends_to(engine):
    alone, _ = look(engine, ask(num_inference_steps=2, seed=3), 1)
    joint, _ = look(engine, ask(num_inference_steps=2, seed=3, mode="joint", num_images=2), 1)
    assert np.array_equal(alone.blocks[1].time, joint.blocks[1].time)


@pytest.mark.parametrize("step", [0, 4, -1, True, "1", 1.0])
def test_steps_that_there_are_not_are_refused(engine, step):
    with pytest.raises(RequestError, match="this run has the steps 1 to 3"):
        look(engine, ask(num_inference_steps=3), step)


@pytest.mark.parametrize("places", [(16,), (-1,), (True,), tuple(range(16)) * 5])
def test_places_that_there_are_not_are_refused(engine, places):
    with pytest.raises(RequestError) as caught:
        look(engine, ask(num_inference_steps=1), 1, places)
    assert caught.value.field == "places"


def test_inspection_can_be_stopped(engine):
    job = engine.submit(Inspection(ask(num_inference_steps=50), 50))
    seen = []
    with pytest.raises(Cancelled):
        for event in job.events():
            seen.append(event)
            job.cancel()
    assert len(seen) < 50


def test_uniform_queries_give_uniform_weights():
    torch.manual_seed(0)
    layer = Latte(tiny()).blocks[0].attn["space"]
    with torch.no_grad():
        weights = attention_weights(layer, torch.ones(1, 6, layer.qkv.in_features))
    assert math.isclose(float(weights.max()), 1 / 6, rel_tol=1e-5)


def test_offloaded_model_can_be_looked_into(tiny_folder):
    request = ask(num_inference_steps=1, seed=1)
    with Engine.load(tiny_folder) as resident, Engine.load(tiny_folder, memory="offload") as moved:
        one, _ = look(resident, request, 1)
        other, _ = look(moved, request, 1)
    assert np.allclose(one.blocks[0].space, other.blocks[0].space, atol=1e-6)
