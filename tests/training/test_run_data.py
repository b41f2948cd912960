"""Real files in, a model out: frames of a published form, and shards without T5 and autoencoder."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from latte_core import cli
from latte_core.checkpoints import load_transformer
from latte_core.components.vae import VaeConfig, new_vae, save_vae
from latte_core.data.shards import Encoders, write_shards
from latte_core.data.video_set import VideoSource, open_source

LOOP = {"steps": 2, "workers": 0, "device": "cpu", "log_every": 1, "picture_every": 2}
SHAPE = {"hidden_size": 24, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Three clips of ten frames, as folders of pictures in a folder for the split."""
    root = tmp_path_factory.mktemp("set")
    draw = np.random.default_rng(0)
    for clip in range(3):
        folder = root / "train" / f"clip{clip}"
        folder.mkdir(parents=True)
        colour = draw.integers(0, 255, 3)
        for number in range(10):
            picture = np.full((16, 16, 3), colour, np.uint8)
            picture[:, number] = 255
            Image.fromarray(picture).save(folder / f"{number:04d}.png")
    return root


def train(tmp_path, **changes):
    settings = {"name": "m", "loop": LOOP, "sheet": {"steps": 2, "samples": 1}, **changes}
    (tmp_path / "c.json").write_text(json.dumps(settings))
    arguments = ["train", str(tmp_path / "c.json"), "--folder", str(tmp_path / "run")]
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 3
    return load_transformer(tmp_path / "out" / "transformer")


def test_published_form_is_trained_on(tmp_path, frames):
    torch.manual_seed(0)
    save_vae(new_vae(VaeConfig((8, 8), 1, sample_size=16, norm_num_groups=4)), tmp_path / "vae")
    data = {"kind": "taichi-hd", "root": str(frames), "num_frames": 4, "stride": 2, "size": 16}
    model = train(
        tmp_path,
        data={**data, "batch_size": 2, "images": 1},
        parts={"vae": str(tmp_path / "vae")},
        model={"fields": {**SHAPE, "conditioning": "none"}},
    )
    assert (model.config.num_frames, model.config.sample_size) == (4, 8)
    assert (tmp_path / "out" / "latte_manifest.json").is_file()


def test_shards_are_trained_on_without_text_encoder_and_autoencoder(tmp_path, frames):
    def encode(pictures):
        return pictures[:, 2::4, 2::4, [0, 1, 2, 0]].transpose(0, 3, 1, 2) / 127.5 - 1

    def embed(caption):
        return np.ones((len(caption.split()), 6))

    (frames / "captions.json").write_text(
        json.dumps({f"train/clip{n}": f"a clip number {n}" for n in range(3)})
    )
    source = VideoSource("folder", frames, num_frames=4, stride=2, size=16, flip=0.0)
    videos = open_source(source)
    encoders = Encoders(encode, embed, np.zeros((2, 6)), "made up")
    write_shards(videos, encoders, tmp_path / "shards")
    data = {"kind": "shards", "root": str(tmp_path / "shards"), "num_frames": 4, "stride": 2}
    fields = {**SHAPE, "conditioning": "text", "injection": "adaln_single"}
    model = train(tmp_path, data={**data, "batch_size": 3}, model={"fields": fields})
    assert (model.config.caption_channels, model.config.sample_size) == (6, 4)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["transformer"]
