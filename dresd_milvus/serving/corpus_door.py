"""Refuses requests that name no corpus, before the engine reads them. vLLM's server loads it by --middleware."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dresd_milvus.serving.settings import CORPUS, ServeSettings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

GENERATING = ("/v1/completions", "/v1/chat/completions", "/v1/responses")
"""Paths whose requests are answered with text. A text that comes another way has no corpus, and no drafts of rows."""


class CorpusDoor:
    """An ASGI middleware. app: the server behind it."""

    def __init__(self, app: App) -> None:
        self.app, self.corpora = app, frozenset(ServeSettings.from_environment().corpora)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in GENERATING:
            return await self.app(scope, receive, send)
        body = await _read(receive)
        if body is None:
            return None  # the client has gone
        if refusal := self._refusal(body):
            return await _refuse(send, refusal)
        sent = False

        async def again() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self.app(scope, again, send)

    def _refusal(self, body: bytes) -> str:
        """Why a request is refused; '' if it is not. What is no JSON object is refused by the server behind."""
        try:
            request = json.loads(body)
            named = (request.get("vllm_xargs") or {}).get(CORPUS)
        except (ValueError, AttributeError, RecursionError):
            return ""
        if named is None:
            return f'this server needs the name of a corpus with every request: "vllm_xargs": {{"{CORPUS}": NAME}}'
        return (
            ""
            if isinstance(named, str) and named in self.corpora
            else f"this server has no corpus {json.dumps(str(named)[:64])}"
        )


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; None where the client goes before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _refuse(send: Send, message: str) -> None:
    """Answer as an OpenAI server does."""
    error = {"message": message, "type": "BadRequestError", "param": "vllm_xargs", "code": 400}
    content = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": content})
