"""Nothing on the page moves by itself: not while it is put together, not while a run goes on."""

import pytest
from fake_engine import FakeEngine

pytestmark = pytest.mark.browser

WATCH_SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const nodes = entry.sources.map((source) => source.node?.id || source.node?.className);
      if (!entry.hadRecentInput) window.shifts.push([entry.value, ...nodes]);
    }
  }).observe({ type: 'layout-shift' });
}"""
SHIFTS_SO_FAR = """() => new Promise((resolve) => new PerformanceObserver((list) => {
  const own = (source) => source.node?.closest?.('main.contain');
  const ours = list.getEntries().filter((entry) => entry.sources.some(own));
  resolve([list.getEntries().length, ours.reduce((sum, entry) => sum + entry.value, 0)]);
}).observe({ type: 'layout-shift', buffered: true }))"""
MEMORY = "memory 12.34 GiB before, 12.45 GiB at most, 12.34 GiB after"


@pytest.fixture(scope="module")
def url(serve_fake):
    return serve_fake(FakeEngine(step_s=0.05))


def test_nothing_moves_on_the_page_while_a_run_goes_on(visit, url):
    page = visit(url)
    page.wait_for_selector(".ls-stage[data-painted]")
    page.evaluate(WATCH_SHIFTS)
    for width in (1920, 1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_timeout(600)
        page.evaluate("window.shifts.length = 0")
        page.locator("#prompt textarea").fill("a zeppelin flies")
        page.locator("#seed input").fill(str(width))
        page.get_by_role("button", name="Generate").click()
        page.wait_for_selector(f".ls-stage[data-state=finished]:has-text('Seed {width}')")
        page.wait_for_function("document.querySelector('.ls-links a')")
        page.wait_for_timeout(400)
        assert page.evaluate("window.shifts") == [], width
    page.evaluate("document.querySelector('#work').style.marginTop = '60px'")
    page.wait_for_timeout(600)
    assert page.evaluate("window.shifts.length") > 0  # a shift would have been seen


@pytest.mark.parametrize("width", [1920, 1280, 768, 390])
def test_page_is_seen_when_its_pieces_stand(visit, url, width):
    page = visit(url, viewport={"width": width, "height": 844})
    page.wait_for_selector("body.ls-settled .ls-stage[data-painted]")
    page.wait_for_timeout(500)
    seen, ours = page.evaluate(SHIFTS_SO_FAR)
    assert seen > 0  # Gradio's own word "Loading" moves: the browser does report
    assert ours < 0.05


def test_page_is_seen_in_any_case(visit, url):
    page = visit(url)
    page.wait_for_selector("body.ls-settled")
    page.evaluate("document.body.className = ''")
    page.wait_for_selector("#prompt", state="hidden")
    page.wait_for_selector("#prompt", state="visible", timeout=8000)


def test_a_longer_word_of_the_line_moves_neither_of_its_two(visit, url):
    page = visit(url)
    page.wait_for_selector(".ls-stage[data-painted]")
    page.evaluate(WATCH_SHIFTS)
    write = "([name, words]) => { document.querySelector(name).textContent = words; }"
    for width in (1920, 1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_timeout(600)
        page.evaluate("window.shifts.length = 0")
        for status, detail in (("Step 9 of 12", "3 s left"), ("Step 10 of 12", MEMORY)):
            page.evaluate(write, [".ls-status", status])
            page.evaluate(write, [".ls-detail", detail])
            page.wait_for_timeout(300)
        assert page.evaluate("window.shifts") == [], width
