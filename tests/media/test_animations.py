"""WebP, GIF, ZIP and their recipes, read back by PIL and zipfile alone."""

import io
import json
import re
import xml.etree.ElementTree as ET
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageSequence

from latte_core import MediaError, read_recipe, write_frames, write_gif, write_still, write_webp

RECIPE = {
    "prompt": 'a "red" <cow> & \u041a\u043e\u0440\u043e\u0432\u0430 🐄 - it\'s here',
    "seed": 4294967295,
    "guidance_scale": 7.5,
    "scheduler": None,
}
WRITERS = {"webp": write_webp, "gif": write_gif}


@pytest.fixture
def frames():
    """Eight frames of a disc on a gradient, at an odd size."""
    y, x = np.mgrid[0:33, 0:49]
    clip = np.stack([np.stack([x * 5, y * 7, x + y], -1).astype(np.uint8)] * 8)
    for index, frame in enumerate(clip):
        frame[(x - 4 - 5 * index) ** 2 + (y - 16) ** 2 < 20] = (20, 220, 60)
    return clip


def read_frames(path):
    with Image.open(path) as picture:
        found = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
        return np.stack(found), picture.info


@pytest.mark.parametrize(("kind", "error"), [("webp", 6), ("gif", 12)])
def test_animation_is_read_back_by_another_reader(frames, tmp_path, kind, error):
    path = WRITERS[kind](frames, tmp_path / f"clip.{kind}", 8, RECIPE)
    found, info = read_frames(path)
    assert found.shape == frames.shape and info["loop"] == 0
    assert np.abs(found.astype(int) - frames).mean() < error
    assert (
        np.abs(found[::-1].astype(int) - frames).mean()
        > 2 * np.abs(found.astype(int) - frames).mean()
    )  # the order counts
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_animations_play_at_their_rate(frames, tmp_path):
    for kind, expected in (("webp", 125), ("gif", 120)):  # GIF counts hundredths
        with Image.open(WRITERS[kind](frames, tmp_path / f"a.{kind}", 8, {})) as picture:
            picture.load()
            assert picture.info["duration"] == expected


def test_animation_of_equal_frames_is_accepted(frames, tmp_path):
    still = np.repeat(frames[:1], 8, axis=0)
    for kind, write in WRITERS.items():
        assert read_recipe(write(still, tmp_path / f"a.{kind}", 8, RECIPE)) == RECIPE


def test_webp_holds_the_recipe_as_xmp_that_any_reader_parses(frames, tmp_path):
    with Image.open(write_webp(frames, tmp_path / "a.webp", 8, RECIPE)) as picture:
        packet = picture.info["xmp"].decode()
    root = ET.fromstring(re.sub(r"<\?xpacket[^>]*\?>", "", packet))
    attributes = {k.split("}")[-1]: v for node in root.iter() for k, v in node.attrib.items()}
    assert json.loads(attributes["recipe"]) == RECIPE


def test_gif_holds_the_recipe_in_its_comment(frames, tmp_path):
    with Image.open(write_gif(frames, tmp_path / "a.gif", 8, RECIPE)) as picture:
        assert json.loads(picture.info["comment"]) == RECIPE


def test_gif_has_one_palette_for_all_frames(frames, tmp_path):
    found, _ = read_frames(write_gif(frames, tmp_path / "a.gif", 8, {}))
    assert len(np.unique(found.reshape(-1, 3), axis=0)) <= 256
    loose = [Image.fromarray(frame).quantize(200) for frame in frames]
    loose[0].save(tmp_path / "b.gif", save_all=True, append_images=loose[1:])
    found, _ = read_frames(tmp_path / "b.gif")
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 256  # the check can fail


def test_frames_come_back_from_the_zip_to_the_pixel(frames, tmp_path):
    path = write_frames(frames, tmp_path / "a.zip", RECIPE)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pictures = [Image.open(io.BytesIO(archive.read(name))) for name in names[:-1]]
        assert json.loads(archive.read("recipe.json")) == RECIPE
    assert names == [*(f"frame-{n:04d}.png" for n in range(1, 9)), "recipe.json"]
    assert np.array_equal(np.stack([np.asarray(picture) for picture in pictures]), frames)
    assert write_frames(frames, tmp_path / "b.zip", RECIPE).read_bytes() == path.read_bytes()


def test_recipes_come_back_from_every_kind(frames, tmp_path):
    for kind, write in WRITERS.items():
        assert read_recipe(write(frames, tmp_path / f"a.{kind}", 8, RECIPE)) == RECIPE
    assert read_recipe(write_frames(frames, tmp_path / "a.zip", RECIPE)) == RECIPE
    renamed = write_still(frames[0], tmp_path / "a.png", RECIPE).rename(tmp_path / "a.upload")
    assert read_recipe(renamed, "png") == RECIPE


@pytest.mark.parametrize("kind", ["webp", "gif", "zip", "png"])
def test_foreign_and_damaged_files_are_refused_in_a_sentence(frames, tmp_path, kind):
    plain, ours = tmp_path / f"plain.{kind}", tmp_path / f"ours.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(plain, "w") as archive:
            archive.writestr("readme.txt", "nothing here")
        write_frames(frames, ours, RECIPE)
    else:
        Image.fromarray(frames[0]).save(plain)
        write = WRITERS.get(kind) or (lambda f, path, fps, recipe: write_still(f[0], path, recipe))
        write(frames, ours, 8, RECIPE)
    with pytest.raises(MediaError, match=r"plain.* holds no recipe"):
        read_recipe(plain)
    data = ours.read_bytes()
    for number, damaged in enumerate((b"", b"\0" * 300, data[: len(data) // 3], data[9:])):
        path = tmp_path / f"damaged-{number}.{kind}"
        path.write_bytes(damaged)
        try:
            found = read_recipe(path)  # some damage spares the recipe
        except MediaError as error:
            assert re.match(r"damaged-\d.* (cannot be read|holds no recipe)", str(error))
        else:
            assert number > 1 and found == RECIPE


def test_metadata_that_is_no_recipe_is_refused_in_a_sentence(frames, tmp_path):
    for number, comment in enumerate((b"[1, 2]", b"{", b"[" * 100_000, b"null", b"\xff\xfe")):
        path = tmp_path / f"odd-{number}.gif"
        Image.fromarray(frames[0]).save(path, comment=comment)
        with pytest.raises(MediaError, match=r"odd-\d.gif holds no recipe"):
            read_recipe(path)


@pytest.mark.parametrize("write", [write_webp, write_gif])
def test_wrong_arrays_and_names_are_refused(frames, tmp_path, write):
    right = {write_webp: "a.webp", write_gif: "a.gif"}[write]
    for clip, name in [(frames[0], right), (frames.astype(float), right), (frames, "a.mp4")]:
        with pytest.raises(MediaError):
            write(clip, tmp_path / name, 8, {})
    with pytest.raises(MediaError, match="fps"):
        write(frames, tmp_path / right, 0, {})
    assert list(tmp_path.iterdir()) == []
