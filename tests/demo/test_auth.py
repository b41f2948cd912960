"""Who has no name and password sees nothing of a server that asks for them."""

import base64

import httpx
import pytest
from fake_engine import FakeEngine, load_fake
from gradio_client import Client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from demo import auth
from demo.auth import Auth
from demo.serve import serve
from demo.settings import Settings, parse_settings

SECRET = "ann:pass:wörd"


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(auth, "WRONG_WAIT_S", 0)
    routes = [Route(path, lambda request: PlainTextResponse("in")) for path in ("/", "/healthz")]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Auth, credentials=SECRET)]))


def basic(text):
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_auth_lets_in_the_right_name_and_password_alone(site):
    assert site.get("/", headers=basic(SECRET)).text == "in"
    wrong = ["ann:", "ann:pass", "bob:pass:wörd", ":", "", SECRET + "x", SECRET.upper()]
    for headers in [{}, *map(basic, wrong), {"authorization": "Basic ???"}, {"authorization": "x"}]:
        refused = site.get("/", headers=headers)
        assert refused.status_code == 401, headers
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
    assert site.get("/", headers={"authorization": f"Bearer {SECRET}".encode()}).status_code == 401
    assert site.get("/healthz").text == "in"


def test_auth_stands_before_page_films_files_and_endpoints(free_port, monkeypatch):
    monkeypatch.setattr(auth, "WRONG_WAIT_S", 0)
    page = serve(Settings(port=free_port, auth=SECRET), load_fake(FakeEngine()))
    url = f"http://127.0.0.1:{free_port}"
    try:
        paths = ("/", "/ru", "/config", "/studio/history", "/gradio_api/info", "/theme.css")
        assert [httpx.get(url + path).status_code for path in paths] == [401] * len(paths)
        assert httpx.post(f"{url}/gradio_api/queue/join", json={}).status_code == 401
        assert httpx.get(f"{url}/healthz").status_code == 200
        name, _, password = SECRET.partition(":")
        assert httpx.get(url, auth=(name, password)).status_code == 200
        client = Client(url, httpx_kwargs={"auth": (name, password)}, verbose=False)
        assert client.predict(api_name="/status")["version"]
    finally:
        page.close(verbose=False)


@pytest.mark.parametrize("text", ["", ":", "name", "name:", ":hushhush"])
def test_auth_refuses_what_is_no_name_and_password_and_does_not_repeat_it(text, capsys):
    for flags, environ in ((["--auth", text], {}), ([], {"LATTE_STUDIO_AUTH": text})):
        with pytest.raises(SystemExit):
            parse_settings(flags, environ)
        said = capsys.readouterr().err
        assert "NAME:PASSWORD" in said and "hushhush" not in said


def test_auth_comes_from_flag_then_environment_and_is_not_shown():
    settings = parse_settings([], {"LATTE_STUDIO_AUTH": "a:b"})
    assert settings.auth == "a:b" and "a:b" not in repr(settings)
    assert parse_settings(["--auth", "c:d"], {"LATTE_STUDIO_AUTH": "a:b"}).auth == "c:d"
    assert parse_settings([], {}).auth == ""
