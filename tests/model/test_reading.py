"""What a run computes once, or not at all, changes nothing in what it gives."""

import pytest
import torch
from model_builders import noise, random_model, relative, text, tiny

AT = torch.tensor([10, 500])
LATENTS = noise(2, 4, 6, 8, 8)
MASK = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]])


@pytest.fixture(scope="module")
def model():
    return random_model(text())


@pytest.mark.parametrize(
    ("frames", "num_images", "own"),
    [(4, 0, False), (6, 2, False), (6, 2, True), (1, 0, False), (3, 2, True), (2, 2, True)],
)
def test_a_prompt_read_before_gives_the_same_bits(model, frames, num_images, own):
    shape = (2, 1 + num_images, 7, 20) if own else (2, 7, 20)
    prompt = noise(*shape, seed=1)
    mask = MASK[:, None].expand(2, 1 + num_images, 7) if own else MASK
    latents = LATENTS[:, :, :frames]
    images = frames if frames - num_images <= 1 else num_images
    with torch.no_grad():
        wanted = model(latents, AT, prompt, mask, num_images=num_images)
        read = model.read(prompt, mask, images)
        assert torch.equal(model(latents, AT, read, num_images=num_images), wanted)
        other = model.read(prompt.flip(0), mask, images)
        assert relative(model(latents, AT, other, num_images=num_images), wanted) > 1e-4


def test_channels_that_nobody_reads_are_left_out(model):
    prompt, latents = noise(2, 7, 20, seed=1), LATENTS[:, :, :4]
    rows = []
    model.head.register_forward_hook(lambda _module, _args, out: rows.append(out.shape[-1]))
    with torch.no_grad():
        whole, mean = (model(latents, AT, model.read(prompt, variance=v)) for v in (True, False))
    assert rows == [4 * 8, 4 * 4]
    assert whole.shape[1] == 8 and mean.shape[1] == 4
    assert relative(mean, whole[:, :4]) < 1e-6 < relative(mean, whole[:, 4:])


def test_tubes_keep_all_channels_for_their_own_last_layer():
    model = random_model(tiny(patch_frames=2))
    with torch.no_grad():
        latents = LATENTS[:, :, :4]
        assert torch.equal(model(latents, AT, model.read(variance=False)), model(latents, AT))
