"""One name and password for the whole server: page, films, endpoints, tools.

HTTP's own Basic scheme: browsers ask by themselves, and a client sends one header. Nothing but
the health checks is answered without it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets

from demo.gate import App, Receive, Scope, Send, answer

# Gradio asks for the last itself before it counts the server as started.
OPEN = ("/healthz", "/readyz", "/gradio_api/startup-events")
ASK = (b"www-authenticate", b'Basic realm="Latte Studio", charset="UTF-8"')
WRONG_WAIT_S = 0.5  # slows down who tries many


class Auth:
    """ASGI middleware: lets through who sends `credentials`, which are "name:password"."""

    def __init__(self, app: App, credentials: str) -> None:
        self._app = app
        self._credentials = credentials.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may come in; answer 401 to the rest."""
        if scope["type"] == "lifespan" or scope.get("path") in OPEN:
            await self._app(scope, receive, send)
            return
        sent = dict(scope["headers"]).get(b"authorization", b"")
        if secrets.compare_digest(decoded(sent), self._credentials):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            if sent:
                await asyncio.sleep(WRONG_WAIT_S)
            await answer(send, 401, "This page needs a name and a password.", [ASK])


def decoded(header: bytes) -> bytes:
    """What stands in an Authorization header of the Basic scheme; b"" if it is none."""
    scheme, _, text = header.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        return b""
