"""The gate: a small ASGI layer in front of Gradio that lets in only what the page needs.

Gradio serves many routes that this app has no use for (uploads, a proxy, component calls, queue
bypasses, monitoring) and reads bodies of any size. Here a request is checked before Gradio sees
it: the route is on a list, a POST comes from our own origin, its body is small, strict JSON (no
NaN, no infinity, no object where a value belongs) and calls an event that exists with the number
of values that it takes. Every refusal is a JSON sentence. `/healthz` says that the server
answers, `/readyz` that the model is loaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 192 * 1024  # the longest start picture (128 KiB) and all other settings
MAX_DEPTH = 8

GET_ROUTES = re.compile(
    r"/(|[a-z]{2}|config|theme\.css|favicon\.ico|manifest\.json|robots\.txt|pwa_icon(/\d+)?"
    r"|(static|assets|svelte)/.+"
    r"|login_check|gradio_api/(info|app_id|startup-events|login_check|theme\.css|queue/data"
    r"|queue/status|heartbeat/[^/]+|file=.+|call/(v2/)?[a-z_]+/[^/]+))/?"
)
POST_ROUTES = re.compile(
    r"/gradio_api/(queue/join|cancel|reset|call/(?P<named>v2/)?(?P<name>[a-z_]+))/?"
)
MCP_ROUTES = re.compile(r"/gradio_api/mcp(/http)?/?")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    # a Space shows the page inside a frame of the hub
    (
        b"content-security-policy",
        b"frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    ),
]


@dataclass(frozen=True)
class Events:
    """The names of the values that each event of the page takes.

    `by_index` has every event, `by_name` those that are public endpoints.
    """

    by_index: Mapping[int, tuple[str, ...]]
    by_name: Mapping[str, tuple[str, ...]]


class Refusal(Exception):  # noqa: N818 - carries an HTTP answer
    """A request that goes no further."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Gate:
    """ASGI middleware. `own` answers below /studio/; the rest is Gradio's."""

    def __init__(
        self,
        app: App,
        events: Callable[[], Events],
        ready: Callable[[], bool],
        own: App | None = None,
        mcp: bool = False,
    ) -> None:
        self._app = app
        self._own = own
        self._events = events
        self._ready = ready
        self._mcp = mcp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page opens no web sockets
            return
        send = _with_headers(send)
        if scope["path"] in ("/healthz", "/readyz"):
            ready = scope["path"] == "/healthz" or self._ready()
            await answer(send, 200 if ready else 503, "ok" if ready else "not ready")
            return
        try:
            if self._own is not None and scope["path"].startswith("/studio/"):
                if scope["method"] == "POST":
                    _check_origin(scope)
                await self._own(scope, receive, send)
                return
            if self._mcp and _fits(MCP_ROUTES, scope):
                receive = await _check_tool(scope, receive)
            elif scope["method"] == "POST":
                receive = await self._check_post(scope, receive)
            elif scope["method"] not in ("GET", "HEAD") or not _fits(GET_ROUTES, scope):
                raise Refusal(404, "There is nothing here.")
        except Refusal as refusal:
            await answer(send, refusal.status, refusal.message)
            return
        await self._app(scope, receive, send)

    async def _check_post(self, scope: Scope, receive: Receive) -> Receive:
        route = _fits(POST_ROUTES, scope)
        if not route:
            raise Refusal(404, "There is nothing here.")
        _check_origin(scope)
        body = await _read_body(scope, receive)
        payload = parse_json(body)
        if not isinstance(payload, dict):
            raise Refusal(422, "The body must be a JSON object.")
        path = scope["path"].rstrip("/")
        if path.endswith("/queue/join"):
            self._check_join(payload)
        elif route["name"]:
            self._check_call(route["name"], payload, named=bool(route["named"]))
        return _replay(body, receive)

    def _check_join(self, payload: dict[str, Any]) -> None:
        index, session = payload.get("fn_index"), payload.get("session_hash")
        events = self._events().by_index
        if type(index) is not int or index not in events:
            raise Refusal(404, f"fn_index is {_short(index)}, but there is no such event.")
        if not isinstance(session, str) or not 1 <= len(session) <= 64:
            raise Refusal(422, "session_hash must be a text of 1 to 64 characters.")
        _check_values(payload.get("data"), events[index])

    def _check_call(self, name: str, payload: dict[str, Any], named: bool) -> None:
        parameters = self._events().by_name.get(name)
        if parameters is None:
            raise Refusal(404, f"There is no endpoint /{name}.")
        if not named:
            _check_values(payload.get("data"), parameters)
            return
        for key, value in payload.items():
            if key not in parameters and key != "session_hash":
                known = ", ".join(parameters)
                raise Refusal(422, f"/{name} has no parameter {_short(key)}; it takes {known}.")
            _check_scalar(key, value)


async def _check_tool(scope: Scope, receive: Receive) -> Receive:
    """A call of an MCP tool takes what an endpoint takes; other messages pass if they are JSON."""
    _check_origin(scope)
    if scope["method"] != "POST":
        return receive
    body = await _read_body(scope, receive)
    payload = parse_json(body)
    for message in payload if isinstance(payload, list) else [payload]:
        if not isinstance(message, dict):
            raise Refusal(422, "A message must be a JSON object.")
        if message.get("method") != "tools/call":
            continue
        asked = message.get("params")
        values = asked.get("arguments") if isinstance(asked, dict) else None
        for name, value in values.items() if isinstance(values, dict) else ():
            _check_scalar(_short(name), value)
    return _replay(body, receive)


def parse_json(body: bytes) -> Any:
    """JSON without its extensions: numbers are finite, text is Unicode, nesting is shallow."""
    try:
        payload = json.loads(body, parse_constant=_refuse_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        if isinstance(error.__cause__, Refusal):
            raise error.__cause__ from None
        raise Refusal(422, "The body is not valid JSON.") from None
    _check_depth(payload, MAX_DEPTH)
    return payload


def _refuse_number(text: str) -> float:
    raise ValueError from Refusal(422, f"{text} is not a number here; numbers must be finite.")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text[:40])


def _check_depth(value: Any, left: int) -> None:
    if left < 0:
        raise Refusal(422, f"The body is nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check_depth(part, left - 1)


def _check_values(data: Any, names: tuple[str, ...]) -> None:
    if not isinstance(data, list):
        raise Refusal(422, "data must be a list of values.")
    if len(data) != len(names):
        raise Refusal(422, f"data has {len(data)} values, but this event takes {len(names)}.")
    for name, value in zip(names, data, strict=True):
        _check_scalar(name, value)


def _check_scalar(name: str, value: Any) -> None:
    """Refuse objects: Gradio would take one that looks like a file and fetch its address."""
    if isinstance(value, dict | list):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise Refusal(422, f"{name} is {kind}, but must be text, a number or null.")


def _check_origin(scope: Scope) -> None:
    """A browser names the page that a POST comes from; only our own may post here."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is None:
        return
    hosts = (headers.get(b"host"), headers.get(b"x-forwarded-host"))
    if urlsplit(origin.decode("latin-1")).netloc.encode("latin-1") not in hosts:
        raise Refusal(403, "This request comes from another site.")


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
        raise Refusal(413, f"The request is larger than {MAX_BODY_BYTES // 1024} KiB.")
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "The connection was closed.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"The request is larger than {MAX_BODY_BYTES // 1024} KiB.")
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand the body that was read to the app, then what follows."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def _fits(routes: re.Pattern[str], scope: Scope) -> re.Match[str] | None:
    path: str = scope["path"]
    return None if "/../" in path or "\\" in path else routes.fullmatch(path)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return sender


async def answer(
    send: Send, status: int, message: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Answer in JSON; with 422 in the form whose sentence Gradio's page and clients show."""
    detail: Any = message
    if status == 422:
        failed = {"__type__": "validate", "is_valid": False, "parameter_name": "request"}
        detail = [failed | {"message": message}]
    body = json.dumps({"detail": detail}).encode()
    kind = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *headers]})
    await send({"type": "http.response.body", "body": body})
