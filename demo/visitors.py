"""Who is who on a server that many people use: a random cookie, which only names a history.

The cookie is set with the page and cannot be read by scripts. It holds 128 random bits; what the
server keeps is a hash of them, so that a copy of its disk opens nobody's history.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from demo.gate import App, Message, Receive, Scope, Send

COOKIE = "latte_visitor"
VALUE = re.compile(r"[0-9a-f]{32}")
YEAR_S = 365 * 24 * 3600


def owner_of(request: Any) -> str:
    """The name under which the runs of a request's visitor are kept.

    `request` is Gradio's or Starlette's. Without a cookie it is the open page's own.
    """
    cookies: Mapping[str, str] = getattr(request, "cookies", None) or {}
    visitor = cookies.get(COOKIE, "")
    if not VALUE.fullmatch(visitor):
        visitor = getattr(request, "session_hash", None) or ""
    return hashlib.sha256(visitor.encode()).hexdigest()[:32] if visitor else ""


class Visitors:
    """ASGI middleware: a page that is asked for without the cookie comes with a new one."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; add the cookie to answers that are pages."""
        if scope["type"] == "http" and scope["method"] == "GET" and not _known(scope):
            send = _with_cookie(send, _arrived_by_tls(scope))
        await self._app(scope, receive, send)


def _known(scope: Scope) -> bool:
    try:
        jar = SimpleCookie(dict(scope["headers"]).get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return False
    return COOKIE in jar and bool(VALUE.fullmatch(jar[COOKIE].value))


def _arrived_by_tls(scope: Scope) -> bool:
    proxied = dict(scope["headers"]).get(b"x-forwarded-proto", b"")
    return scope.get("scheme") == "https" or proxied.startswith(b"https")


def _with_cookie(send: Send, tls: bool) -> Send:
    # A Space shows the page inside a frame of another site, where only the second kind is kept.
    kept = "SameSite=None; Secure; Partitioned" if tls else "SameSite=Lax"

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                text = (
                    f"{COOKIE}={secrets.token_hex(16)}; Path=/; Max-Age={YEAR_S}; HttpOnly; {kept}"
                )
                headers.append((b"set-cookie", text.encode()))
                message["headers"] = headers
        await send(message)

    return sender
