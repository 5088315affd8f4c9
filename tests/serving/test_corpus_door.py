"""A request that names no corpus is refused before the engine sees it; all others pass as they are."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.serving.corpus_door import CorpusDoor
from dresd_milvus.serving.settings import ServeSettings

SETTINGS = ServeSettings("m", "f", "t", "a.db", "code", corpora=("one", "two"), require_corpus=True)
CHAT = "/v1/chat/completions"


def ask(body: bytes, path: str = CHAT, method: str = "POST", sizes: int = 7) -> tuple[int, bytes]:
    """(status, what was read) of a request in parts of this size; the server behind answers 200 with what it read."""
    parts = [body[at : at + sizes] for at in range(0, len(body), sizes)] or [b""]
    events = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    events[-1]["more_body"] = False
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def server(scope: Any, receive: Any, send: Any) -> None:
        content, more = b"", True
        while more:
            message = await receive()
            content, more = content + message.get("body", b""), message.get("more_body", False)
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": content})

    asyncio.run(CorpusDoor(server)({"type": "http", "method": method, "path": path}, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.to_environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "xargs", [None, {}, {"dresd_corpus": None}, {"dresd_corpus": "three"}, {"dresd_corpus": ["one"]}]
)
def test_a_request_without_a_corpus_is_refused(xargs: Any) -> None:
    status, answer = ask(json.dumps({"messages": [], "vllm_xargs": xargs}).encode())
    assert status == 400 and "corpus" in json.loads(answer)["error"]["message"]


@pytest.mark.parametrize("corpus", SETTINGS.corpora)
def test_a_request_with_a_corpus_passes_unchanged(corpus: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "é"}], "vllm_xargs": {"dresd_corpus": corpus}}).encode()
    assert ask(body) == ask(body, sizes=10_000) == (200, body)


@given(st.binary(max_size=60))
def test_what_is_no_request_is_left_to_the_server(body: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.to_environment().items():
            patch.setenv(name, value)
        assert ask(body)[0] in (200, 400)


def test_other_paths_pass() -> None:
    assert ask(b"{}", "/tokenize") == (200, b"{}") and ask(b"", "/metrics", "GET")[0] == 200


def test_only_a_request_that_must_name_a_corpus_and_does_not_is_nobodys() -> None:
    assert SETTINGS.corpus_of({}) == "" and SETTINGS.corpus_of({"dresd_corpus": "one"}) == "one"
    free = ServeSettings("m", "f", "t", "a.db", "code", corpora=("one",), default_corpus="one")
    assert free.corpus_of({}) == "one" and ServeSettings("m", "f", "t", "a.db", "code").corpus_of({}) is None
