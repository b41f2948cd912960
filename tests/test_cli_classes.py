"""`generate` with class and unconditional models."""

import os
import re

import numpy as np
import pytest
from tiny_class_folder import CLASSES, write_tiny_class_folder

from latte_core import cli, read_clip, read_recipe


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_folder):
    top = tmp_path_factory.mktemp("cli")
    return {
        "class": write_tiny_class_folder(top / "class", card={"classes": list(CLASSES)}),
        "none": write_tiny_class_folder(top / "none", num_classes=0),
        "text": tiny_folder,
    }


def run(capsys, folder, *arguments):
    """Exit code, stdout, stderr of two quiet steps with seed 7."""
    options = ["--model", folder, "--seed", 7, "--steps", 2, "--quiet"]
    code = cli.main(["generate", *map(str, [*arguments, *options])])
    captured = capsys.readouterr()
    return code, captured.out.strip(), captured.err


def test_a_class_is_given_by_number_or_name(capsys, tmp_path, folders):
    paths = [tmp_path / f"{index}.mp4" for index in range(3)]
    for path, name in zip(paths, ("1", "apply-eye-makeup", "Archery"), strict=True):
        code, out, _ = run(capsys, folders["class"], "--class", name, "--out", path)
        assert (code, out) == (0, str(path))
    assert [read_recipe(path)["class_label"] for path in paths] == [1, 1, 2]
    first, again, other = map(read_clip, paths)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_stills_have_classes_of_their_own(capsys, tmp_path, folders):
    target = tmp_path / "clip.mp4"
    arguments = ["--class", "3", "--mode", "joint", "--image-classes", "archery, 0"]
    code, out, _ = run(capsys, folders["class"], *arguments, "--out", target)
    assert code == 0
    assert len(out.split()) == 3
    recipe = read_recipe(target)
    assert (recipe["class_label"], recipe["image_class_labels"]) == (3, [2, 0])


def test_an_unconditional_model_is_told_nothing(capsys, tmp_path, folders):
    target = tmp_path / "clip.mp4"
    assert run(capsys, folders["none"], "--out", target)[0] == 0
    recipe = read_recipe(target)
    assert (recipe["prompt"], recipe["class_label"], recipe["guidance_scale"]) == ("", None, 1)


@pytest.mark.parametrize(
    "kind,arguments,words",
    [
        ("class", [], r"class_label is missing: .* 5 classes \(0 Basketball, .*from 0 to 4"),
        ("class", ["a cow"], "prompt is 'a cow', but this model reads no text: choose a class"),
        ("class", ["--class", "5"], "no class '5' among the 5"),
        ("class", ["--class", "archary"], r"closest are Archery \(2\)"),
        ("class", ["a cow", "--class", "1"], "class_label is set and there is a prompt as well"),
        ("class", ["--class", "1", "--image-classes", "2"], "mode video makes no stills"),
        ("class", ["--class", "1", "--mode", "image", "--image-classes", "x"], "no class 'x'"),
        ("none", ["--class", "1"], "this model knows no classes, so leave it out"),
        ("none", ["a cow"], "prompt is 'a cow', but this model reads no text: leave it empty"),
        ("none", ["--guidance", "7"], "nothing to be guided by"),
        ("text", [], "prompt is empty"),
        ("text", ["--class", "1"], "this model knows no classes, so leave it out"),
    ],
)
def test_wrong_combinations_are_sentences(
    capsys, tmp_path, monkeypatch, folders, kind, arguments, words
):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, folders[kind], *arguments)
    assert (code, out) == (2, "")
    assert re.search(words, err)
    assert len(err.strip().splitlines()) == 1
    assert os.listdir(tmp_path) == []
