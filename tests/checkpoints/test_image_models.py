"""A video model started from an image model shows the image model's pictures, to rounding.

The image models are diffusers' own classes with the same random weights.
"""

import pytest
import torch
from diffusers import DiTTransformer2DModel, PixArtTransformer2DModel
from diffusers.models.embeddings import Timesteps
from original_files import XL, Size, dit_shapes, fill, hollow, pixart_shapes
from torch import Tensor, nn

from latte_core.checkpoints import from_state_dict, initialise
from latte_core.checkpoints.image_models import image_weights, plan_start, start
from latte_core.checkpoints.recognise import recognise
from latte_core.errors import CheckpointError, ConfigError
from latte_core.model import Latte

SIZE = Size(blocks=3)
CLASSES = 5
FRAMES = 4
AT = torch.tensor([500, 20])
HEADS = {"num_heads": 4, "num_frames": FRAMES}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CLIP = noise(2, 4, FRAMES, 8, 8)
PROMPT = noise(2, 7, 20, seed=1)
LABELS = torch.tensor([1, 4])


def dit_to_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of DiT's file in diffusers' class, each block of which has the embeddings again."""
    found: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        found[f"pos_embed.proj.{kind}"] = state[f"x_embedder.proj.{kind}"]
        found[f"proj_out_1.{kind}"] = state[f"final_layer.adaLN_modulation.1.{kind}"]
        found[f"proj_out_2.{kind}"] = state[f"final_layer.linear.{kind}"]
        for i in range(SIZE.blocks):
            theirs, ours = f"transformer_blocks.{i}", f"blocks.{i}"
            emb = f"{theirs}.norm1.emb"
            for a, b in ((1, 0), (2, 2)):
                found[f"{emb}.timestep_embedder.linear_{a}.{kind}"] = state[
                    f"t_embedder.mlp.{b}.{kind}"
                ]
            found[f"{emb}.class_embedder.embedding_table.weight"] = state[
                "y_embedder.embedding_table.weight"
            ]
            found[f"{theirs}.norm1.linear.{kind}"] = state[f"{ours}.adaLN_modulation.1.{kind}"]
            qkv = state[f"{ours}.attn.qkv.{kind}"].chunk(3)
            for name, part in zip("qkv", qkv, strict=True):
                found[f"{theirs}.attn1.to_{name}.{kind}"] = part
            found[f"{theirs}.attn1.to_out.0.{kind}"] = state[f"{ours}.attn.proj.{kind}"]
            found[f"{theirs}.ff.net.0.proj.{kind}"] = state[f"{ours}.mlp.fc1.{kind}"]
            found[f"{theirs}.ff.net.2.{kind}"] = state[f"{ours}.mlp.fc2.{kind}"]
    return found


def pixart_to_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of PixArt-alpha's file in diffusers' class."""
    found = {"scale_shift_table": state["final_layer.scale_shift_table"]}
    pairs = {
        "pos_embed.proj": "x_embedder.proj",
        "proj_out": "final_layer.linear",
        "adaln_single.linear": "t_block.1",
        "adaln_single.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "adaln_single.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "adaln_single.emb.resolution_embedder.linear_1": "csize_embedder.mlp.0",
        "adaln_single.emb.resolution_embedder.linear_2": "csize_embedder.mlp.2",
        "adaln_single.emb.aspect_ratio_embedder.linear_1": "ar_embedder.mlp.0",
        "adaln_single.emb.aspect_ratio_embedder.linear_2": "ar_embedder.mlp.2",
        "caption_projection.linear_1": "y_embedder.y_proj.fc1",
        "caption_projection.linear_2": "y_embedder.y_proj.fc2",
    }
    for i in range(SIZE.blocks):
        theirs, ours = f"transformer_blocks.{i}", f"blocks.{i}"
        found[f"{theirs}.scale_shift_table"] = state[f"{ours}.scale_shift_table"]
        for a, b in (
            ("attn1.to_out.0", "attn.proj"),
            ("attn2.to_q", "cross_attn.q_linear"),
            ("attn2.to_out.0", "cross_attn.proj"),
            ("ff.net.0.proj", "mlp.fc1"),
            ("ff.net.2", "mlp.fc2"),
        ):
            pairs[f"{theirs}.{a}"] = f"{ours}.{b}"
        for kind in ("weight", "bias"):
            parts = (
                *state[f"{ours}.attn.qkv.{kind}"].chunk(3),
                *state[f"{ours}.cross_attn.kv_linear.{kind}"].chunk(2),
            )
            names = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_k", "attn2.to_v")
            found |= {f"{theirs}.{n}.{kind}": p for n, p in zip(names, parts, strict=True)}
    for theirs, ours in pairs.items():
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in state:
                found[f"{theirs}.{kind}"] = state[f"{ours}.{kind}"]
    return found


@pytest.fixture(scope="module")
def dit() -> tuple[dict[str, Tensor], nn.Module]:
    state = fill(dit_shapes(SIZE, CLASSES + 1))
    stock = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        out_channels=8,
        num_layers=SIZE.blocks,
        sample_size=8,
        num_embeds_ada_norm=CLASSES,
        norm_eps=1e-6,  # as in DiT
    ).eval()
    stock.load_state_dict(dit_to_diffusers(state), strict=True)
    for block in stock.transformer_blocks:
        # Diffusers' frequencies end one step early; DiT's and Latte's do not.
        block.norm1.emb.time_proj = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
    return state, stock


def new_pixart(sizes: bool) -> tuple[dict[str, Tensor], nn.Module]:
    side = 128 if sizes else 8
    state = fill(pixart_shapes(SIZE, sizes, table=False))
    stock = PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        num_layers=SIZE.blocks,
        sample_size=side,
        cross_attention_dim=48,
        caption_channels=20,
        use_additional_conditions=sizes,
    ).eval()
    stock.load_state_dict(pixart_to_diffusers(state), strict=True)
    return state, stock


@pytest.fixture(scope="module")
def pixart() -> tuple[dict[str, Tensor], nn.Module]:
    return new_pixart(sizes=False)


@torch.no_grad()
def pictures(stock: nn.Module, **conditions: Tensor | dict) -> Tensor:
    """What the image model makes of every frame alone."""
    frames = [stock(CLIP[:, :, f], timestep=AT, **conditions).sample for f in range(CLIP.shape[2])]
    return torch.stack(frames, dim=2)


@torch.no_grad()
def away(model: Latte, wanted: Tensor, clip: Tensor = CLIP, **conditions: Tensor) -> Tensor:
    """Largest difference for each frame, over the scale of the pictures."""
    assert wanted.std() > 0.1, "weights that do nothing prove nothing"
    found = model(clip, AT, **conditions)
    return (found - wanted).abs().amax((0, 1, 3, 4)) / wanted.abs().max()


VARIANTS = [
    {},
    {"variant": 2},
    {"variant": 3},
    {"variant": 3, "chain_modulation": "own"},
    {"variant": 4},
]


@pytest.mark.parametrize("fields", VARIANTS)
def test_every_frame_is_dits_picture(dit: tuple, fields: dict) -> None:
    state, stock = dit
    model = initialise(state, **HEADS, **fields)
    wanted = pictures(stock, class_labels=LABELS)
    assert away(model, wanted, class_labels=LABELS).max() < 2e-6
    assert model.config.num_classes == CLASSES
    blocks = SIZE.blocks if model.config.variant > 2 else 2 * SIZE.blocks
    assert len(model.blocks) == blocks
    other = pictures(stock, class_labels=LABELS.flip(0))
    assert away(model, other, class_labels=LABELS).min() > 1e-3  # a positive control


@pytest.mark.parametrize("fields", VARIANTS)
def test_every_frame_is_pixarts_picture(pixart: tuple, fields: dict) -> None:
    state, stock = pixart
    model = initialise(state, **HEADS, sample_size=8, **fields)
    wanted = pictures(stock, encoder_hidden_states=PROMPT)
    assert away(model, wanted, prompt_embeds=PROMPT).max() < 2e-6
    assert away(model, wanted, prompt_embeds=PROMPT.flip(0)).min() > 1e-3


def test_diffusers_pixart_is_read_too(pixart: tuple) -> None:
    _, stock = pixart
    model = initialise(stock.state_dict(), **HEADS, sample_size=8)
    wanted = pictures(stock, encoder_hidden_states=PROMPT)
    assert away(model, wanted, prompt_embeds=PROMPT).max() < 2e-6


@pytest.mark.parametrize("own_names", [True, False])
def test_conditions_on_size_are_folded_in(own_names: bool) -> None:
    state, stock = new_pixart(sizes=True)
    model = initialise(state if own_names else stock.state_dict(), **HEADS)
    assert model.config.sample_size == 128
    told = {"resolution": torch.full((2, 2), 1024.0), "aspect_ratio": torch.ones(2, 1)}
    wanted = pictures(stock, encoder_hidden_states=PROMPT, added_cond_kwargs=told)
    assert away(model, wanted, prompt_embeds=PROMPT).max() < 2e-6
    told["resolution"] = told["resolution"] / 2
    other = pictures(stock, encoder_hidden_states=PROMPT, added_cond_kwargs=told)
    assert away(model, other, prompt_embeds=PROMPT).min() > 1e-4


@pytest.mark.parametrize(
    "fields", [{"num_classes": 3}, {"num_classes": 0}, {"conditioning": "none"}]
)
def test_other_classes_start_as_dits_no_class(dit: tuple, fields: dict) -> None:
    state, stock = dit
    model = initialise(state, **HEADS, **fields)
    wanted = pictures(stock, class_labels=torch.full((2,), CLASSES))
    labels = {"class_labels": torch.tensor([0, 3])} if model.config.num_classes else {}
    assert away(model, wanted, **labels).max() < 2e-6


def test_with_a_table_of_time_stills_are_the_pictures_and_clips_are_not(pixart: tuple) -> None:
    state, stock = pixart
    model = initialise(state, **HEADS, sample_size=8, temporal_positions="absolute")
    assert model.config.is_t2v
    wanted = pictures(stock, encoder_hidden_states=PROMPT)
    still = away(model, wanted[:, :, :1], CLIP[:, :, :1], prompt_embeds=PROMPT)
    assert still.max() < 2e-6
    assert away(model, wanted, prompt_embeds=PROMPT).min() > 1e-3
    model.positions.time.zero_()
    assert away(model, wanted, prompt_embeds=PROMPT).max() < 2e-6


@pytest.mark.parametrize("fields", VARIANTS)
@pytest.mark.parametrize("kind", ["dit", "pixart"])
def test_everything_new_learns(kind: str, fields: dict, request: pytest.FixtureRequest) -> None:
    """Zero gates must not stand before zero layers: two steps reach every new weight."""
    state, _ = request.getfixturevalue(kind)
    model = initialise({k: v.clone() for k, v in state.items()}, **HEADS, sample_size=8, **fields)
    inputs = {"class_labels": LABELS} if kind == "dit" else {"prompt_embeds": PROMPT}
    new = {n: p for n, p in model.named_parameters() if ".time." in n}
    if model.config.variant < 3:
        alone = [f"blocks.{i}." for i, b in enumerate(model.blocks) if b.spec.axes == ("time",)]
        new = {n: p for n, p in model.named_parameters() if n.startswith(tuple(alone))}
    before = {name: parameter.detach().clone() for name, parameter in new.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model(CLIP, AT, **inputs) - CLIP.repeat(1, 2, 1, 1, 1)).square().mean().backward()
        optimizer.step()
    still = [name for name, parameter in new.items() if torch.equal(parameter, before[name])]
    # Softmax does not notice a shift of all keys, so the bias of the keys alone may rest.
    assert [name for name in still if not name.endswith("qkv.bias")] == []


def test_dit_in_place_is_the_papers_start(dit: tuple) -> None:
    """With DiT's own depth block i lands in block i, every second one attending time."""
    state = fill(dit_shapes(Size(blocks=4), CLASSES + 1))
    found = start(recognise(state, HEADS | {"depth": 4}))
    for i in range(4):
        axis = ("space", "time")[i % 2]
        weight = found.model.blocks[i].attn[axis].qkv.weight
        assert torch.equal(weight, state[f"blocks.{i}.attn.qkv.weight"])
    assert found.new == ()
    assert found.model.config.temporal_positions == "absolute"
    assert any("not kept" in note for note in found.notes)


def test_what_came_in_and_what_is_new_is_told(dit: tuple) -> None:
    state, _ = dit
    found = start(recognise({"ema": state, "opt": 3, "args": {}}, HEADS))
    assert found.title == "DiT"
    assert set(found.taken) == state.keys() - {"pos_embed"}
    assert found.ignored.keys() == {"pos_embed", "opt", "args"}
    keys = found.model.state_dict().keys()
    assert set(found.new) == {
        k for k in keys if k.startswith(("blocks.1.", "blocks.3.", "blocks.5."))
    }
    assert len(found.new) == 3 * 10


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_size": 96}, "hidden_size is 96, but DiT has 48"),
        ({"injection": "all_tokens"}, "injection is 'all_tokens'"),
        ({"depth": 5}, "depth is 5; the 3 blocks of DiT need 6"),
        ({"variant": 3, "depth": 6}, "need 3 in variant 3"),
        ({"variant": 4, "sum_heads": "half"}, "sum_heads is 'half'"),
        ({"patch_frames": 2}, "patch_frames is 2"),
        ({"conditioning": "text"}, "caption_channels is 0"),
        ({"blocks": 5}, "Unknown model settings: blocks"),
    ],
)
def test_what_an_image_model_cannot_become(dit: tuple, fields: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        initialise(dit[0], **HEADS, **fields)


def test_pixart_cannot_lose_its_prompts(pixart: tuple) -> None:
    with pytest.raises(ConfigError, match="reads prompts"):
        initialise(pixart[0], **HEADS, num_classes=3)
    with pytest.raises(ConfigError, match="caption_channels is 30"):
        initialise(pixart[0], **HEADS, caption_channels=30)


@pytest.mark.parametrize("kind", ["dit", "pixart"])
def test_missing_surplus_and_misshapen_weights_are_named(
    kind: str, request: pytest.FixtureRequest
) -> None:
    state, _ = request.getfixturevalue(kind)
    state = {name: tensor for name, tensor in state.items() if name not in ("pos_embed",)}
    fields = HEADS | {"sample_size": 8}
    for name in ("blocks.1.attn.proj.bias", "final_layer.linear.bias", "x_embedder.proj.bias"):
        rest = {key: tensor for key, tensor in state.items() if key != name}
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            initialise(rest, **fields)
    with pytest.raises(CheckpointError, match=r"such as blocks\.1\.attn\.q_norm\.weight"):
        initialise(state | {"blocks.1.attn.q_norm.weight": torch.zeros(3)}, **fields)
    with pytest.raises(CheckpointError, match=r"blocks\.2\.mlp\.fc2\.bias has shape \(7,\)"):
        initialise(state | {"blocks.2.mlp.fc2.bias": torch.zeros(7)}, **fields)
    with pytest.raises(CheckpointError, match="holds NaN"):
        initialise(state | {"blocks.2.mlp.fc2.bias": torch.full((48,), torch.nan)}, **fields)


def test_a_size_embedding_that_is_cut_off_is_named() -> None:
    state = fill(pixart_shapes(SIZE, sizes=True, table=False))
    del state["ar_embedder.mlp.2.bias"]
    with pytest.raises(CheckpointError, match=r"lack ar_embedder\.mlp\.2\.bias"):
        initialise(state, **HEADS)


def test_image_models_are_not_taken_for_latte(dit: tuple) -> None:
    with pytest.raises(CheckpointError, match=r"DiT, which makes images\. Start a video"):
        from_state_dict(dit[0], num_heads=4)


XL_FILES = {
    "DiT-XL-2-256x256.pt": dit_shapes(XL, 1001),
    "PixArt-XL-2-512x512.pth": pixart_shapes(XL, table=False),
    "PixArt-XL-2-1024-MS.pth": pixart_shapes(XL, sizes=True, table=False),
}


@pytest.mark.parametrize("name", XL_FILES)
def test_published_sizes_fit_without_data(name: str) -> None:
    """Every name and shape of the files at full size has its place, and nothing is left over."""
    found = recognise(hollow(XL_FILES[name]), {})
    plan = plan_start(found)
    weights, _ = image_weights(found, plan)
    assert (plan.video.depth, plan.video.num_heads, plan.video.hidden_size) == (56, 16, 1152)
    with torch.device("meta"):
        model = Latte(plan.video)
    placed = {k: plan.source_of(k) for k in model.state_dict() if plan.source_of(k)}
    assert set(placed.values()) == set(weights)
    for key, source in placed.items():
        assert model.state_dict()[key].shape == weights[source].shape, key


def test_names_at_full_size_are_those_of_diffusers_classes() -> None:
    """The lists of names that these tests rest on, held against diffusers' classes at full size."""
    with torch.device("meta"):
        stock = PixArtTransformer2DModel(caption_channels=4096).state_dict()
    state = pixart_to_diffusers(fill(pixart_shapes(Size(blocks=SIZE.blocks), sizes=True)))
    blocks = {name.replace("blocks.2.", "blocks.27.") for name in state}
    assert {name for name in stock if ".27." in name} == {n for n in blocks if ".27." in n}
    assert {n for n in stock if "blocks" not in n} == {n for n in state if "blocks" not in n}
    full = pixart_shapes(XL, sizes=True, table=False)
    full.pop("y_embedder.y_embedding")
    elements = sum(torch.Size(shape).numel() for shape in full.values())
    assert elements == sum(tensor.numel() for tensor in stock.values())
