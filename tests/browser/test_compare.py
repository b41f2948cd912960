"""The Compare tab and the tab that looks inside, in a real browser."""

import csv
import io

import pytest
from deep_model import PAIRS
from fake_engine import FakeEngine
from test_history_page import make, wait_for_newest
from test_page import fill_in

from latte_core import read_clip, read_recipe

pytestmark = pytest.mark.browser

SHOWN = "() => !(document.querySelector('.lc-body')?.hidden ?? true)"
PIXEL = """([x, y]) => {
  const canvas = document.querySelector('.lc-canvas');
  const at = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
  return [...canvas.getContext('2d').getImageData(...at, 1, 1).data];
}"""

TORN = """() => [...document.querySelectorAll('.lc-facts th')].flatMap(({firstChild: text}) =>
  [...(text?.data ?? '').matchAll(/\\S+/g)].filter(({0: word, index}) => {
    const range = document.createRange();
    range.setStart(text, index);
    range.setEnd(text, index + word.length);
    return range.getClientRects().length > 1;
  }).map(([word]) => word))"""


@pytest.fixture(scope="module")
def url(serve_fake):
    return serve_fake(FakeEngine())


def download(page, name, folder):
    with page.expect_download() as waiting:
        page.get_by_role("link", name=name, exact=True).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def set_range(page, name, value):
    page.locator(f".lc-{name}").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
    )


def test_two_films_play_in_step_under_a_wipe_and_come_as_files(visit, url, tmp_path):
    page = visit(url)
    make(page, "1")
    make(page, "2")
    page.locator(".lh-compare").nth(1).click()
    page.get_by_role("tab", name="Studio").click()
    page.locator(".lh-compare").nth(0).click()
    page.wait_for_function(SHOWN)
    labels = [
        page.locator(f".lc-{side}").evaluate("s => s.selectedOptions[0].text") for side in "ab"
    ]
    assert "seed 1" in labels[0] and "seed 2" in labels[1]
    before = page.locator(".lc").get_attribute("data-frames")
    page.wait_for_function("b => document.querySelector('.lc').dataset.frames !== b", arg=before)
    page.get_by_role("button", name="Pause").click()
    set_range(page, "frame", 3)
    assert page.locator(".lc").get_attribute("data-frames") == "3,3"
    for wipe in (250, 750):  # the line is where the slider says
        set_range(page, "wipe", wipe)
        assert page.evaluate(PIXEL, [wipe / 1000, 0.02])[:3] == [255, 248, 238]
        assert page.evaluate(PIXEL, [1 - wipe / 1000, 0.02])[:3] != [255, 248, 238]
    set_range(page, "column", 250)
    assert page.locator(".lc-slice-a").evaluate("c => [c.width, c.height]") == [8, 64]
    assert "of 255 a frame" in page.locator(".lc-flicker-a").inner_text()
    both = download(page, "Both (mp4)", tmp_path)
    assert read_clip(both).shape == (8, 64, 132, 3)
    assert read_recipe(both)["compared_with"]["seed"] == 2
    assert download(page, "Slices (PNG)", tmp_path).stat().st_size > 100
    table = list(csv.DictReader(io.StringIO(download(page, "Table (CSV)", tmp_path).read_text())))
    assert [row["seed"] for row in table] == ["1", "2"]
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{url}?lang=ru")
    page.get_by_role("tab", name="Сравнение").click()
    page.wait_for_function(SHOWN)
    assert page.evaluate(TORN) == []  # "Следование", "описанию"


def test_sheet_fills_up_and_comes_as_files(visit, url, tmp_path):
    page = visit(url)
    fill_in(page, seed="5")
    page.get_by_role("tab", name="Compare").click()
    values = page.get_by_label("Values, with commas")
    values.nth(0).fill("1, 2")
    values.nth(1).fill("1, 3")
    page.get_by_role("button", name="Make the sheet").click()
    page.wait_for_selector(".lx[data-state=finished]")
    page.wait_for_function("document.querySelector('.lx-video').readyState >= 2")
    assert page.locator(".lx-said").inner_text().startswith("4 films.")
    assert read_recipe(download(page, "Sheet (mp4)", tmp_path))["sheet"][1]["values"] == [1, 3]
    values.nth(0).fill("9999")
    page.get_by_role("button", name="Make the sheet").click()
    page.wait_for_selector(".lx[data-state=failed]")
    assert "num_inference_steps is 9999" in page.locator(".lx-said").inner_text()


def test_sheet_stops_between_two_steps(visit, serve_fake):
    page = visit(serve_fake(FakeEngine(step_s=0.5)))
    fill_in(page, steps="20")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Values, with commas").nth(0).fill("20, 21")
    page.get_by_role("button", name="Make the sheet").click()
    page.wait_for_function("document.body.classList.contains('lx-busy')")
    page.locator("#sheet-stop").click()
    page.wait_for_selector(".lx[data-state=failed]")
    assert "Stopped" in page.locator(".lx-said").inner_text()
    assert page.get_by_role("button", name="Make the sheet").is_visible()


def test_tokens_of_a_film_are_looked_into(open_page):
    page = open_page()
    fill_in(page, prompt="a red cow", steps="2", seed="3")
    page.get_by_role("button", name="Generate").click()
    wait_for_newest(page, "3")
    page.get_by_role("tab", name="Look inside").click()
    page.wait_for_selector(".li-variants svg")
    assert page.locator(".li-variants figure").count() == 4
    page.get_by_role("button", name="Look inside").click()
    page.wait_for_function("!document.querySelector('.li-body').hidden")
    assert page.locator(".li-blocks button").count() == 2 * PAIRS
    assert page.locator(".li-frames button").count() == 8
    assert page.locator(".li-variants figure[data-own=true]").get_attribute("data-variant") == "1"
    page.locator(".li-blocks button[data-axis=time]").first.click()
    page.locator(".li-frames canvas").nth(2).click(position={"x": 4, "y": 4})
    assert page.locator(".li").get_attribute("data-chosen") == "1,time,2,0"
    shares = [float(t.split()[1]) for t in page.locator(".li-frames span").all_inner_texts()]
    assert len(shares) == 8 and abs(sum(shares) - 100) < 3
    page.keyboard.press("ArrowRight")
    assert page.locator(".li").get_attribute("data-chosen") == "1,time,2,1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tabs_fit_a_phone_and_a_desk(visit, url, scheme):
    page = visit(url, color_scheme=scheme)
    for tab in ("Compare", "Look inside"):
        page.get_by_role("tab", name=tab).click()
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            page.wait_for_function("width => innerWidth === width", arg=width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
