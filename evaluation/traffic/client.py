"""One server, by the `openai` client: its model, a streamed answer, its counters."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

from dresd_milvus.corpus import Template
from dresd_milvus.corpus.files import valid_text
from dresd_milvus.errors import InputError
from evaluation.traffic.counters import Counters, read_counters
from evaluation.traffic.load import Load

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY = "OPENAI_API_KEY"

NAME = re.compile(r"[\w.+-]+")
URL = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]+)?(/[\w./~-]*)?", re.ASCII | re.IGNORECASE)

METRICS_SECONDS = 5.0
"""Longest time of reading a server's counters."""


class Address(NamedTuple):
    """A server: the name that results give it, and its address without the /v1."""

    name: str
    url: str


class Reply(NamedTuple):
    """A whole answer. first: time of its first text (perf_counter), None for an empty one."""

    first: float | None
    tokens: int
    text: str


class RequestError(Exception):
    """A request that was not answered. kind: what failures are counted by."""

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(message or kind)
        self.kind = kind


def parse_address(text: str) -> Address:
    """'ours=http://127.0.0.1:8000' -> its Address; raises InputError, which never shows the text, for anything else.

    Addresses with a user, password or query are refused: results hold addresses, and must hold no secret.
    """
    name, _, url = text.partition("=")
    with suppress(ValueError):  # of a port that is too high
        if NAME.fullmatch(name) and URL.fullmatch(url) and urlsplit(url).port != 0:
            return Address(name, url.rstrip("/").removesuffix("/v1"))
    raise InputError(f"a --server is NAME=http://HOST:PORT, without user, password or query; a key belongs into ${KEY}")


def require_client() -> None:
    """Raise InputError where the `openai` client is not installed."""
    if importlib.util.find_spec("openai") is None:
        raise InputError("dresd eval traffic needs the package openai; pip install 'dresd-milvus[traffic]'")


class Server:
    """A server that answers. To be made (see connect), used and closed within one event loop."""

    def __init__(self, address: Address, client: AsyncOpenAI, model: str, load: Load) -> None:
        self.address, self.model = address, model
        self._client, self._load = client, load

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, prompt: str, template: Template | None, max_tokens: int, number: int) -> Reply:
        """Answer one prompt: as a chat, or by a template as plain text. number: of the request, added to the seed.

        Raises RequestError where the answer does not arrive whole within the load's timeout.
        """
        try:
            return await asyncio.wait_for(self._ask(prompt, template, max_tokens, number), self._load.timeout)
        except Exception as error:
            raise _failure(error) from error

    async def _ask(self, prompt: str, template: Template | None, max_tokens: int, number: int) -> Reply:
        given: dict[str, Any] = {
            "model": self.model, "max_tokens": max_tokens, "temperature": self._load.temperature,
            "seed": self._load.seed + number, "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        if template:
            stream = await self._client.completions.create(prompt=template(prompt), **given)
        else:
            given["messages"] = [{"role": "user", "content": prompt}]
            stream = await self._client.chat.completions.create(**given)
        first, pieces, tokens, whole = None, [], None, False
        async with stream:
            async for chunk in stream:
                tokens = chunk.usage.completion_tokens if chunk.usage else tokens
                for choice in chunk.choices:
                    piece = choice.text if template else choice.delta.content
                    first = first or (perf_counter() if piece else None)
                    pieces.append(piece or "")
                    whole = whole or choice.finish_reason is not None
        if not whole:
            raise RequestError("cut short", "the stream ended before the answer did")
        if not isinstance(tokens, int):
            raise RequestError("no usage", "the server does not say how many tokens it has generated")
        return Reply(first, tokens, valid_text("".join(pieces)))

    async def counters(self) -> Counters | None:
        """The server's own counters; None where it has none or does not answer."""
        with suppress(Exception):  # whatever it is, it costs a sample
            url = f"{self.address.url}/metrics"
            return read_counters(await self._client.get(url, cast_to=str, options={"timeout": METRICS_SECONDS})) or None
        return None


async def connect(address: Address, load: Load) -> Server:
    """The server at an address, which must answer now. Raises InputError where it does not, or serves no model."""
    from openai import AuthenticationError, PermissionDeniedError

    try:
        return await _connect(address, load)
    except (AuthenticationError, PermissionDeniedError) as error:
        problem, cause = f"refuses the key; set ${KEY}", cast(Exception, error)
    except (IndexError, TypeError, AttributeError) as error:
        problem, cause = "names no model under /v1/models; start it with one", error
    except Exception as error:
        problem, cause = f"does not answer ({_failure(error).kind}); start it, or correct --server", error
    raise InputError(f"the server {address.name} at {address.url} {problem}") from cause


async def _connect(address: Address, load: Load) -> Server:
    from openai import AsyncOpenAI

    key = os.environ.get(KEY) or "none"
    client = AsyncOpenAI(base_url=f"{address.url}/v1", api_key=key, max_retries=0, timeout=load.timeout)
    try:
        models = (await client.with_options(timeout=METRICS_SECONDS).models.list()).data
        return Server(address, client, valid_text(models[0].id), load)
    except BaseException:
        await client.close()
        raise


def _failure(error: Exception) -> RequestError:
    """The kind of an error of the client, and its message without the key."""
    import openai

    if isinstance(error, RequestError):
        return error
    kinds = (
        (openai.APITimeoutError, "timeout"),
        (asyncio.TimeoutError, "timeout"),
        (openai.APIConnectionError, "no connection"),
        (openai.APIStatusError, f"HTTP {getattr(error, 'status_code', '')}"),
        (openai.APIError, "error in the stream"),
    )
    kind = next((kind for cause, kind in kinds if isinstance(error, cause)), f"malformed ({type(error).__name__})")
    key, message = os.environ.get(KEY), valid_text(str(error))
    return RequestError(kind, message.replace(key, "***") if key else message)
