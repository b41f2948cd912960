"""Which language a visitor gets: the one chosen before, else the first that the browser asks for.

English is at `/`, the others at `/<language>`. `/?lang=ru` chooses: a cookie remembers it, and it
holds also where cookies are refused, as in a frame.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from demo.strings import DEFAULT_LANGUAGE

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "latte_language"
YEAR_S = 365 * 24 * 3600


class Language:
    """ASGI middleware: sends a visitor of `/` to the page in his language."""

    def __init__(self, app: App, languages: Sequence[str]) -> None:
        self._app = app
        self._languages = languages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirect a visit of the home page, if need be; let everything else through."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self._app(scope, receive, send)
            return
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        chosen = query.pop("lang", "")
        extra = []
        if chosen in self._languages:
            cookie = f"{COOKIE}={chosen}; Path=/; Max-Age={YEAR_S}; SameSite=Lax"
            extra.append((b"set-cookie", cookie.encode("ascii")))
        else:
            chosen = _remembered(headers.get(b"cookie", ""))
        if chosen not in self._languages:
            chosen = preferred(headers.get(b"accept-language", ""), self._languages)
        if chosen == DEFAULT_LANGUAGE:
            await self._app(scope, receive, _adding(send, extra))
            return
        place = chosen + ("?" + urlencode(query) if query else "")
        extra.append((b"location", place.encode("latin-1")))
        await send({"type": "http.response.start", "status": 307, "headers": extra})
        await send({"type": "http.response.body", "body": b""})


def preferred(accepted: str, languages: Sequence[str]) -> str:
    """The one of `languages` that an Accept-Language header likes best, else English."""
    ranked: list[tuple[float, int, str]] = []
    for place, entry in enumerate(accepted[:500].split(",")):
        tag, _, parameter = entry.partition(";")
        name = tag.strip().lower().split("-")[0]
        try:
            weight = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if name in languages and weight > 0:
            ranked.append((-weight, place, name))
    return min(ranked)[2] if ranked else DEFAULT_LANGUAGE


def _remembered(cookies: str) -> str:
    try:
        morsel = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _adding(send: Send, extra: list[tuple[bytes, bytes]]) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *extra]
        await send(message)

    return sender
