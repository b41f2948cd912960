"""Start picture, size and tempo, and the card of a want of memory, in a real browser."""

from types import SimpleNamespace

import numpy as np
import pytest
from fake_engine import FakeEngine
from PIL import Image

pytestmark = pytest.mark.browser

STATES = """() => {  // every state of the stage, in window.states
  const stage = document.querySelector('.ls-stage');
  window.states = [];
  new MutationObserver(() => window.states.push(stage.dataset.state))
    .observe(stage, { attributes: true, attributeFilter: ['data-state'] });
}"""


class FakeMemory:
    """Two plans, of which the first does not fit; says which was placed."""

    sentence = "split on cpu"

    def __init__(self):
        self.plan = "resident"

    def needs(self, request):
        need = {"resident": 9.0, "split": 2.0}
        names = list(need)[list(need).index(self.plan) :]
        return tuple(
            SimpleNamespace(plan=n, needed_gib=need[n], free_gib=4.0, fits=need[n] < 4)
            for n in names
        )

    def place(self, plan):
        self.plan = plan
        return SimpleNamespace(events=lambda: iter(()))


def finish(page, button):
    page.evaluate(STATES)
    button.click()
    page.wait_for_function("window.states.includes('finished')")


def test_picture_size_and_tempo_make_a_film_and_come_back_and_short_memory_is_one_click(
    visit, serve_fake, tmp_path
):
    engine = FakeEngine()
    page = visit(serve_fake(engine))
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    wide = np.broadcast_to(ramp[None, :, None], (48, 96, 3))
    Image.fromarray(wide.copy()).save(tmp_path / "start.png")
    page.locator("#more button").first.click()
    assert page.locator("#tempo").count() == 0 or page.locator("#tempo").is_hidden()
    page.get_by_label("number input for Frames").fill("12")
    page.get_by_label("number input for Frames").blur()
    page.get_by_label("Steady: the trained speed").check()
    page.locator("#picture input[type=file]").set_input_files(tmp_path / "start.png")
    page.wait_for_function("document.querySelector('.lp-image').naturalWidth === 96")
    page.get_by_label("Size, width × height").first.click()
    page.get_by_role("option", name="96 × 64").click()
    page.get_by_label("Prompt", exact=True).fill("a red cat")
    finish(page, page.get_by_role("button", name="Generate"))
    made = engine.requests[-1]
    assert (made.width, made.height, made.num_frames, made.tempo) == (96, 64, 12, "steady")
    assert made.first_frame.startswith("data:image/")
    assert "from a start picture" in page.locator(".ls-facts").inner_text()
    # What is taken away comes back with the film's settings.
    page.get_by_role("button", name="Remove").click()
    assert page.locator(".lp-image").is_hidden()
    page.locator(".lh-load").first.click()
    page.wait_for_function("document.querySelector('.lp-image').src.startsWith('data:image/')")
    # Too little memory: the card names it, and one click takes the smaller plan.
    engine.info.memory, before = FakeMemory(), len(engine.requests)
    page.get_by_role("button", name="Generate").click()
    page.wait_for_selector(".ls-stage[data-state=failed]")
    assert "needs about 9.0 GiB" in page.locator(".ls-status").inner_text()
    assert len(engine.requests) == before
    finish(page, page.get_by_role("button", name="Take split (2.0 GiB) and run"))
    assert engine.info.memory.plan == "split" and engine.requests[-1].tempo == "steady"
    assert page.locator(".ls-remedies button").count() == 0
