"""What the page promises of seeds, memory and other hosts, on the real engine in a real browser."""

import re

import httpx
import numpy as np
import pytest
from test_page import fill_in, wait_for

from latte_core import read_clip, read_recipe

pytestmark = pytest.mark.browser

SIZES = re.compile(r"memory ([\d.]+) GiB before, ([\d.]+) GiB at most, ([\d.]+) GiB after")


def make(page, seed=None):
    """A film of two steps; with `seed` None of the one that stands in the field."""
    if seed is not None:
        fill_in(page, steps="2", seed=seed)
    before = page.locator(".lh-cards li").count()
    page.get_by_role("button", name="Generate").click()
    page.wait_for_function(
        "count => document.querySelectorAll('.lh-cards li').length > count", arg=before
    )
    wait_for(page, "finished")


def film_of(page, folder):
    """The frames of the finished film, and the seed that its recipe names."""
    with page.expect_download() as download:
        page.get_by_role("link", name="Download film").click()
    path = folder / "film.mp4"
    download.value.save_as(path)
    return read_clip(path), str(read_recipe(path)["seed"])


def wait_for_seed(page, test, seed):
    """Until the seed field's value passes a JavaScript test against `seed`."""
    page.wait_for_function(
        f"seed => document.querySelector('#seed textarea, #seed input').value {test} seed", arg=seed
    )


def test_seed_that_is_kept_makes_the_same_film_and_an_open_one_a_new(open_page, tmp_path):
    page = open_page()
    field = page.get_by_label("Seed", exact=True)
    make(page, seed="")
    first, one = film_of(page, tmp_path)
    assert field.input_value() == ""  # an empty field stays open
    make(page)
    second, other = film_of(page, tmp_path)
    assert one != other and not np.array_equal(first, second)
    page.get_by_role("button", name="Keep this seed").click()
    wait_for_seed(page, "===", other)
    make(page)
    again, same = film_of(page, tmp_path)
    assert same == other and np.array_equal(again, second)
    assert field.input_value() == other  # a filled one is the lock, until it is rolled or emptied
    page.get_by_role("button", name="Roll a new seed").click()
    wait_for_seed(page, "!==", other)
    rolled = field.input_value()
    make(page)
    last, used = film_of(page, tmp_path)
    assert used == rolled and not np.array_equal(last, second)


def test_memory_is_told_before_a_run_and_measured_after_it(open_page, app_url):
    page = open_page()
    told = page.locator("#about").inner_text()
    assert re.search(r"Memory: .*[\d.]+ GiB", told)
    assert httpx.get(f"{app_url}/readyz").status_code == 200
    make(page, seed="5")
    before, peak, after = map(float, SIZES.search(page.locator(".ls-detail").inner_text()).groups())
    assert 0 < before <= peak and 0 < after <= peak
    assert page.locator("#about").inner_text() == told


def test_whole_visit_asks_no_other_host(open_page, app_url):
    page, hosts = open_page(), set()
    page.context.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.reload()
    page.wait_for_selector(".ls-model[data-state=ready]")
    make(page, seed="1")
    make(page, seed="2")
    page.locator(".lh-compare").first.click()
    page.get_by_role("tab", name="Look inside").click()
    page.wait_for_selector(".li-variants svg")
    page.get_by_role("tab", name="Studio").click()
    page.get_by_role("button", name="Light or dark").click()
    page.locator(".ls-languages a").nth(1).click()
    page.wait_for_selector(".ls-model[data-state=ready]")
    own = {app_url.split("/")[2]}
    assert {host for host in hosts if host} == own
    page.context.route("**://example.com/**", lambda route: route.abort())
    probe = page.context.new_page()  # one that does ask is noticed
    probe.set_content("<img src='http://example.com/a.png'>")
    assert hosts >= {"example.com"}
