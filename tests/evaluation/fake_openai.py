"""A small OpenAI-compatible server in a thread. What a prompt says decides what becomes of it:

`HTTP 500` that status, with the key in its message; `CUT` a stream that ends early; `BREAK` a connection that breaks;
`HANG` no answer; `ERROR` an error event; `GARBAGE` no JSON; `UNCOUNTED` no usage; `EMPTY` no text;
`RAW` the events that follow. Others are answered
by what they say, a token a word.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHARES = {
    'vllm:generation_tokens_total{engine="0"}': 1.0,
    'vllm:spec_decode_num_drafts_total{engine="0"}': 0.25,
    'vllm:spec_decode_num_draft_tokens_total{engine="0"}': 1.0,
    'vllm:spec_decode_num_accepted_tokens_total{engine="0"}': 0.5,
    'dresd_drafted_tokens_total{source="right",corpus="a"}': 0.5,
    'dresd_accepted_tokens_total{source="right",corpus="a"}': 0.5,
    'dresd_drafted_tokens_total{source="wrong",corpus="a"}': 0.5,
    'dresd_accepted_tokens_total{source="wrong",corpus="a"}': 0.0,
}
"""What `dresd serve` counts, and by how much a token of an answer raises it here."""


class FakeOpenAI:
    """counted: the counters under /metrics, of SHARES; none: there is no /metrics. key: what a request must bring.
    suffix: of every word of an answer. seen: bodies of the requests. most: the largest number of them at once.
    on_request: called with each body first.
    """

    def __init__(self, counted: Iterable[str] = (), suffix: str = "") -> None:
        self.counters, self.suffix, self.key = dict.fromkeys(counted, 0.0), suffix, ""
        self.models = ["fake-model"]
        self.seen: list[dict[str, Any]] = []
        self.now = self.most = 0
        self.lock, self.over = threading.Lock(), threading.Event()
        self.on_request: Callable[[dict[str, Any]], object] = lambda body: None
        self.asked_for = Counter[str]()
        self.url = ""

    def count(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        with self.lock:
            for name in self.counters:
                self.counters[name] += SHARES[name] * tokens


class Handler(BaseHTTPRequestHandler):
    """Answers for the server's `fake`."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def say(self, status: int, content: str, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())

    def do_GET(self) -> None:
        self.server.fake.asked_for[self.path] += 1
        if self.server.fake.key and self.headers["Authorization"] != f"Bearer {self.server.fake.key}":
            return self.say(401, json.dumps({"error": {"message": f"bad key {self.headers['Authorization']}"}}))
        if self.path == "/v1/models":
            return self.say(
                200, json.dumps({"object": "list", "data": [{"id": name} for name in self.server.fake.models]})
            )
        if self.path == "/metrics" and self.server.fake.counters:
            lines = (f"{name} {value}" for name, value in self.server.fake.counters.items())
            return self.say(200, "# HELP x\n" + "\n".join(lines) + "\n", "text/plain")
        return self.say(404, "{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.fake.lock:
            self.server.fake.seen.append(body)
            self.server.fake.now += 1
            self.server.fake.most = max(self.server.fake.most, self.server.fake.now)
        try:
            self.server.fake.on_request(body)
            self.answer(body)
        finally:
            with self.server.fake.lock:
                self.server.fake.now -= 1

    def answer(self, body: dict[str, Any]) -> None:
        prompt = body["prompt"] if self.path == "/v1/completions" else body["messages"][0]["content"]
        if status := re.search(r"HTTP (\d+)", prompt):
            message = f"no, {self.headers['Authorization']}"
            return self.say(int(status[1]), json.dumps({"error": {"message": message}}))
        if "HANG" in prompt:
            self.server.fake.over.wait(20)
            return None
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in self.events(prompt, body["max_tokens"]):
            data = f"data: {event}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if "BREAK" in prompt:
            self.wfile.write(b"ff\r\ndata")
            self.close_connection = True
            return None
        self.wfile.write(b"0\r\n\r\n")
        return None

    def events(self, prompt: str, most: int) -> Iterator[str]:
        """The chunks of an answer."""
        words = [] if "EMPTY" in prompt else [f"{word}{self.server.fake.suffix} " for word in prompt.split()[:most]]
        if prompt.startswith("RAW"):
            yield from prompt.splitlines()[1:]
            return
        if self.path == "/v1/chat/completions":
            yield self.chunk("")
        for word in words:
            yield self.chunk(word)
        if "ERROR" in prompt:
            yield json.dumps({"error": {"message": "the engine is dead"}})
        if "GARBAGE" in prompt:
            yield "{what"
        if not re.search("CUT|BREAK", prompt):
            self.server.fake.count(len(words))
            yield self.chunk("", "stop")
            if "UNCOUNTED" not in prompt:
                yield json.dumps({"choices": [], "usage": {"completion_tokens": len(words)}})
            yield "[DONE]"

    def chunk(self, text: str, finish: str | None = None) -> str:
        chat = self.path == "/v1/chat/completions"
        said = {"delta": {"content": text}} if chat else {"text": text}
        return json.dumps({"choices": [{"index": 0, "finish_reason": finish, **said}]})


class Server(ThreadingHTTPServer):
    """Listens for a FakeOpenAI."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, fake: FakeOpenAI) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fake = fake

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients go away, and some answers are cut on purpose."""


@contextmanager
def serving(fake: FakeOpenAI) -> Iterator[FakeOpenAI]:
    """Have it answer under fake.url until the block ends."""
    server = Server(fake)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
