"""`encode` with a real VAE and text encoder: what comes out is what these networks give."""

import json

import numpy as np
import pytest
import torch
from video_files import write_video

from latte_core import cli
from latte_core.components.prompt_cleaning import clean_prompt, simplify_prompt
from latte_core.components.text_encoder import load_text_encoder
from latte_core.data.latent_set import open_shards
from latte_core.data.video_set import VideoSource, open_source


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    for name in ("a.mp4", "b.avi"):
        write_video(root / name, 8)
    (root / "captions.json").write_text(json.dumps({"a.mp4": "A Red COW, at night."}))
    return root


def encode(capsys, *arguments):
    code = cli.main(["encode", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_encode_stores_what_the_model_gives(clips, tiny_folder, tmp_path, capsys):
    from diffusers import AutoencoderKL

    options = ["--model", tiny_folder, "--frames", 4, "--stride", 2, "--size", 64, "--batch", 3]
    code, out, _ = encode(capsys, clips, tmp_path / "cache", *options)
    assert code == 0
    assert "2 clips, 16 frames as latents 4 x 8 x 8; 1 shards written now" in out
    latents = open_shards(tmp_path / "cache")
    first = open_shards(tmp_path / "cache", num_frames=8, stride=1)
    rng = np.random.default_rng(0)
    clip = first.read_clip(0, rng)
    videos = open_source(VideoSource("folder", clips, num_frames=8, stride=1, size=64))
    pixels = torch.from_numpy(videos.read_frames(0, np.arange(8))).permute(0, 3, 1, 2) / 127.5 - 1
    vae = AutoencoderKL.from_pretrained(tiny_folder / "vae")
    with torch.no_grad():
        wanted = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
    got = torch.from_numpy(clip.latents).float().transpose(0, 1)
    torch.testing.assert_close(got, wanted, rtol=2e-3, atol=2e-3)

    text = load_text_encoder(tiny_folder)
    embeds = text.encode(clean_prompt("A Red COW, at night."))[0]
    torch.testing.assert_close(
        torch.from_numpy(clip.prompt_embeds).float(), embeds, rtol=2e-3, atol=2e-3
    )
    null = text.encode_null(5)[0]
    torch.testing.assert_close(
        torch.from_numpy(latents.null_prompt(5)).float(), null, rtol=2e-3, atol=2e-3
    )
    assert latents.read_clip(1, rng).prompt_embeds is None
    code, out, _ = encode(capsys, clips, tmp_path / "cache", *options)
    assert (code, "0 shards written now" in out) == (0, True)


@pytest.mark.parametrize(
    ("options", "words", "wanted"),
    [
        (["--part", "2"], "--part is '2'", 2),
        (["--part", "3/2"], "part 3 of 2", 2),
        (["--batch", "0"], "--batch is 0", 2),
        (["--frames", "99"], "no usable clip", 1),
    ],
)
def test_wrong_options_are_refused(clips, tiny_folder, tmp_path, capsys, options, words, wanted):
    base = [clips, tmp_path / "x", "--model", tiny_folder, "--frames", "4", "--stride", "2"]
    code, _, err = encode(capsys, *base, *options)
    assert (code, words in err) == (wanted, True)


def test_model_without_vae_is_named(clips, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    options = ["--frames", 4, "--stride", 1, "--model", tmp_path / "model"]
    code, _, err = encode(capsys, clips, tmp_path / "x", *options)
    assert code == 2 and "has no folder vae" in err


def test_prompts_for_a_closed_vocabulary_lose_unknown_marks():
    known = {"a", "red", "cow", "'"}

    def unknown_words(text):
        return [word for word in text.split() if word not in known]

    assert simplify_prompt("A red.  COW's!", unknown_words) == "a red cow's"
