"""The picture that a clip begins with: as a file, in a request, in the latents."""

import base64
import io
import zlib

import numpy as np
import pytest
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from tiny_folder import FRAMES, SIZE
from tiny_requests import ask, same

from latte_core import RequestError, load_picture
from latte_core.engine.start_picture import MAX_CHARS, from_data_url, picture_pixels
from latte_core.media import write_clip


def gradient(height=SIZE, width=SIZE, mode="RGB"):
    """A picture whose every side looks different."""
    rows, columns = np.linspace(0, 255, height), np.linspace(0, 255, width)
    red, green = np.meshgrid(columns, rows)
    pixels = np.stack([red, green, np.full_like(red, 40)], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def noisy(side):
    """A picture that does not compress."""
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_file_becomes_a_data_url_that_shows_it(tmp_path, suffix):
    path = tmp_path / f"start{suffix}"
    gradient().save(path)
    pixels = picture_pixels(load_picture(path, SIZE, SIZE), SIZE, SIZE)
    assert np.array_equal(pixels, np.asarray(Image.open(path).convert("RGB")))


def test_picture_is_cut_around_its_middle_and_never_squeezed(tmp_path):
    gradient(SIZE, 3 * SIZE).save(tmp_path / "wide.png")
    pixels = picture_pixels(load_picture(tmp_path / "wide.png", SIZE, SIZE), SIZE, SIZE)
    middle = np.asarray(gradient(SIZE, 3 * SIZE))[:, SIZE : 2 * SIZE]
    assert np.abs(pixels.astype(int) - middle).max() <= 1


def test_camera_rotation_is_obeyed_and_glass_is_white(tmp_path):
    picture = gradient()
    tags = picture.getexif()
    tags[0x0112] = 6  # turn by 90 degrees to the right
    picture.save(tmp_path / "turned.png", exif=tags)
    pixels = picture_pixels(load_picture(tmp_path / "turned.png", SIZE, SIZE), SIZE, SIZE)
    assert np.array_equal(pixels, np.rot90(np.asarray(picture), -1))
    Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0)).save(tmp_path / "glass.png")
    glass = picture_pixels(load_picture(tmp_path / "glass.png", SIZE, SIZE), SIZE, SIZE)
    assert glass.min() == 255


def test_large_pictures_are_made_to_fit_and_kept_close():
    url = load_picture(noisy(256), 256, 256)
    assert len(url) <= MAX_CHARS
    assert url.startswith("data:image/webp")
    assert from_data_url(url).size == (256, 256)


def _bomb():
    """A PNG whose header claims 40,000 x 40,000 pixels."""
    buffer = io.BytesIO()
    Image.new("1", (8, 8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (40_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    "content,words",
    [(b"", "no picture"), (b"hello", "no picture"), (b"GIF89a" + bytes(99), "PNG, JPEG or WebP")],
)
def test_files_that_are_no_pictures_are_refused_in_words(tmp_path, content, words):
    path = tmp_path / "start.png"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=words) as caught:
        load_picture(path, SIZE, SIZE)
    assert caught.value.field == "first_frame"
    assert "start.png" in str(caught.value)


def test_missing_and_huge_files_are_refused(tmp_path):
    with pytest.raises(RequestError, match="No such file"):
        load_picture(tmp_path / "none.png", SIZE, SIZE)
    (tmp_path / "bomb.png").write_bytes(_bomb())
    with pytest.raises(RequestError, match=r"no picture|40000 x 40000"):
        load_picture(tmp_path / "bomb.png", SIZE, SIZE)
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate(33 * 2**20)
    with pytest.raises(RequestError, match="33 MiB, the limit is 32"):
        load_picture(tmp_path / "long.png", SIZE, SIZE)


@pytest.mark.parametrize(
    "value",
    [
        5,
        b"data:",
        "",
        "/etc/passwd",
        "http://example.com/a.png",
        "data:text/html;base64,AAAA",
        "data:image/png;base64,???",
        "data:image/png;base64," + base64.b64encode(b"no picture").decode(),
        "data:image/png;base64," + "A" * MAX_CHARS,
    ],
    ids=lambda value: repr(value)[:30],
)
def test_requests_refuse_what_is_no_small_picture(value):
    with pytest.raises(RequestError, match="first_frame") as caught:
        ask(first_frame=value)
    assert caught.value.field == "first_frame"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("fields", [{"mode": "image"}, {"num_frames": 1}])
def test_stills_have_no_first_frame(fields):
    with pytest.raises(RequestError, match="nothing moves"):
        ask(first_frame=load_picture(gradient(), SIZE, SIZE), **fields)


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++2m", "ddpm", "heun"])
def test_first_latents_are_the_pictures_with_every_sampler(engine, scheduler):
    """The autoencoder as diffusers' own pipelines call it says what they have to be."""
    url = load_picture(gradient(), SIZE, SIZE)
    made = engine.generate(ask(first_frame=url, scheduler=scheduler))
    vae = engine._pipeline.parts.vae
    pixels = VaeImageProcessor().preprocess(gradient())
    theirs = vae.encode(pixels).latent_dist.mode()[0].numpy() * vae.config.scaling_factor
    assert np.abs(made.latents[0, :, 0] - theirs).max() < 1e-3 * np.abs(theirs).max()
    assert np.abs(made.latents[0, :, 1] - theirs).max() > 0.1


def test_clip_is_made_again_from_its_recipe_and_goes_into_files(engine, tmp_path):
    from latte_core import GenerationRequest, read_recipe

    made = engine.generate(ask(first_frame=load_picture(gradient(), SIZE, SIZE)))
    write_clip(made.frames, tmp_path / "clip.mp4", made.fps, made.recipe)
    recipe = read_recipe(tmp_path / "clip.mp4")
    fields = {k: v for k, v in recipe.items() if k in GenerationRequest.__dataclass_fields__}
    assert same(made, engine.generate(GenerationRequest(**fields)))


def test_long_joint_clip_begins_with_the_picture_and_leaves_stills_alone(engine):
    url = load_picture(gradient(), SIZE, SIZE)
    long = ask(first_frame=url, num_frames=FRAMES + 4, mode="joint", num_images=1)
    plain = ask(num_frames=FRAMES + 4, mode="joint", num_images=1)
    made, other = engine.generate(long), engine.generate(plain)
    assert np.array_equal(made.stills[0], other.stills[0])
    first = engine.generate(ask(first_frame=url)).latents[0, :, 0]
    assert np.allclose(made.latents[0, :, 0], first, atol=1e-4)
