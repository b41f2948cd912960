"""from_state_dict: every known file layout gives the model that it was saved from."""

import pytest
import torch
from diffusers import LatteTransformer3DModel
from torch import Tensor

from latte_core.checkpoints import from_state_dict, to_diffusers_state
from latte_core.checkpoints.keys import class_names, own_names, t2v_names, to_foreign
from latte_core.errors import CheckpointError, ConfigError
from latte_core.model import LATTE_1, Latte, ModelConfig, preset

SIZES = {"hidden_size": 48, "depth": 4, "num_heads": 4, "sample_size": 8, "num_frames": 4}
T2V = ModelConfig(
    **SIZES,
    conditioning="text",
    injection="adaln_single",
    caption_channels=20,
    images="length_one",
)
CLASSES = ModelConfig(**SIZES, conditioning="class", num_classes=5)
GIVEN = {"num_heads": 4, "sample_size": 8, "num_frames": 4}


def random_model(config: ModelConfig) -> Latte:
    torch.manual_seed(0)
    model = Latte(config).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.1
    return model


def original_class_state(model: Latte) -> dict[str, Tensor]:
    state = to_foreign(model.state_dict(), class_names, model.config)
    places = (model.config.sample_size // model.config.patch_size) ** 2
    width = model.config.hidden_size
    tables = {
        "pos_embed": torch.zeros(1, places, width),
        "temp_embed": torch.zeros(1, model.config.num_frames, width),
    }
    return tables | state


def assert_same(found: Latte, wanted: Latte) -> None:
    assert found.config == wanted.config
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def test_diffusers_t2v_state() -> None:
    stock = LatteTransformer3DModel.from_config(T2V.to_json()).eval()
    ours = from_state_dict(stock.state_dict(), **GIVEN)
    assert ours.config == T2V
    latents, prompt = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 3, 20)
    with torch.no_grad():
        theirs = stock(latents, torch.tensor([9]), encoder_hidden_states=prompt).sample
        mine = ours(latents, torch.tensor([9]), prompt)
    assert (mine - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@pytest.mark.parametrize("wrapper", [None, "ema", "model"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod."])
def test_original_t2v_file(wrapper: str | None, prefix: str) -> None:
    model = random_model(T2V)
    state = to_diffusers_state(model) | {"caption_projection.y_embedding": torch.randn(120, 20)}
    state = {prefix + name: tensor for name, tensor in state.items()}
    file = {wrapper: state, "opt": {"step": 3}} if wrapper else state
    assert_same(from_state_dict(file, **GIVEN), model)


def test_the_averaged_weights_are_preferred() -> None:
    plain, averaged = random_model(T2V), Latte(T2V)
    file = {"model": to_diffusers_state(plain), "ema": to_diffusers_state(averaged)}
    assert_same(from_state_dict(file, **GIVEN), averaged)


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_original_class_file(prefix: str) -> None:
    model = random_model(CLASSES)
    state = original_class_state(model)
    state = {prefix + name: tensor for name, tensor in state.items()}
    assert_same(from_state_dict({"ema": state}, num_heads=4), model)


def test_early_class_file_with_time_embed() -> None:
    model = random_model(ModelConfig(**SIZES))
    state = original_class_state(model)
    state["time_embed"] = state.pop("temp_embed")
    assert_same(from_state_dict(state, num_heads=4), model)


def test_a_published_width_tells_its_heads() -> None:
    model = random_model(preset("S/4", depth=2))
    found = from_state_dict(original_class_state(model))
    assert_same(found, model)
    assert found.config.num_heads == 6
    assert from_state_dict(original_class_state(model), num_heads=12).config.num_heads == 12


def test_another_size_rebuilds_the_tables() -> None:
    model = random_model(CLASSES)
    larger = from_state_dict(original_class_state(model), num_heads=4, sample_size=16, num_frames=8)
    wanted = Latte(ModelConfig(**(SIZES | {"sample_size": 16, "num_frames": 8})))
    assert torch.equal(larger.positions.space, wanted.positions.space)
    assert torch.equal(larger.positions.time, wanted.positions.time)
    labels = torch.tensor([2])
    out = larger(torch.randn(1, 4, 8, 16, 16), torch.tensor([5]), class_labels=labels)
    assert out.shape == (1, 8, 8, 16, 16)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(**SIZES, conditioning="class", num_classes=3),
        ModelConfig(**SIZES, variant=2, injection="all_tokens"),
        ModelConfig(**SIZES, variant=3, chain_modulation="own"),
        ModelConfig(**SIZES, variant=3, chain_modulation="own", injection="all_tokens"),
        ModelConfig(**SIZES, variant=4, patch_frames=2),
        ModelConfig(**SIZES, variant=3, injection="adaln_single", out_channels=4),
        T2V,
    ],
)
def test_our_own_state(config: ModelConfig) -> None:
    model = random_model(config)
    given = GIVEN | {"images": config.images}
    assert_same(from_state_dict(model.state_dict(), **given), model)


def test_what_shapes_cannot_tell_can_be_given() -> None:
    config = ModelConfig(**SIZES, variant=4, sum_heads="full", temporal_positions="rope")
    model = random_model(config)
    fields = {"variant": 4, "sum_heads": "full", "temporal_positions": "rope"}
    assert_same(from_state_dict(model.state_dict(), **GIVEN, **fields), model)
    with pytest.raises(CheckpointError, match=r"Width 48 .* pass num_heads"):
        from_state_dict(model.state_dict())
    with pytest.raises(ConfigError, match="Unknown model settings: heads"):
        from_state_dict(model.state_dict(), heads=4)


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize("config", [T2V, CLASSES])
def test_missing_surplus_and_misshapen_weights_are_named(config: ModelConfig) -> None:
    model = random_model(config)
    state = to_diffusers_state(model) if config is T2V else original_class_state(model)
    kept = [name for name in state if name not in ("pos_embed", "temp_embed")]
    for name in (kept[0], kept[9], kept[len(kept) // 2], kept[-1]):
        with pytest.raises(CheckpointError, match=r"lack|no Latte"):
            from_state_dict(without(state, name), **GIVEN)
    with pytest.raises(CheckpointError, match=r"no place for, such as blocks\.9\.extra"):
        from_state_dict(state | {"blocks.9.extra": torch.zeros(1)}, **(GIVEN | {"depth": 4}))
    with pytest.raises(CheckpointError, match=r"has shape \(7,\)"):
        from_state_dict(state | {kept[-1]: torch.zeros(7)}, **GIVEN)


def test_weights_without_data_or_numbers_are_refused() -> None:
    state = to_diffusers_state(random_model(T2V))
    name = "transformer_blocks.1.attn2.to_v.weight"
    with pytest.raises(CheckpointError, match=f"{name} has a shape but no data"):
        from_state_dict(state | {name: state[name].to("meta")}, **GIVEN)
    broken = state[name].clone()
    broken[3, 4] = torch.nan
    with pytest.raises(CheckpointError, match=f"{name} holds NaN"):
        from_state_dict(state | {name: broken}, **GIVEN)


@pytest.mark.parametrize("state", [{}, {"a": torch.zeros(1)}, {"a": 3}, {"model": {"a": "b"}}])
def test_what_is_no_latte_is_refused(state: dict) -> None:
    with pytest.raises(CheckpointError, match=r"no Latte|weights are tensors"):
        from_state_dict(state)


def test_only_the_t2v_layout_goes_to_diffusers() -> None:
    with pytest.raises(CheckpointError, match="text-to-video layout"):
        to_diffusers_state(random_model(CLASSES))


def test_latte_1_has_the_tensors_of_the_public_file() -> None:
    with torch.device("meta"):
        ours = to_diffusers_state(Latte(LATTE_1))
        stock = LatteTransformer3DModel.from_config(LATTE_1.to_json()).state_dict()
    assert len(ours) == 967
    assert sum(tensor.numel() for tensor in ours.values()) == 1_057_246_880
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    assert shapes == {name: tensor.shape for name, tensor in stock.items()}
    assert shapes["temporal_transformer_blocks.27.ff.net.2.weight"] == (1152, 4608)
    assert not any("temporal" in name and "attn2" in name for name in shapes)


def test_the_original_class_model_has_its_tensors() -> None:
    config = preset("XL/2", conditioning="class", num_classes=101)
    with torch.device("meta"):
        state = to_foreign(Latte(config).state_dict(), class_names, config)
    assert len(state) + 2 == 293  # two tables
    assert state["blocks.27.adaLN_modulation.1.weight"].shape == (6912, 1152)
    assert state["x_embedder.proj.weight"].shape == (1152, 4, 2, 2)
    assert state["y_embedder.embedding_table.weight"].shape == (102, 1152)


@pytest.mark.parametrize(
    ("config", "names"), [(T2V, t2v_names), (CLASSES, class_names), (CLASSES, own_names)]
)
def test_name_maps_reach_every_weight_once(config: ModelConfig, names: object) -> None:
    keys = list(Latte(config).state_dict())
    targets = [target for key in keys for target in names(key)]
    assert len(targets) == len(set(targets)) >= len(keys)
