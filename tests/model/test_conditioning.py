"""The three injections, each against the layer that it stands for."""

import torch
from diffusers.models.normalization import AdaLayerNormSingle
from model_builders import noise, random_model, relative, tiny
from torch import nn

from latte_core.model.conditioning import (
    AdaLNSingle,
    AllTokens,
    SharedLinear,
    TimestepEmbedding,
    append_tokens,
    modulations,
)


def test_all_tokens_modulation_is_an_ordinary_layer_norm() -> None:
    own, norm, x = AllTokens(48, 6), nn.LayerNorm(48, eps=1e-6), noise(2, 3, 5, 48)
    nn.init.normal_(own.table)
    attn, mlp = modulations(own(torch.empty(0)))
    norm.bias.data, norm.weight.data = own.table.data[2], 1 + own.table.data[3]
    with torch.no_grad():
        assert relative(mlp.pre(x), norm(x)) < 1e-6
    assert attn.gate.eq(1).all()
    assert own.table.shape == (4, 48)


def test_adaln_single_equals_diffusers() -> None:
    theirs = AdaLayerNormSingle(48)
    timestep, shared, own = TimestepEmbedding(48), SharedLinear(48, 6), AdaLNSingle(48, 6)
    nn.init.normal_(own.table)
    embedder = theirs.emb.timestep_embedder
    for ours, other in (
        (timestep.fc1, embedder.linear_1),
        (timestep.fc2, embedder.linear_2),
        (shared.linear, theirs.linear),
    ):
        ours.load_state_dict(other.state_dict())
    at = torch.tensor([3, 700])
    with torch.no_grad():
        vector, embedded = theirs(at, hidden_dtype=torch.float32)
        wanted = (own.table[None] + vector.reshape(2, 6, -1)).unbind(1)
        found = own(shared(timestep(at)[:, None, None]))
    assert torch.equal(timestep(at), embedded)
    for ours, other in zip(found, wanted, strict=True):
        assert torch.equal(ours[:, 0, 0], other)


def test_condition_tokens_stand_behind_the_others_in_both_axes() -> None:
    x = noise(2, 5, 9, 48)
    shared, own = noise(2, 1, 1, 48, seed=1), noise(2, 5, 1, 48, seed=2)
    video = append_tokens(x, [shared, shared + 1], stills=False)
    assert video.shape == (2, 7, 11, 48)
    assert torch.equal(video[:, :5, :9], x)
    assert torch.equal(video[:, 3, 9], shared[:, 0, 0])
    assert torch.equal(video[:, 5, 4], shared[:, 0, 0])
    assert torch.equal(video[:, 6, 4], shared[:, 0, 0] + 1)
    stills = append_tokens(x, [shared, own], stills=True)
    assert stills.shape == (2, 5, 11, 48)
    assert torch.equal(stills[:, 4, 10], own[:, 4, 0])


def test_all_tokens_condition_reaches_time_attention() -> None:
    """With space attention silenced, the timestep can only act through the tokens in time."""
    model = random_model(tiny(injection="all_tokens"))
    for block in model.blocks[::2]:
        nn.init.zeros_(block.attn["space"].proj.weight)
    with torch.no_grad():
        latents = noise(1, 4, 4, 8, 8)
        early, late = (model(latents, torch.tensor([t])) for t in (5, 900))
        assert relative(early, late) > 1e-3
        for block in model.blocks[1::2]:
            nn.init.zeros_(block.attn["time"].proj.weight)
        early, late = (model(latents, torch.tensor([t])) for t in (5, 900))
    assert relative(early, late) == 0
