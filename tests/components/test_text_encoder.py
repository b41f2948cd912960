"""The text encoder's door, compared with plain transformers and the stock pipeline."""

import math

import pytest
import torch
from diffusers import LattePipeline
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel, T5Tokenizer

from latte_core.components.text_encoder import (
    MAX_TOKENS,
    clean_prompt,
    load_text_encoder,
    new_text_encoder,
)
from latte_core.errors import CheckpointError, ConfigError

WORDS = ("a", "red", "blue", "rocket", "cow", "flies", "jumps", "over", "the", "sea", "at", "night")
PIECES = [(f"\u2581{word}", -math.log(len(WORDS))) for word in WORDS]
SHAPE = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4}


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    made = new_text_encoder(PIECES, **SHAPE)
    made.model.eval()
    with torch.no_grad():  # T5's own initialisation saturates the attention at this width
        for parameter in made.model.parameters():
            parameter.mul_(0.5)
    return made


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("text")
    encoder.save(path, dtype=torch.float32)
    return path


def test_tokenizer_gives_one_token_a_word_and_an_end(encoder):
    ids, mask = encoder.tokenize(["a red rocket", "a cow"])
    assert ids.shape == mask.shape == (2, 4)
    assert ids[0].tolist() == [3, 4, 6, 1]
    assert ids[1].tolist() == [3, 7, 1, 0]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert encoder.tokenize(["a cow"], length=7)[0].shape == (1, 7)


def test_long_prompts_are_cut_and_the_cut_text_is_named(encoder):
    prompt = "red " * 130 + "cow"
    assert encoder.tokenize([prompt])[0].shape == (1, MAX_TOKENS)
    assert encoder.cut_text(prompt).endswith("cow")
    assert encoder.cut_text("a red cow") == ""


def test_encode_equals_the_masked_rows_of_a_padded_run(encoder):
    prompt = "a red rocket flies over the sea"
    ids, mask = encoder.tokenize([prompt], length=MAX_TOKENS)
    with torch.no_grad():
        padded = encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state
    alone = encoder.encode(prompt)
    torch.testing.assert_close(alone, padded[:, : alone.shape[1]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_encode_null_is_the_padded_empty_prompt_cut(encoder, length):
    ids, mask = encoder.tokenize([""], length=MAX_TOKENS)
    with torch.no_grad():
        stock = encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state
    null = encoder.encode_null(length)
    torch.testing.assert_close(null, stock[:, :length], rtol=1e-5, atol=1e-6)


def test_forward_carries_gradients(encoder):
    trainable = new_text_encoder(PIECES, **SHAPE)
    trainable.forward(*trainable.tokenize(["a red cow"])).square().mean().backward()
    gradient = trainable.model.shared.weight.grad
    assert gradient[4].abs().sum() > 0
    assert gradient[5].abs().sum() == 0


def test_unknown_words_are_named_once_in_order(encoder):
    assert encoder.unknown_words("a red zebra over a moon zebra") == ["zebra", "moon"]
    assert encoder.unknown_words("a red cow") == []


def test_saved_encoder_loads_in_stock_transformers_and_here(encoder, folder):
    stock = T5EncoderModel.from_pretrained(folder / "text_encoder", local_files_only=True).eval()
    tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    ids = tokenizer(["a red rocket"], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = stock(ids).last_hidden_state
    assert torch.equal(expected, encoder.encode("a red rocket"))
    assert torch.equal(load_text_encoder(folder).encode("a red rocket"), expected)


@pytest.mark.parametrize("bits,limit", [(8, 0.1), (4, 0.45)])
def test_quantised_encoder_is_close_and_keeps_wo(folder, encoder, bits, limit):
    bnb = pytest.importorskip("bitsandbytes")
    small = load_text_encoder(folder, torch.float32, bits=bits)
    kind = {8: bnb.nn.Linear8bitLt, 4: bnb.nn.Linear4bit}[bits]
    layers = dict(small.model.named_modules())
    packed = [name for name, layer in layers.items() if isinstance(layer, kind)]
    assert len(packed) == 2 * 6
    assert not any(name.endswith(".wo") for name in packed)
    assert all(layers[name].weight.quant_type == "nf4" for name in packed if bits == 4)
    for layer in (layers[name] for name in packed if bits == 4):  # too narrow for a CPU's kernel
        assert layer.in_features < 64 and not layer.support_avx512bf16_for_cpu
    expected = encoder.encode("a red rocket flies")
    error = (small.encode("a red rocket flies") - expected).norm() / expected.norm()
    assert 1e-5 < error < limit
    with pytest.raises(CheckpointError, match="cannot be saved"):
        small.save(folder / "again")


@pytest.mark.parametrize("damage", ["drop", "nan", "cut", "absent"])
def test_damaged_text_encoder_is_refused(encoder, tmp_path, damage):
    encoder.save(tmp_path, dtype=torch.float32)
    path = tmp_path / "text_encoder" / "model.safetensors"
    state = load_file(path)
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    if damage == "drop":
        state.pop(name)
    elif damage == "nan":
        state[name][0, 0] = float("nan")
    save_file(state, path, metadata={"format": "pt"})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "absent":
        path.unlink()
    with pytest.raises(CheckpointError, match="text"):
        load_text_encoder(tmp_path)


def test_load_text_encoder_refuses_a_missing_folder_and_odd_bits(folder, tmp_path):
    with pytest.raises(CheckpointError, match="is missing"):
        load_text_encoder(tmp_path)
    with pytest.raises(ConfigError, match="8 or 4 bits"):
        load_text_encoder(folder, bits=3)


def test_new_text_encoder_refuses_an_empty_vocabulary():
    with pytest.raises(ConfigError, match="at least one piece"):
        new_text_encoder([], **SHAPE)


@pytest.mark.parametrize(
    "text",
    [
        "A red rocket flies UP over the sea at night",
        "  Visit https://example.com/a/b now! &quot;Great&quot; &amp; <b>bold</b>   text ",
        "@someone says: «hello» — don’t   shout... #123 #1234567 12345678",
        "this-is-one-long-file-name.png and page 12, 120x300 jc6640vc 6640vc231",
        "a dog.a cat/bird (free shipping worldwide) click on here",
        "太空人 rides a 马 in the snow [[[x]]] 192.168.0.1 <person> mp4 images",
        "'quoted'",
        "\\n new\\nline _under_",
    ],
)
def test_clean_prompt_equals_the_stock_cleaning(text):
    cleaner = LattePipeline._clean_caption
    stub = type("Stub", (), {"bad_punct_regex": LattePipeline.bad_punct_regex})()
    assert clean_prompt(text) == cleaner(stub, cleaner(stub, text))
