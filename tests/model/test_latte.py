"""The model as a whole: fresh weights, training, dtypes, compilation, refusals."""

import pytest
import torch
from model_builders import noise, random_model, relative, text, tiny

from latte_core.errors import ShapeError
from latte_core.model import Latte, ModelConfig, zero_init_temporal

AT = torch.tensor([10, 500])
LATENTS = noise(2, 4, 4, 8, 8)
PROMPT = noise(2, 7, 20, seed=1)


@pytest.mark.parametrize(
    "config", [tiny(), tiny(injection="all_tokens"), tiny(patch_frames=2), tiny(variant=4), text()]
)
def test_untrained_output_is_exactly_zero(config: ModelConfig) -> None:
    prompt = PROMPT if config.conditioning == "text" else None
    assert not Latte(config)(LATENTS, AT, prompt).any()


def test_untrained_blocks_of_adaln_zero_are_the_identity() -> None:
    model, tokens = Latte(tiny()), []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, args, out: tokens.append((args[0], out)))
    model(LATENTS, AT)
    assert all(torch.equal(before, after) for before, after in tokens)


def test_fresh_linear_layers_are_xavier_uniform() -> None:
    weight = Latte(tiny()).blocks[0].attn["space"].qkv.weight  # one matrix of 144 x 48
    bound = (6 / (144 + 48)) ** 0.5
    assert bound * 0.98 < weight.abs().max() <= bound
    assert Latte(tiny()).timestep.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_zero_init_temporal_makes_a_clip_of_the_same_frames_a_still() -> None:
    """What an image model makes of a frame, the video model then makes of each."""
    model = random_model(text())
    still = LATENTS[:, :, :1]
    clip = still.expand(-1, -1, 4, -1, -1)
    with torch.no_grad():
        assert relative(model(clip, AT, PROMPT)[:, :, 2:3], model(still, AT, PROMPT)) > 1e-2
        zero_init_temporal(model)
        model.positions.time.zero_()  # the table itself stays: it moves the tokens
        assert relative(model(clip, AT, PROMPT)[:, :, 2:3], model(still, AT, PROMPT)) < 1e-5


def test_zero_init_temporal_silences_time_attention_of_mixed_blocks() -> None:
    model = random_model(tiny(variant=3, temporal_positions="rope"))
    zero_init_temporal(model)
    with torch.no_grad():
        clip = model(LATENTS, AT)
        assert relative(model(LATENTS.flip(2), AT).flip(2), clip) < 1e-5


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = random_model(text()).train()
        model.gradient_checkpointing = checkpointing
        out = model(LATENTS, AT, PROMPT, prompt_attention_mask=torch.ones(2, 7), num_images=0)
        out.square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        assert torch.equal(gradient, gradients[1][name]), name


def test_gradient_checkpointing_keeps_fewer_activations() -> None:
    sizes = []
    for checkpointing in (False, True):
        model, saved = random_model(tiny()).train(), []
        model.gradient_checkpointing = checkpointing
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t
        ):
            model(LATENTS, AT)
        sizes.append(sum(saved))
    assert sizes[1] < 0.3 * sizes[0]


def test_one_sample_gives_the_same_alone_and_in_a_batch() -> None:
    model = random_model(text())
    with torch.no_grad():
        batch = model(LATENTS, AT, PROMPT)
        alone = model(LATENTS[1:], AT[1:], PROMPT[1:])
    assert relative(batch[1:], alone) < 1e-6


def test_inputs_of_another_dtype_are_cast_to_the_weights() -> None:
    model = random_model(text()).half()
    out = model(LATENTS, AT, PROMPT.bfloat16())
    assert out.dtype == torch.float16
    reference = random_model(text())(LATENTS, AT, PROMPT)
    assert relative(out.float(), reference) < 0.05


def test_no_graph_breaks_when_compiled() -> None:
    model = random_model(text(depth=2))
    explained = torch._dynamo.explain(model)(LATENTS, AT, PROMPT, torch.ones(2, 7))
    assert explained.graph_break_count == 0, explained.break_reasons


def test_positions_are_rebuilt_when_weights_are_laid_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = Latte(tiny())
    assert model.blocks[0].mlp.fc1.weight.is_meta
    assert torch.equal(model.positions.space, Latte(tiny()).positions.space)
    assert not any("positions" in name for name in model.state_dict())


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (
            tiny(),
            {"latents": noise(2, 3, 4, 8, 8)},
            r"\(2, 3, 4, 8, 8\) do not fit",
        ),
        (tiny(), {"latents": noise(2, 4, 4, 8)}, "do not fit"),
        (tiny(), {"latents": noise(2, 4, 4, 9, 8)}, "9 x 8 cannot be cut into patches of 2"),
        (tiny(), {"latents": noise(2, 4, 5, 8, 8)}, "video of 5 frames does not fit"),
        (tiny(), {"latents": noise(2, 4, 4, 8, 8), "num_images": 1}, "video of 3 frames"),
        (tiny(), {"num_images": 5}, "num_images is 5"),
        (tiny(), {"num_images": -1}, "num_images is -1"),
        (tiny(), {"timesteps": torch.tensor(3)}, r"2 samples need \(2,\)"),
        (tiny(), {"prompt_embeds": PROMPT}, "reads no prompt"),
        (tiny(), {"class_labels": AT}, "knows no classes"),
        (tiny(conditioning="class", num_classes=3), {}, "class_labels has to be .* not missing"),
        (tiny(conditioning="class", num_classes=3), {"class_labels": AT[:1]}, r"not \(1,\)"),
        (text(), {}, r"prompt_embeds has to be of shape \(2, L, 20\).* not missing"),
        (text(), {"prompt_embeds": PROMPT[:, :, :9]}, r"not \(2, 1, 7, 9\)"),
        (text(), {"prompt_embeds": PROMPT[:1]}, r"not \(1, 1, 7, 20\)"),
        (
            text(),
            {"prompt_embeds": PROMPT, "prompt_attention_mask": torch.ones(2, 6)},
            r"\(2, 1, 6\) does not fit",
        ),
        (tiny(patch_frames=2), {"latents": noise(2, 4, 6, 8, 8), "num_images": 2}, "tubes of 2"),
        (
            tiny(patch_frames=2, temporal_positions="rope"),
            {"latents": noise(2, 4, 3, 8, 8)},
            "3 frames does not fit",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    config: ModelConfig, arguments: dict, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        Latte(config)(**({"latents": LATENTS, "timesteps": AT} | arguments))
