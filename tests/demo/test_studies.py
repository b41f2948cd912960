"""Charts of studies, from the file that the `study` command writes."""

import json
import xml.etree.ElementTree as ET

import pytest

from demo.strings import languages, load_texts
from demo.studies import STUDIES, draw_arms, draw_studies, read_studies
from latte_core.training.study import Arm, Result

TEXTS = load_texts()
ARMS = (
    Arm("one & only", 0.30, 0.28, 0.32, 0.0, 0.0, 0.0, 2_000_000, 10.0),
    Arm("<b>two</b>", 0.40, 0.36, 0.44, 0.1, 0.08, 0.12, 2_100_000, 11.0),
    Arm("three", 0.25, 0.24, 0.27, -0.05, -0.06, -0.04, 2_100_000, 11.0),
)
RESULT = Result("joint", "Joint", "Does it help?", "It did.", "error of v", ARMS, 600, 4800, 96)


def test_study_of_the_command_is_drawn_with_what_the_paper_found(tmp_path):
    (tmp_path / "joint.json").write_text(RESULT.to_json())
    markup = draw_studies(read_studies(tmp_path), TEXTS)
    assert "It did." in markup and "600 steps" in markup and "&lt;b&gt;two&lt;/b&gt;" in markup
    assert "+0.1000 against the first (+0.0800 to +0.1200)" in markup


def test_dots_and_lines_stand_where_the_numbers_are():
    root = ET.fromstring(draw_arms(json.loads(RESULT.to_json())["arms"], TEXTS))
    dots = [places(dot)["left"] for dot in root.iter("b")]
    # places are linear in the values: compare ratios of distances
    assert (dots[1] - dots[0]) / (dots[0] - dots[2]) == pytest.approx(0.1 / 0.05, rel=0.02)
    for dot, line in zip(dots, map(places, root.iter("i")), strict=True):
        assert 0 <= line["left"] <= dot <= line["left"] + line["width"] <= 100.01


def places(element):
    """The percentages of a style."""
    pairs = (part.split(":") for part in element.get("style").split(";"))
    return {name: float(value.removesuffix("%")) for name, value in pairs}


def test_nothing_is_shown_without_a_study_or_for_a_damaged_one(tmp_path, caplog):
    assert draw_studies(read_studies(tmp_path), TEXTS) == ""
    assert draw_studies(read_studies(tmp_path / "missing"), TEXTS) == ""
    good = json.loads(RESULT.to_json())
    backwards = [{**good["arms"][0], "low": 9.0}]
    for number, bad in enumerate(({"format": 2}, {"arms": []}, {"arms": backwards}, {"paper": 5})):
        (tmp_path / f"{number}.json").write_text(json.dumps({**good, **bad}))
    (tmp_path / "x.json").write_text("{")
    assert read_studies(tmp_path) == [] and len(caplog.records) == 5


@pytest.mark.parametrize("language", languages())
def test_every_study_of_this_repository_can_be_shown(language):
    studies = read_studies()
    assert len(studies) == len(list(STUDIES.glob("*.json")))
    assert draw_studies(studies, load_texts(language)).count('class="li-arms"') == len(studies)
