import asyncio
import json

import httpx
import pytest

from demo.gate import MAX_BODY_BYTES, Events, Gate

EVENTS = Events({0: ("prompt", "seed"), 3: ()}, {"generate": ("prompt", "seed")})
JOIN = "/gradio_api/queue/join"
CALL = "/gradio_api/call/generate"


class Behind:
    """The app behind the gate: keeps what reaches it, answers with the body that it got."""

    def __init__(self):
        self.reached = []

    async def __call__(self, scope, receive, send):
        message = await receive()
        self.reached.append(scope["path"])
        body = message.get("body", b"")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def ask(method, path, ready=True, **options):
    """The gate's answer and the paths that reached the app behind it."""
    behind = Behind()
    gate = Gate(behind, events=lambda: EVENTS, ready=lambda: ready)

    async def once():
        transport = httpx.ASGITransport(gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://studio:1") as client:
            return await client.request(method, path, **options)

    return asyncio.run(once()), behind.reached


def sentence(answer):
    detail = answer.json()["detail"]
    return detail if isinstance(detail, str) else detail[0]["message"]


def join(data, index=0, session="abc"):
    body = {"fn_index": index, "session_hash": session, "data": data}
    return ask("POST", JOIN, content=json.dumps(body))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/config",
        "/theme.css",
        "/assets/index-1.js",
        "/static/fonts/a/b.woff2",
        "/gradio_api/info",
        "/gradio_api/queue/data?session_hash=abc",
        "/gradio_api/heartbeat/abc",
        "/gradio_api/file=/tmp/latte-studio-x/0a/latte-1.mp4",
        "/gradio_api/call/generate/0123",
    ],
)
def test_gate_lets_in_what_the_page_needs(path):
    answer, reached = ask("GET", path)
    assert answer.status_code == 200 and len(reached) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/run/generate"),
        ("POST", "/gradio_api/api/generate"),
        ("POST", "/gradio_api/component_server"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
        ("GET", "/gradio_api/dev/reload"),
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/docs"),
        ("GET", "/static/../app.py"),
        ("GET", "/static/a\\b"),
        ("PUT", "/config"),
        ("DELETE", "/"),
        ("OPTIONS", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/queue/join"),
    ],
)
def test_gate_has_nothing_else(method, path):
    answer, reached = ask(method, path)
    assert answer.status_code == 404 and reached == []


def test_gate_hands_the_body_on_unchanged():
    body = {"fn_index": 0, "session_hash": "abc", "data": ["ü\u2603", 7]}
    answer, reached = ask("POST", JOIN, content=json.dumps(body))
    assert answer.json() == body and reached == [JOIN]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_gate_refuses_numbers_that_are_none(number):
    body = json.dumps({"fn_index": 0, "session_hash": "abc", "data": ["a", "#"]})
    body = body.replace('"#"', number)
    answer, reached = ask("POST", JOIN, content=body)
    assert answer.status_code == 422 and reached == []
    assert sentence(answer) == f"{number} is not a number here; numbers must be finite."


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"a": 1,}', b"\xff\xfe", b"[" * 5000, b'{"a":' * 2000],
)
def test_gate_refuses_what_is_not_a_json_object(body):
    answer, reached = ask("POST", JOIN, content=body)
    assert answer.status_code == 422 and reached == []


def test_gate_refuses_deep_nesting():
    deep = json.dumps({"x": [[[[[[[[[[1]]]]]]]]]]})
    answer, _ = ask("POST", JOIN, content=deep)
    assert "nested more than 8 levels" in sentence(answer)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([{"path": "/etc/passwd"}, 1], "prompt is an object, but must be text"),
        ([["a"], 1], "prompt is a list, but must be text"),
        (["a"], "data has 1 values, but this event takes 2."),
        (["a", 1, 2], "data has 3 values"),
        (None, "data must be a list of values."),
        ({"prompt": "a"}, "data must be a list of values."),
    ],
)
def test_gate_refuses_values_that_are_no_values(data, words):
    answer, reached = join(data)
    assert answer.status_code == 422 and reached == []
    assert words in sentence(answer)


@pytest.mark.parametrize("index", [1, -1, 9999, "0", None, True, 0.5])
def test_gate_refuses_events_that_do_not_exist(index):
    answer, reached = join(["a", 1], index=index)
    assert answer.status_code == 404 and reached == []


@pytest.mark.parametrize("session", [None, "", 5, "x" * 65])
def test_gate_refuses_a_session_that_is_none(session):
    assert join(["a", 1], session=session)[0].status_code == 422


def test_gate_checks_named_endpoints():
    assert ask("POST", CALL, content='{"data": ["a", 1]}')[0].status_code == 200
    assert ask("POST", CALL, content='{"data": ["a"]}')[0].status_code == 422
    unknown = ask("POST", "/gradio_api/call/other", content='{"data": []}')[0]
    assert (unknown.status_code, sentence(unknown)) == (404, "There is no endpoint /other.")
    named = "/gradio_api/call/v2/generate"
    assert ask("POST", named, content='{"prompt": "a"}')[0].status_code == 200
    wrong = ask("POST", named, content='{"promt": "a"}')[0]
    assert sentence(wrong) == "/generate has no parameter 'promt'; it takes prompt, seed."


def test_gate_refuses_large_bodies_with_and_without_a_length():
    large = b'{"data": "' + b"x" * MAX_BODY_BYTES + b'"}'
    assert ask("POST", JOIN, content=large)[0].status_code == 413

    async def pieces():
        for start in range(0, len(large), 1000):
            yield large[start : start + 1000]

    answer, reached = ask("POST", JOIN, content=pieces())
    assert answer.status_code == 413 and reached == []
    assert sentence(answer) == f"The request is larger than {MAX_BODY_BYTES // 1024} KiB."


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://studio:1", 200),
        (None, 200),
        ("http://evil.example", 403),
        ("http://studio:2", 403),
        ("null", 403),
    ],
)
def test_gate_takes_posts_of_its_own_page_only(origin, status):
    body = json.dumps({"fn_index": 3, "session_hash": "abc", "data": []})
    headers = {"origin": origin} if origin else {}
    assert ask("POST", JOIN, content=body, headers=headers)[0].status_code == status


def test_gate_sets_headers_that_keep_browsers_strict():
    for path in ("/", "/nothing", "/healthz"):
        headers = ask("GET", path)[0].headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]


def test_gate_says_how_the_server_is():
    assert ask("GET", "/healthz", ready=False)[0].status_code == 200
    assert ask("GET", "/readyz", ready=False)[0].status_code == 503
    assert ask("GET", "/readyz", ready=True)[0].status_code == 200
