"""Finished films in a real browser: kept, shown, loaded, varied, deleted; settings in and out."""

import shlex
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fake_engine import FakeEngine, load_fake
from ports import free_port
from test_page import fill_in, wait_for

from demo.serve import serve
from demo.settings import Settings

pytestmark = pytest.mark.browser

CARDS = "count => document.querySelectorAll('.lh-cards li').length === count"
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}


@pytest.fixture(scope="module")
def url(serve_fake):
    return serve_fake(FakeEngine())


@pytest.fixture
def open_page(visit, url):
    return lambda **options: visit(url, **options)


def make(page, seed, steps="2"):
    fill_in(page, prompt="a red cow rolls", steps=steps, seed=seed)
    page.get_by_role("button", name="Generate").click()
    wait_for_newest(page, seed)


def reload(page):
    """Once more, until it is seen: a page that is still put together shows no text."""
    page.reload()
    page.wait_for_selector("body.ls-settled")


def wait_for_newest(page, seed):
    """Until the newest film has this seed; their number would not do, older ones may come late."""
    page.wait_for_function(
        "seed => document.querySelector('.lh-cards .lh-seed')?.textContent === 'Seed ' + seed",
        arg=seed,
    )


def shown_seed(page, seed):
    page.wait_for_function(
        "seed => document.querySelector('.ls-seed')?.textContent === 'Seed ' + seed", arg=seed
    )


def said(page, words):
    page.wait_for_function(
        "words => document.querySelector('.lr-said')?.textContent.includes(words)", arg=words
    )


def copied(page, kind):
    page.evaluate("navigator.clipboard.writeText('')")
    page.get_by_role("button", name=kind, exact=True).click()
    said(page, f"Copied: {kind}.")
    return page.evaluate("navigator.clipboard.readText()")


def test_history_keeps_films_loads_varies_and_deletes_them(open_page):
    page = open_page(**CLIPBOARD)
    kept = page.locator(".lh-cards li").count()
    make(page, "41")
    make(page, "42", steps="3")
    page.wait_for_function(
        "[...document.querySelectorAll('.lh-load img')].slice(0, 2).every(i => i.naturalWidth)"
    )
    page.locator(".lh-load").nth(1).click()
    shown_seed(page, "41")
    page.wait_for_function("document.querySelector('#seed textarea, #seed input').value === '41'")
    assert page.get_by_label("number input for Steps").input_value() == "2"
    page.wait_for_function("!document.querySelector('.ls-video').hidden")
    assert "seed=41&steps=2" in copied(page, "Settings link")

    page.locator(".lh-vary").nth(1).click()
    page.wait_for_function(CARDS, arg=kept + 3)
    wait_for(page, "finished")
    assert page.locator(".ls-seed").inner_text() not in ("Seed 41", "Seed 42")

    reload(page)
    page.wait_for_function(CARDS, arg=kept + 3)
    # both clicks at once: the question is withdrawn after a few seconds, however slow the machine
    asked = page.locator(".lh-remove").first.evaluate(
        "b => { b.click(); const asked = b.textContent; b.click(); return asked; }"
    )
    assert asked == "Really?"
    page.wait_for_function(CARDS, arg=kept + 2)
    assert page.locator(".lh-seed").first.inner_text() == "Seed 42"


def test_settings_go_out_as_text_and_come_back_by_link_and_by_file(open_page, url, tmp_path):
    page = open_page(**CLIPBOARD)
    make(page, "77", steps="3")
    link = copied(page, "Settings link")
    assert link.startswith(url) and parse_qs(urlsplit(link).query)["seed"] == ["77"]
    assert "--seed=77" in shlex.split(copied(page, "Command line"))
    compile(copied(page, "Python"), "recipe.py", "exec")
    assert '"seed": 77' in copied(page, "JSON")
    film = copied(page, "Film link")
    files = {}
    for name in ("Download film", "GIF", "WebP", "Frames (ZIP)", "Sheet (PNG)"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).click()
        files[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[name])

    page.goto(link)
    said(page, "The settings of this link are in place.")
    assert page.get_by_label("Seed", exact=True).input_value() == "77"
    assert page.get_by_label("Prompt", exact=True).input_value() == "a red cow rolls"
    assert page.locator(".ls-stage[data-state=idle]").count() == 1  # a link never starts a run

    for path in files.values():
        fill_in(page, prompt="something else", seed="1")
        page.locator(".lr input").set_input_files(path)
        said(page, "The settings of seed 77 are back.")
        page.wait_for_function(
            "document.querySelector('#seed textarea, #seed input').value === '77'"
        )
        assert page.get_by_label("Prompt", exact=True).input_value() == "a red cow rolls"
    foreign = tmp_path / "holiday.png"
    foreign.write_bytes(b"no picture")
    page.locator(".lr input").set_input_files(foreign)
    said(page, "holiday.png cannot be read: it is damaged, or no png file at all.")

    page.goto(film)
    said(page, "This film was shared with you.")
    shown_seed(page, "77")
    assert page.locator(".ls-stage[data-state=finished] .ls-video").get_attribute("src")
    assert page.get_by_label("Prompt", exact=True).input_value() == "a red cow rolls"


def test_file_can_be_dropped_anywhere(open_page):
    page = open_page()
    page.wait_for_function("document.querySelector('.lr-pick')?.textContent === 'Open a file'")
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(['{"prompt": "a big cow", "seed": 5}'], 'recipe.json'));
          const send = (name) => document.body.dispatchEvent(
            new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
          send('dragenter');
          window.veiled = !document.querySelector('.lr-veil').hidden;
          send('drop');
        }"""
    )
    said(page, "The settings of seed 5 are back.")
    assert page.evaluate("window.veiled && document.querySelector('.lr-veil').hidden")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a big cow'")


def test_visitors_of_a_public_page_see_their_own_films_only(visit, tmp_path):
    port = free_port()
    settings = Settings(port=port, host="0.0.0.0", history=str(tmp_path / "runs"))
    server = serve(settings, load_fake(FakeEngine()))
    address = f"http://127.0.0.1:{port}"
    try:
        ann, bob = visit(address), visit(address)
        make(ann, "1")
        image = ann.locator(".lh-load img").first.get_attribute("src")
        assert httpx.get(f"{address}/{image}").status_code == 404  # without the cookie
        make(bob, "2")
        for page, seed in ((ann, "1"), (bob, "2")):
            reload(page)
            wait_for_newest(page, seed)
            assert page.locator(".lh-seed").inner_text() == f"Seed {seed}"  # the only one
    finally:
        server.close(verbose=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_history_fits_a_phone(open_page, scheme):
    page = open_page(color_scheme=scheme, viewport={"width": 390, "height": 844})
    if not page.locator(".lh-cards li").count():
        make(page, "5")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator(".lh-cards li").first.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
