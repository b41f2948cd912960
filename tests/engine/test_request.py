"""Every field of a request against hostile values; the same object serves page, API and CLI."""

import dataclasses
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from latte_core import EngineInfo, GenerationRequest, RequestError

DEFAULTS = SimpleNamespace(
    num_inference_steps=50,
    guidance_scale=7.5,
    num_frames=16,
    height=512,
    width=512,
    fps=8,
    scheduler="ddim",
    plan="full",
)
WHOLE = {
    "num_images": (0, 8),
    "seed": (0, 2**32 - 1),
    "num_inference_steps": (1, 250),
    "num_frames": (1, 64),
    "height": (32, 1024),
    "width": (32, 1024),
}
NOT_NUMBERS = [
    True,
    False,
    "50",
    b"50",
    "",
    [],
    [4],
    {},
    {"path": "/etc/passwd"},
    object(),
    math.nan,
    math.inf,
    -math.inf,
    50.7,
    0.5,
    10**400,
    -(10**400),
    1e308,
    1j,
    np.float32("nan"),
    np.array([1, 2]),
]


def refused(**fields):
    with pytest.raises(RequestError) as caught:
        GenerationRequest(**{"prompt": "a cow", **fields})
    message = str(caught.value)
    assert caught.value.field in fields
    assert caught.value.field in message
    assert len(message) < 300
    return message


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("field", WHOLE)
def test_whole_number_fields_refuse_other_things(field, value):
    refused(**{"mode": "joint", field: value})


@pytest.mark.parametrize("field,limits", WHOLE.items())
def test_whole_number_fields_keep_their_limits(field, limits):
    low, high = limits
    for value in (low, high):
        request = GenerationRequest("a cow", mode="image", **{field: value})
        assert getattr(request, field) == value
    for value in (low - 1, high + 1, -1):
        message = refused(mode="image", **{field: value})
        assert str(low) in message
        assert str(high) in message


def test_whole_numbers_may_come_as_numpy_or_whole_floats():
    request = GenerationRequest("a cow", seed=np.int64(5), num_inference_steps=20.0)
    assert (request.seed, request.num_inference_steps) == (5, 20)
    assert type(request.seed) is int
    assert type(request.num_inference_steps) is int


@pytest.mark.parametrize("value", [0, 0.99, 30.1, -1, True, "7", None.__class__, math.nan, []])
def test_guidance_refuses_values_outside(value):
    assert "from 1 to 30" in refused(guidance_scale=value)


@pytest.mark.parametrize("value", [1, 1.0, 7.5, 30, np.float64(4.5)])
def test_guidance_is_a_float(value):
    assert type(GenerationRequest("a cow", guidance_scale=value).guidance_scale) is float


@pytest.mark.parametrize("field", ["height", "width"])
def test_sizes_are_multiples_of_sixteen_and_the_neighbours_are_named(field):
    message = refused(**{field: 100})
    assert "96 or 112" in message


@pytest.mark.parametrize("value", ["", "Full", "a b", "x" * 41, "../plans", "-a", 5, ["full"]])
def test_plans_are_names(value):
    assert "small letters" in refused(plan=value)
    assert GenerationRequest("a cow", plan="budget-50").plan == "budget-50"


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        ["a cow"],
        b"a cow",
        "x" * 301,
        "x" * 10**6,
        "a\0cow",
        "a\ud800cow",
        "a\ncow",
        "\x1b[31m",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_text_fields_refuse(field, value):
    message = refused(**{field: value})
    assert "x" * 50 not in message


@pytest.mark.parametrize("value", ["", "   ", "\n"])
def test_an_empty_prompt_is_refused(value):
    request = GenerationRequest(value)
    assert request == GenerationRequest()  # fine for a model that reads no prompt
    with pytest.raises(RequestError, match="prompt is empty: describe the video") as caught:
        request.check_conditioning("text")
    assert caught.value.field == "prompt"
    assert GenerationRequest("a cow", negative_prompt=value).negative_prompt == ""


def test_prompt_is_normalised_and_stripped():
    assert GenerationRequest("  cafe\u0301  ").prompt == "caf\u00e9"
    assert len(GenerationRequest("e\u0301" * 300).prompt) == 300


@pytest.mark.parametrize("field", ["mode", "scheduler"])
@pytest.mark.parametrize("value", ["", "Video", "dpm", 3, ["video"], ["ddim"], "x" * 1000])
def test_choices_refuse_and_list_the_options(field, value):
    message = refused(**{field: value})
    assert "must be one of" in message


def test_fields_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationRequest("a cow").seed = 3


def test_the_largest_clip_of_latte_1_fits_and_more_does_not():
    largest = {"num_frames": 16, "height": 512, "width": 512, "num_inference_steps": 250}
    GenerationRequest("a cow", **largest)
    GenerationRequest("a cow", mode="joint", num_images=8, **largest)
    for more in ({"num_frames": 17}, {"height": 528}, {"width": 1024}):
        assert "the limit is" in _budget(**{**largest, **more})


def _budget(**fields):
    with pytest.raises(RequestError) as caught:
        GenerationRequest("a cow", **fields)
    assert caught.value.field == "num_inference_steps"
    return str(caught.value)


def test_video_mode_refuses_stills_and_joint_needs_frames_for_them():
    assert "mode video makes no stills" in refused(num_images=2)
    message = refused(mode="joint", num_images=5, num_frames=4)
    assert "at most 4" in message


def test_resolve_fills_everything_and_draws_a_seed():
    resolved = GenerationRequest("a cow").resolve(DEFAULTS)
    assert [name for name, value in resolved.to_dict().items() if value is None] == [
        "class_label",
        "tempo",
        "first_frame",
    ]
    assert 0 <= resolved.seed < 2**32
    assert resolved.num_inference_steps == 50
    assert resolved.scheduler == "ddim"
    seeds = {GenerationRequest("a cow").resolve(DEFAULTS).seed for _ in range(20)}
    assert len(seeds) == 20


def test_resolve_keeps_what_was_given():
    given = GenerationRequest("a cow", "rain", "joint", 2, 0, 7, 1.0, 8, 64, 96, "unipc")
    expected = dataclasses.replace(given, plan="full")
    assert given.resolve(DEFAULTS, range(1, 17)) == expected
    chosen = dataclasses.replace(given, plan="interval")
    assert chosen.resolve(DEFAULTS, range(1, 17)) == chosen


@pytest.mark.parametrize("mode,stills", [("video", 0), ("image", 1), ("joint", 4)])
def test_resolve_knows_the_number_of_stills(mode, stills):
    assert GenerationRequest("a cow", mode=mode).resolve(DEFAULTS).num_images == stills


def test_resolve_refuses_clips_that_the_model_cannot_make():
    for frames in (8, 17):
        with pytest.raises(RequestError, match="clips of 1 or 16 frames") as caught:
            GenerationRequest("a cow", num_frames=frames).resolve(DEFAULTS)
        assert caught.value.field == "num_frames"
    with pytest.raises(RequestError, match="clips of 1 to 16 frames"):
        GenerationRequest("a cow", num_frames=17).resolve(DEFAULTS, range(1, 17))
    assert GenerationRequest("a cow", num_frames=8).resolve(DEFAULTS, range(1, 17))
    assert GenerationRequest("a cow", num_frames=1).resolve(DEFAULTS).num_frames == 1
    with pytest.raises(RequestError, match="stills"):
        GenerationRequest("a cow", mode="joint").resolve(
            SimpleNamespace(**{**vars(DEFAULTS), "num_frames": 2})
        )


def refused_by(conditioning, classes=("a", "b", "c"), **fields):
    with pytest.raises(RequestError) as caught:
        GenerationRequest(**fields).check_conditioning(conditioning, classes)
    assert caught.value.field in str(caught.value)
    return caught.value.field, str(caught.value)


@pytest.mark.parametrize(
    "conditioning,fields,field,words",
    [
        ("text", {}, "prompt", "describe the video"),
        ("text", {"class_label": 0}, "class_label", "knows no classes: leave it out"),
        ("text", {"mode": "image", "image_class_labels": [1]}, "class_label", "knows no classes"),
        (
            "class",
            {},
            "class_label",
            r"missing: this model makes 3 classes \(0 a, 1 b, 2 c, \.\.\.\).*from 0 to 2",
        ),
        ("class", {"class_label": 3}, "class_label", "has 3, .* 3 classes: choose from 0 to 2"),
        ("class", {"prompt": "a cow"}, "prompt", "'a cow'.*reads no text: choose a class"),
        ("class", {"negative_prompt": "rain"}, "negative_prompt", "reads no text"),
        (
            "class",
            {"class_label": 1, "mode": "image", "image_class_labels": [9]},
            "image_class_labels",
            "has 9",
        ),
        ("none", {"prompt": "a cow"}, "prompt", "reads no text: leave it empty"),
        ("none", {"class_label": 1}, "class_label", "unconditional and has no classes"),
        ("none", {"guidance_scale": 7}, "guidance_scale", "is 7.*nothing to be guided by"),
    ],
)
def test_a_model_is_told_only_what_it_can_read(conditioning, fields, field, words):
    found, message = refused_by(conditioning, **fields)
    assert found == field
    assert re.search(words, message)
    assert len(message) < 300


def test_what_suits_a_model_passes():
    GenerationRequest("a cow", negative_prompt="rain").check_conditioning("text")
    GenerationRequest(class_label=2).check_conditioning("class", ("a", "b", "c"))
    GenerationRequest(class_label=0, guidance_scale=7).check_conditioning("class", ("a",))
    GenerationRequest().check_conditioning("none")
    GenerationRequest(guidance_scale=1).check_conditioning("none")


@pytest.mark.parametrize("value", [*NOT_NUMBERS, -1, 100_000], ids=lambda value: repr(value)[:20])
def test_class_labels_are_whole_numbers(value):
    with pytest.raises(RequestError) as caught:
        GenerationRequest(class_label=value)
    assert caught.value.field == "class_label"
    with pytest.raises(RequestError) as caught:
        GenerationRequest(mode="image", image_class_labels=[value])
    assert caught.value.field == "image_class_labels"


def test_a_class_and_a_prompt_exclude_each_other():
    for fields in ({"prompt": "a cow"}, {"negative_prompt": "rain"}):
        with pytest.raises(RequestError, match="class_label is set and there is a prompt as well"):
            GenerationRequest(class_label=3, **fields)


@pytest.mark.parametrize("value", [3, "123", {1, 2}, None, [0] * 9, {"0": 1}, object()])
def test_classes_of_stills_are_a_short_list(value):
    with pytest.raises(RequestError, match="a list of 0 to 8 labels"):
        GenerationRequest(mode="joint", image_class_labels=value)


def test_stills_have_one_class_each():
    request = GenerationRequest(class_label=1, mode="joint", image_class_labels=[2, 0])
    assert request.image_class_labels == (2, 0)
    assert request.resolve(DEFAULTS).num_images == 2
    with pytest.raises(RequestError, match="2 classes for 3 stills: give one each"):
        GenerationRequest(mode="joint", num_images=3, image_class_labels=[2, 0])
    with pytest.raises(RequestError, match="mode video makes no stills"):
        GenerationRequest(image_class_labels=[2])


CLASSES = ("Basketball", "Apply Eye-Makeup", "Archery", "7")
INFO = EngineInfo("ucf", "0", "cpu", "", DEFAULTS, (), (), (), {}, "class", CLASSES)


@pytest.mark.parametrize(
    "name,label",
    [("Archery", 2), ("archery", 2), (" applyeyemakeup", 1), ("APPLY_EYE_MAKEUP", 1), ("3", 3)],
)
def test_a_class_is_found_by_name_or_number(name, label):
    assert INFO.class_index(name) == label


@pytest.mark.parametrize(
    "name,words",
    [
        ("Archary", r"closest are Archery \(2\)"),
        ("zebra", "no class 'zebra' among the 4 of this model: .* from 0 to 3"),
        ("7", "no class '7'"),
        ("-1", "no class '-1'"),
        ("\u00b2", "no class"),
        ("", "no class ''"),
        ("x" * 10**5, "no class 'xxx"),
        ("1" * 5000, "no class '111"),
    ],
)
def test_an_unknown_class_names_the_closest(name, words):
    with pytest.raises(RequestError, match=words) as caught:
        INFO.class_index(name)
    assert caught.value.field == "class_label"
    assert len(str(caught.value)) < 300


def test_models_without_classes_say_so():
    with pytest.raises(RequestError, match="knows no classes, so leave it out"):
        dataclasses.replace(INFO, classes=()).class_index("Archery")


@pytest.mark.parametrize("value", [3, "a cat", {"a", "b"}, None, ["a"] * 9, object()])
def test_prompts_of_stills_are_a_short_list(value):
    with pytest.raises(RequestError, match="a list of 0 to 8 texts") as caught:
        GenerationRequest("a cow", mode="joint", image_prompts=value)
    assert caught.value.field == "image_prompts"


def test_stills_have_one_prompt_each_checked_like_the_clips():
    request = GenerationRequest("a cow", mode="joint", image_prompts=[" a cat ", ""])
    assert request.image_prompts == ("a cat", "")
    assert request.resolve(DEFAULTS).num_images == 2
    assert GenerationRequest("a cow", image_prompts=["", ""]).image_prompts == ()
    for fields, words in (
        ({"image_prompts": ["a"], "num_images": 3}, "1 prompts for 3 stills: give one each"),
        ({"image_prompts": ["x" * 301]}, "image_prompts has 301 characters"),
        ({"image_prompts": [5]}, "image_prompts must be text, not 5"),
        ({"image_prompts": ["a\nb"]}, "line break"),
        ({"image_prompts": ["a"], "mode": "video"}, "mode video makes no stills"),
    ):
        with pytest.raises(RequestError, match=words):
            GenerationRequest("a cow", **{"mode": "joint", **fields})
    own = {"mode": "image", "image_prompts": ["a cat"]}
    assert refused_by("class", class_label=1, **own)[0] == "image_prompts"
