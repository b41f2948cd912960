"""The stage and what surrounds it, in a real browser, before a stand-in for the engine."""

import os
import re
import threading

import pytest
from fake_engine import FakeEngine
from test_page import wait_for_step

pytestmark = pytest.mark.browser

STEPS = 12
CANVAS = """(selector) => {  // three hundred of a canvas's values
  const canvas = document.querySelector(selector);
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return Array.from({ length: 300 }, (_, i) => data[4 * Math.floor((i * data.length) / 1200)]);
}"""
NAMELESS = """() => [...document.querySelectorAll('button, input, textarea, select, a[href]')]
  .filter((one) => one.checkVisibility({ visibilityProperty: true }))
  .filter((one) => !one.closest('[aria-hidden]'))
  .filter((one) => !(one.ariaLabel || one.innerText?.trim() || one.labels?.[0]?.innerText?.trim()
    || one.title || one.placeholder))
  .map((one) => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def engine():
    return FakeEngine(step_s=0.05)


@pytest.fixture
def held(engine):
    """The next run waits before step 6; `held.go.set()` lets it go on."""
    engine.hold_at = 6
    yield engine
    engine.go.set()
    engine.hold_at = None
    engine.go = threading.Event()


@pytest.fixture(scope="module")
def url(serve_fake, engine):
    return serve_fake(engine)


def stage(page, name):
    return page.locator(".ls-stage").get_attribute(f"data-{name}")


def wait_for_stage(page, name, value):
    page.wait_for_selector(f'.ls-stage[data-{name}="{value}"]')


def look_at(page, step, selector=".ls-canvas"):
    """Drag denoising time to a step; the canvas once the picture has faded in."""
    page.locator(".ls-steps").fill(str(step))
    wait_for_stage(page, "shown", step)  # said once it has faded in
    return page.evaluate(CANVAS, selector)


def difference(one, other):
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def start_run(page, steps=STEPS, prompt="a red rocket", seed="7"):
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Seed", exact=True).fill(seed)
    page.get_by_label("number input for Steps").fill(str(steps))
    page.get_by_label("number input for Steps").blur()
    page.get_by_role("button", name="Generate").click()


def test_recorded_run_melts_at_first_paint_and_can_be_rewound(visit, url):
    page = visit(url)
    page.wait_for_selector(".ls-stage[data-painted]")
    assert page.locator(".ls-status").inner_text().startswith("Recorded run: “")
    before = stage(page, "step")
    page.wait_for_function(
        "seen => document.querySelector('.ls-stage').dataset.step !== seen", arg=before
    )
    last = page.locator(".ls-steps").get_attribute("max")
    film = look_at(page, last)
    assert difference(film, look_at(page, 0)) > 10
    assert page.locator(".ls-steps").get_attribute("aria-valuetext") == "The seed's own noise"
    page.wait_for_timeout(600)
    assert stage(page, "step") == "0"  # it rests where it was dragged to
    page.get_by_role("button", name="Pause").click()
    frame = stage(page, "frame")
    page.wait_for_timeout(500)
    assert stage(page, "frame") == frame
    page.locator(".ls-frames").fill("3")
    assert stage(page, "frame") == "3"


def test_recorded_run_that_arrives_late_leaves_a_visitors_answer_alone(visit, url):
    page = visit(url)
    late = []
    page.route("**/first-run.json", lambda route: late.append(route))
    page.reload()
    page.wait_for_selector(".ls-model[data-state=ready]")
    start_run(page, prompt="")
    wait_for_stage(page, "state", "failed")
    said = page.locator(".ls-status").inner_text()
    assert said.startswith("The prompt is empty")
    with page.expect_event("requestfinished", lambda one: one.url.endswith("/first-run.json")):
        late.pop().continue_()
    page.wait_for_timeout(500)  # it would be read and painted by now
    assert page.locator(".ls-status").inner_text() == said
    assert page.locator(".ls-steps").is_disabled()


def test_one_click_on_an_example_shows_the_noise_within_a_second_and_makes_a_film(visit, url):
    page = visit(url)
    page.wait_for_selector(".ls-stage[data-painted]")
    page.evaluate(
        """() => {
          const stage = document.querySelector('.ls-stage');
          const chip = document.querySelector('.chip');
          chip.addEventListener('click', () => { window.clicked = performance.now(); });
          new MutationObserver(() => {
            if (stage.dataset.state === 'running') window.noise ??= performance.now();
          }).observe(stage, { attributes: true });
        }"""
    )
    chip = page.locator(".chip").first
    chip.click()
    wait_for_stage(page, "state", "finished")
    assert page.get_by_label("Prompt", exact=True).input_value() == chip.inner_text()
    assert page.evaluate("window.noise - window.clicked") < 1000 * slowness()


def test_one_click_makes_the_film_in_words_that_the_model_knows(visit, url, engine):
    page = visit(url)
    start_run(page, prompt="a red zeppelin", seed="11")
    wait_for_stage(page, "state", "finished")
    words = page.locator(".ls-note").get_by_role("button", name="Try it that way")
    assert words.get_attribute("title") == "a red balloon"
    words.click()
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a red balloon'")
    page.wait_for_selector(".ls-stage[data-state=finished]:has(.ls-note:empty)")
    assert [request.prompt for request in engine.requests[-2:]] == [
        "a red zeppelin",
        "a red balloon",
    ]
    assert engine.requests[-1].seed == 11


def test_noise_moves_while_the_prompt_is_still_being_read(visit, url, held):
    held.hold_at = 0
    page = visit(url)
    start_run(page)
    page.wait_for_selector('.ls-stage[data-state="encoding"][data-shown="0"]')
    assert page.locator(".ls-status").inner_text() == "Reading the prompt"
    before = stage(page, "frame")
    page.wait_for_function(
        "seen => document.querySelector('.ls-stage').dataset.frame !== seen", arg=before
    )
    held.go.set()
    wait_for_stage(page, "state", "finished")


def slowness():
    """How much longer than alone things take on this machine now; at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_run_can_be_scrubbed_while_it_goes_on_and_afterwards(visit, url, held):
    page = visit(url)
    page.get_by_role("button", name="Pause").click()
    page.locator(".ls-frames").fill("3")
    start_run(page, steps=10)
    wait_for_step(page, 5)
    early = look_at(page, 1)
    held.go.set()
    page.wait_for_function("document.querySelector('.ls-status').textContent.startsWith('Done')")
    assert stage(page, "step") == "1"  # the run went on, the picture stayed
    assert difference(early, look_at(page, 10)) > 5
    assert difference(early, look_at(page, 1)) < 5
    assert page.locator(".ls-video").is_hidden()
    page.locator(".ls-steps").fill("11")
    page.wait_for_function("!document.querySelector('.ls-video').hidden")
    page.locator(".ls-frames").fill("5")
    page.wait_for_function(
        "Math.abs(document.querySelector('.ls-video').currentTime - 5.5 / 8) < 0.01"
    )
    assert page.evaluate("document.querySelector('.ls-video').paused")
    assert page.locator(".ls-count").inner_text() == "Frame 6 of 8"


def test_keys_play_scrub_and_roll_from_outside_the_fields(visit, url):
    page = visit(url)
    start_run(page, steps=4)
    page.wait_for_function("!document.querySelector('.ls-video').hidden")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowDown")
    wait_for_stage(page, "step", 4)
    page.keyboard.press("ArrowUp")
    wait_for_stage(page, "step", 5)
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('.ls-play').dataset.playing === 'false'")
    page.keyboard.press("ArrowRight")
    frame = int(stage(page, "frame"))
    page.keyboard.press("ArrowLeft")
    assert int(stage(page, "frame")) == frame - 1
    page.get_by_label("Seed", exact=True).fill("")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("r")
    page.wait_for_function("document.querySelector('#seed textarea, #seed input').value !== ''")
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.press("r")
    assert prompt.input_value().count("r") == "a red rocket".count("r") + 1


def test_joint_run_sharpens_clip_and_stills_in_lock_step(visit, url):
    page = visit(url)
    page.get_by_label("Joint", exact=True).check()
    lesson = page.locator(".ls-lesson:visible")
    assert lesson.count() == 1 and "only the clip has a sense of time" in lesson.inner_text()
    start_run(page)
    wait_for_stage(page, "state", "finished")
    still = ".ls-stills figure:nth-child(2) canvas"
    noise, noise_still = look_at(page, 0), look_at(page, 1, still)
    film, film_still = look_at(page, STEPS), look_at(page, STEPS - 1, still)
    assert difference(noise, film) > 10 and difference(noise_still, film_still) > 10
    # of a picture that is not the last, no finished file may show
    assert not page.locator(".ls-stills img").first.is_visible()
    page.locator(".ls-steps").fill(str(STEPS + 1))
    page.locator(".ls-stills img").first.wait_for(state="visible")


def test_stills_can_have_prompts_of_their_own_that_come_back_from_the_history(visit, url, engine):
    page = visit(url)
    own = page.get_by_label("Own prompts of the stills", exact=True)
    assert own.is_hidden()  # a video has no stills
    page.get_by_label("Joint", exact=True).check()
    own.fill("a red cat\n\nthe sea")
    earlier = page.locator(".lh-load").count()
    start_run(page, steps=2)
    wait_for_stage(page, "state", "finished")
    assert engine.requests[-1].image_prompts == ("a red cat", "", "the sea", "")
    own.fill("")
    page.locator(".lh-load").nth(earlier).wait_for()  # the newest film is the first of them
    page.locator(".lh-load").first.click()
    page.wait_for_function(
        "own => document.querySelector('#image-prompts textarea').value.trim() === own",
        arg="a red cat\n\nthe sea",
    )


def test_budget_names_its_step_plan_and_the_run_uses_it(visit, url, engine):
    page = visit(url)
    start_run(page, steps=20)
    wait_for_stage(page, "state", "finished")
    assert engine.requests[-1].plan is None and page.locator(".ls-budget").count() == 0
    page.get_by_label("number input for Budget, %").fill("80")
    page.get_by_label("number input for Budget, %").blur()
    page.wait_for_function(
        "words => document.querySelector('.ls-budget')?.textContent === words",
        arg="Step plan guidance-cache: 80 % of the work.",
    )
    page.get_by_role("button", name="Generate").click()
    wait_for_stage(page, "state", "running")
    wait_for_stage(page, "state", "finished")
    assert engine.requests[-1].plan == "guidance-cache"
    assert "step plan guidance-cache" in page.locator(".ls-facts").inner_text()


def test_run_names_the_unknown_word_its_parts_and_its_memory(visit, url):
    page = visit(url)
    start_run(page, prompt="zeppelin")
    wait_for_stage(page, "state", "finished")
    assert page.locator(".ls-note").inner_text() == (
        "I don't know “zeppelin”; the film may ignore it. Nearest: balloon. Try it that way"
    )
    assert re.fullmatch(
        r"memory [\d.]+ GiB before, .+ after", page.locator(".ls-detail").inner_text()
    )
    names = [text.split("\n")[0] for text in page.locator(".ls-parts li").all_inner_texts()]
    assert names == ["Prompt", "Denoise", "Develop"]


def test_second_visitor_is_told_his_place_and_why(visit, url, held):
    first, second = visit(url), visit(url)
    start_run(first, steps=60)
    wait_for_stage(first, "step", 5)
    start_run(second, steps=2)
    wait_for_stage(second, "state", "queued")
    assert second.locator(".ls-status").inner_text() == "Next in line"
    assert re.search(
        r"in the order of asking\. The one that runs now needs about \d+ s more",
        second.locator(".ls-detail").inner_text(),
    )
    first.get_by_role("button", name="Stop").click()
    wait_for_stage(second, "state", "finished")


def test_page_speaks_the_browsers_language_and_the_chosen_one(visit, url):
    page = visit(url, locale="ru-RU")
    assert page.url == f"{url}/ru" and page.evaluate("document.documentElement.lang") == "ru"
    page.get_by_label("Описание", exact=True).fill("a red rocket")
    page.get_by_role("button", name="Создать").click()
    wait_for_stage(page, "state", "finished")
    assert page.locator(".ls-status").inner_text().startswith("Готово за")
    page.get_by_role("link", name="中文").click()
    page.get_by_role("button", name="生成").wait_for()
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a red rocket'")
    page.goto(url)  # the choice is remembered
    page.get_by_role("button", name="生成").wait_for()
    assert page.url == f"{url}/zh"


def test_everything_that_can_be_operated_has_a_name(visit, url):
    page = visit(url)
    start_run(page, steps=2)
    wait_for_stage(page, "state", "finished")
    page.locator("#more button").first.click()
    assert page.evaluate(NAMELESS) == []
    page.evaluate("document.querySelector('#dice').replaceChildren()")
    assert len(page.evaluate(NAMELESS)) == 1  # a nameless one would have been found
    live = page.locator(".ls-live")
    assert live.get_attribute("aria-live") == "polite" and "Done in" in live.inner_text()


def test_light_and_dark_can_be_switched_and_stay(visit, url):
    page = visit(url, color_scheme="light")
    colour = "getComputedStyle(document.querySelector('.ls-name')).color"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(colour)
    assert dark != light
    page.reload()
    page.wait_for_selector(".ls-model[data-state=ready]")
    assert page.evaluate(colour) == dark


def test_page_is_usable_soon_and_light(visit, url):
    page = visit(url)
    page.wait_for_selector(".ls-stage[data-painted]")
    weight = page.evaluate(
        """() => performance.getEntries().reduce((sum, one) => sum + (one.transferSize || 0), 0)"""
    )
    assert 100_000 < weight < 1_500_000
    page.add_init_script(
        """(() => { const look = setInterval(() => {
          if (!document.querySelector('#generate')?.checkVisibility()) return;
          window.usable = performance.now();
          clearInterval(look);
        }, 20); })()"""
    )
    page.reload()
    page.wait_for_selector(".ls-stage[data-painted]")
    usable = page.evaluate(
        "window.usable - performance.getEntriesByType('navigation')[0].responseEnd"
    )
    assert usable < 3000 * slowness()


def test_turbo_and_length_are_offered_by_a_model_that_has_them(visit, serve_fake):
    engine = FakeEngine()
    engine.info.turbo = True
    page = visit(serve_fake(engine))
    page.get_by_label("number input for Frames").fill("12")
    page.get_by_label("number input for Frames").blur()
    page.get_by_label("Turbo", exact=True).check()
    assert page.locator("#steps").is_hidden() and page.locator("#guidance").is_hidden()
    page.get_by_label("Prompt", exact=True).fill("a red cat")
    page.get_by_role("button", name="Generate").click()
    wait_for_stage(page, "state", "finished")
    made = engine.requests[-1]
    assert (made.turbo, made.num_frames, made.num_inference_steps) == (True, 12, None)
    engine.info.turbo, engine.info.clip_lengths = False, (1, 8)
    page.reload()
    page.wait_for_selector(".ls-model[data-state=ready]")
    assert page.locator("#turbo").is_hidden() and page.locator("#num-frames").is_hidden()


def test_class_model_offers_its_classes_and_no_prompt(visit, serve_fake):
    engine = FakeEngine()
    engine.info.conditioning, engine.info.classes = "class", ("0", "juggling")
    page = visit(serve_fake(engine))
    assert page.locator("#prompt").is_hidden() and page.locator(".chip").first.is_hidden()
    page.get_by_label("Class", exact=True).click()
    page.get_by_role("option", name="juggling").click()
    page.get_by_label("Joint", exact=True).check()
    assert page.locator("#image-prompts").is_hidden()
    page.get_by_label("Own classes of the stills", exact=True).fill("0\nJuggling")
    page.get_by_role("button", name="Generate").click()
    wait_for_stage(page, "state", "finished")
    assert (engine.requests[-1].class_label, engine.requests[-1].prompt) == (1, "")
    assert engine.requests[-1].image_class_labels == (0, 1, 1, 1)
