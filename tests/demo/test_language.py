import asyncio

import pytest

from demo.language import Language, preferred
from demo.strings import languages

LANGUAGES = ("en", "ru", "zh")


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", "en"),
        ("ru", "ru"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("de-DE,de;q=0.9,ru;q=0.5,en;q=0.4", "ru"),
        ("en;q=0.3,ru;q=0.7", "ru"),
        ("ru;q=0,en", "en"),
        ("fr,de", "en"),
        ("ru;q=much,,;;", "en"),
    ],
)
def test_language_is_the_first_that_the_browser_asks_for(accepted, chosen):
    assert preferred(accepted, LANGUAGES) == chosen


def visit(query="", path="/", method="GET", **headers):
    """What the middleware answers: status and headers; status 200 comes from the page itself."""
    sent = []

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(Language(page, LANGUAGES)(scope, None, send))
    start = sent[0]
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}


def test_visitor_is_sent_to_the_page_in_his_language_with_what_he_asked():
    status, headers = visit("seed=7&__theme=dark", **{"accept-language": "ru"})
    assert (status, headers) == (307, {"location": "ru?seed=7&__theme=dark"})
    assert visit(**{"accept-language": "en-GB"}) == (200, {})


def test_choice_is_remembered_and_stronger_than_the_browser():
    status, headers = visit("lang=zh&seed=7", **{"accept-language": "ru"})
    assert status == 307 and headers["location"] == "zh?seed=7"
    assert headers["set-cookie"].startswith("latte_language=zh;")
    status, headers = visit("lang=en", **{"accept-language": "ru"})
    assert status == 200 and headers["set-cookie"].startswith("latte_language=en;")
    assert visit(cookie="a=b; latte_language=en", **{"accept-language": "ru"}) == (200, {})
    assert visit(cookie="latte_language=zh")[1]["location"] == "zh"


WRONG = ["lang=xx", "lang=//evil.example", "lang=%0d%0aset-cookie:a", "lang"]


@pytest.mark.parametrize("wrong", WRONG)
def test_unknown_language_is_as_none(wrong):
    assert visit(wrong) == (200, {})
    assert visit(cookie="latte_language=//evil.example") == (200, {})


def test_only_the_home_page_is_redirected():
    for path, method in (("/config", "GET"), ("/ru", "GET"), ("/", "POST"), ("/", "HEAD")):
        assert visit(path=path, method=method, **{"accept-language": "zh"}) == (200, {})


def test_page_speaks_english_russian_and_chinese():
    assert set(languages()) == set(LANGUAGES)
