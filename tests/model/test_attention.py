"""Attention against the formula written out, for every back end that torch has here."""

import pytest
import torch
from model_builders import noise, relative
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from latte_core.model.attention import CrossAttention, Prompt, attention, fold, unfold

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
