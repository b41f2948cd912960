"""What the page promises of memory and other hosts, on the real engine in a real browser."""

import re

import httpx
import pytest
from test_page import fill_in, wait_for

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
