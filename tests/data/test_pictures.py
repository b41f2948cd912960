"""Pictures to squares: cut in the middle, scaled without aliasing, upright."""

import numpy as np
import pytest
from PIL import Image
from video_files import numbered_picture, read_number

from latte_core.data.pictures import frame_order, probe_frames, to_square


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "part"),
    [
        (32, 48, np.s_[:, 8:40]),
        (48, 32, np.s_[8:40, :]),
        (32, 32, np.s_[:, :]),
        (32, 37, np.s_[:, 2:34]),
    ],
)
def test_middle_is_cut_out_exactly(height, width, part):
    pixels = picture(height, width)
    assert np.array_equal(to_square(Image.fromarray(pixels), 32), pixels[part])


def test_fine_patterns_become_grey_and_no_other_pattern():
    board = np.indices((128, 128)).sum(axis=0) % 2 * 255
    board = np.repeat(board[..., None], 3, axis=-1).astype(np.uint8)
    small = to_square(Image.fromarray(board), 32).astype(int)
    assert np.abs(small[2:-2, 2:-2] - 127).max() <= 2
    plain = board[::4, ::4].astype(int)  # control: without a filter only one colour is left
    assert np.abs(plain - 127).min() > 100


def test_frames_are_in_order_of_their_trailing_number():
    names = ["s2_frame_10.jpg", "s2_frame_9.jpg", "s2_frame_1.jpg", "cover.jpg"]
    ordered = ["cover.jpg", "s2_frame_1.jpg", "s2_frame_9.jpg", "s2_frame_10.jpg"]
    assert sorted(names, key=frame_order) == ordered


def test_turned_photograph_is_set_upright(tmp_path):
    upright = Image.fromarray(numbered_picture(341, 64, 96))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    upright.rotate(90, expand=True).save(tmp_path / "0.png", exif=exif)
    upright.save(tmp_path / "1.png")
    folder = probe_frames(tmp_path, ["0.png", "1.png"])
    assert (folder.width, folder.height) == (64, 96)
    turned, plain = folder.read([0, 1], 64)
    assert np.array_equal(turned, plain)
    assert read_number(plain) == 341


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    Image.fromarray(picture(20, 20)).convert(mode).save(tmp_path / "0.png")
    frames = probe_frames(tmp_path, ["0.png"]).read([0], 16)
    assert (frames.shape, frames.dtype) == ((1, 16, 16, 3), np.uint8)
