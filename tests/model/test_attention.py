"""Attention against the formula written out, for every back end that torch has here."""

import pytest
import torch
from model_builders import noise, relative
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from latte_core.model.attention import (
    CrossAttention,
    Prompt,
    SelfAttention,
    attention,
    fold,
    unfold,
    wants_products,
)

HEADS = 4


def plain_formula(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k / sqrt(d)) v, head by head."""
    width = q.shape[2] // HEADS
    out = []
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, :, part] @ k[:, :, part].transpose(1, 2) / width**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -torch.inf)
        out.append(scores.softmax(-1) @ v[:, :, part])
    return torch.cat(out, dim=2)


def backends() -> list[tuple[SDPBackend, str]]:
    """Back ends that run the same call on this machine's devices."""
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    found = []
    for device in devices:
        x = torch.zeros(1, 1, 2, 8, device=device)
        for backend in SDPBackend.__members__.values():
            try:
                with sdpa_kernel(backend):
                    torch.nn.functional.scaled_dot_product_attention(x, x, x)
            except RuntimeError:
                continue
            found.append((backend, device))
    return found


def test_two_back_ends_are_compared_at_least() -> None:
    assert len(backends()) >= 2


@pytest.mark.parametrize(("backend", "device"), backends())
@pytest.mark.parametrize(("length", "keys"), [(16, 16), (5, 9), (40, 1)])
def test_every_back_end_agrees_with_the_formula(
    backend: SDPBackend, device: str, length: int, keys: int
) -> None:
    q, k, v = (noise(3, n, 48, seed=n + i).to(device) for i, n in enumerate((length, keys, keys)))
    with sdpa_kernel(backend):
        out = attention(q, k, v, HEADS)
    assert relative(out, plain_formula(q, k, v)) < 2e-6


def test_mask_agrees_with_the_formula() -> None:
    q, k, v = noise(2, 6, 48, seed=1), noise(2, 5, 48, seed=2), noise(2, 5, 48, seed=3)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]).bool()
    masked = attention(q, k, v, HEADS, mask)
    assert relative(masked, plain_formula(q, k, v, mask)) < 2e-6
    assert relative(masked, plain_formula(q, k, v)) > 0.01


@pytest.mark.parametrize("masked", [False, True])
def test_training_in_bf16_on_the_cpu_agrees_with_the_formula(masked: bool) -> None:
    """In values and gradients; products stand for torch's back ends there."""
    heads = [noise(3, n, 48, seed=n + i).bfloat16() for i, n in enumerate((16, 9, 9))]
    mask = torch.arange(9) < torch.tensor([[9], [4], [1]]) if masked else None
    ours = [x.clone().requires_grad_() for x in heads]
    exact = [x.double().requires_grad_() for x in heads]
    assert wants_products(ours[0][:, None], ours[1][:, None])
    out, wanted = attention(*ours, HEADS, mask), plain_formula(*exact, mask)
    assert relative(out.double(), wanted) < 1e-2
    weights = noise(*out.shape, seed=9)
    (out * weights).sum().backward()
    (wanted * weights).sum().backward()
    for a, b in zip(ours, exact, strict=True):
        assert a.grad is not None and b.grad is not None
        assert relative(a.grad.double(), b.grad) < 2e-2


def test_products_are_for_short_sequences_in_bf16_that_learn_on_the_cpu() -> None:
    short, long = noise(1, 3, 16, 8).bfloat16(), noise(1, 3, 257, 8).bfloat16()
    assert wants_products(short, short)
    assert not wants_products(short, long) and not wants_products(long, short)
    assert not wants_products(short.float(), short.float())
    assert not wants_products(short.to("meta"), short.to("meta"))
    with torch.no_grad():
        assert not wants_products(short, short)


@pytest.mark.parametrize("adapted", [False, True])
def test_a_sequence_of_one_reads_its_own_value(adapted: bool) -> None:
    """Without queries and keys; an adapter in the layer's place is asked whole."""
    layer, x = SelfAttention(48, HEADS, 12), noise(7, 1, 48)
    torch.nn.init.normal_(layer.qkv.bias)
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    wanted = layer.proj(attention(q, k, v, HEADS))
    if adapted:
        layer.qkv = torch.nn.Sequential(layer.qkv)
    out = layer(x)
    assert relative(out, wanted) < 1e-6
    out.sum().backward()
    grads = [p.grad.chunk(3) for p in layer.qkv.parameters()]
    assert all(not q.any() and not k.any() and bool(v.any()) for q, k, v in grads)


def test_scrambled_heads_would_be_seen() -> None:
    """The original's flash branch forgot to put heads back beside their tokens."""
    q = noise(1, 6, 48)
    good = attention(q, q, q, HEADS)
    scrambled = good.unflatten(2, (HEADS, -1)).transpose(1, 2).reshape(1, 6, 48)
    assert relative(scrambled, plain_formula(q, q, q)) > 0.1


@pytest.mark.parametrize("axis", ["space", "time"])
def test_unfold_undoes_fold(axis: str) -> None:
    x = noise(2, 3, 5, 8)
    folded = fold(x, axis)
    assert folded.shape == ((6, 5, 8) if axis == "space" else (10, 3, 8))
    assert torch.equal(unfold(folded, axis, 2), x)
    sequence = x[1, 2] if axis == "space" else x[1, :, 4]
    assert torch.equal(folded[-1], sequence)


def test_prompt_is_projected_once_and_read_by_every_frame() -> None:
    layer = CrossAttention(48, HEADS).eval()
    rows = []
    layer.kv.register_forward_pre_hook(lambda _layer, args: rows.append(args[0][..., 0].numel()))
    x, prompt = noise(2, 4, 9, 48), noise(2, 1, 7, 48, seed=1)
    with torch.no_grad():
        together = layer(x, Prompt(prompt, None))
        frames = [layer(x[:, i : i + 1], Prompt(prompt, None)) for i in range(4)]
    assert rows[0] == 2 * 7, "keys and values for 2 x 7 prompt tokens, not for each of 4 frames"
    assert relative(together, torch.cat(frames, dim=1)) < 1e-6


def test_keys_and_values_that_were_made_before_are_not_made_again() -> None:
    layer = CrossAttention(48, HEADS).eval()
    x, prompt = noise(2, 4, 9, 48), Prompt(noise(2, 1, 7, 48, seed=1), None)
    with torch.no_grad():
        wanted, read = layer(x, prompt), layer.read(prompt)
        layer.kv.register_forward_pre_hook(lambda *_: pytest.fail("made again"))
        assert torch.equal(layer(x, read), wanted)


@pytest.mark.parametrize("prompts", [1, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_absorbed_weights_give_the_same_numbers_for_less_work(prompts: int, masked: bool) -> None:
    layer = CrossAttention(48, HEADS).eval()
    x, tokens = noise(2, 4, 9, 48), noise(2, prompts, 5, 48, seed=1)
    mask = noise(2, prompts, 5, seed=2) > 0 if masked else None
    if mask is not None:
        mask[:, :, 0] = True
    prompt = Prompt(tokens, mask)
    with torch.no_grad():
        wanted, short, plain = layer(x, prompt), layer.read(prompt, absorb=True), layer.read(prompt)
        for other in (layer.q, layer.kv, layer.proj):
            other.register_forward_pre_hook(lambda *_: pytest.fail("a projection ran"))
        assert relative(layer(x, short), wanted) < 1e-6
    assert short.kv is None and plain.absorbed is None
    long = prompt._replace(tokens=noise(2, prompts, 13, 48, seed=1))
    with torch.no_grad():  # 4 heads of 13 tokens are more than half of 48
        assert CrossAttention(48, HEADS).read(long, absorb=True).absorbed is None
