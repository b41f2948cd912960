from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from demo.visitors import COOKIE, VALUE, Visitors, owner_of


async def page(request):
    return HTMLResponse(f"<p>{owner_of(request)}</p>")


async def data(request):
    return JSONResponse({})


def client(scheme="http"):
    app = Visitors(Starlette(routes=[Route("/", page), Route("/data", data)]))
    return TestClient(app, base_url=f"{scheme}://studio")


def test_visitor_gets_a_cookie_with_the_first_page_and_keeps_it():
    browser = client()
    first = browser.get("/")
    cookie = first.headers["set-cookie"]
    assert VALUE.fullmatch(first.cookies[COOKIE])
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie
    second = browser.get("/")
    assert "set-cookie" not in second.headers
    assert second.text == browser.get("/").text != client().get("/").text
    assert first.cookies[COOKIE] not in second.text  # the server keeps a hash only


def test_cookie_works_in_the_frame_of_another_site_over_tls():
    cookie = client("https").get("/").headers["set-cookie"]
    assert "SameSite=None; Secure; Partitioned" in cookie
    behind_proxy = client().get("/", headers={"x-forwarded-proto": "https"})
    assert "Secure" in behind_proxy.headers["set-cookie"]


def test_only_pages_set_the_cookie():
    assert "set-cookie" not in client().get("/data").headers


@pytest.mark.parametrize("value", ["", "x", "A" * 32, "0" * 31, "0" * 33])
def test_cookies_that_we_did_not_make_are_replaced(value):
    answer = client().get("/", headers={"cookie": f"{COOKIE}={value}"})
    assert "set-cookie" in answer.headers


def test_owner_is_the_cookie_else_the_open_page_else_nobody():
    both = SimpleNamespace(cookies={COOKIE: "a" * 32}, session_hash="s1")
    bare = SimpleNamespace(cookies={}, session_hash="s1")
    assert owner_of(both) != owner_of(bare) != ""
    assert owner_of(bare) == owner_of(SimpleNamespace(cookies=None, session_hash="s1"))
    assert owner_of(SimpleNamespace(cookies={}, session_hash=None)) == ""
    assert owner_of(SimpleNamespace(cookies={COOKIE: "x"}, session_hash="s1")) == owner_of(bare)
