"""`dresd serve` refuses in one line what does not fit, before an engine is started."""

import json
from pathlib import Path

import pytest

from dresd_milvus.errors import InputError
from dresd_milvus.serving import launch
from dresd_milvus.serving.settings import ServeSettings
from tests.helpers import dresd

Capture = pytest.CaptureFixture[str]
STORE = ("--uri", "a.db", "--collection", "code", "--model", "sample")


def test_without_vllm_it_says_how_to_get_it(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    assert "make vllm" in dresd(capsys, "serve", *STORE).error


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org"])
def test_a_server_for_others_needs_a_key(capsys: Capture, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    assert "VLLM_API_KEY" in dresd(capsys, "serve", *STORE, "--host", host).error
    monkeypatch.setenv("VLLM_API_KEY", "")  # vLLM takes an empty key for none
    assert "VLLM_API_KEY" in dresd(capsys, "serve", *STORE, "--host", host).error
    launch.require_key(host, ["--api-key=secret"])
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    launch.require_key(host, [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_server_for_this_machine_needs_none(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    launch.require_key(host, [])


def test_the_store_must_fit_before_the_engine_starts(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = list[object]()
    monkeypatch.setattr(launch, "require_engine", lambda: None)
    monkeypatch.setattr(launch, "start", lambda *command: started.append(command))
    done = dresd(capsys, "serve", "--uri", tmp_path / "a.db", "--collection", "code", "--model", "sample")
    assert "there is no database" in done.error and not started


def test_flags_go_to_the_engine_as_they_are() -> None:
    command = launch.server_command("folder", "name", "127.0.0.1", 80, 5, ["--max-num-seqs", "4"])
    assert command[-2:] == ["--max-num-seqs", "4"] and command[command.index("--port") + 1] == "80"
    drafting = json.loads(command[command.index("--speculative-config") + 1])
    assert drafting["method"] == "custom_class" and drafting["num_speculative_tokens"] == 5


def test_settings_survive_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRESD_SERVE", raising=False)
    with pytest.raises(InputError, match="dresd serve"):
        ServeSettings.from_environment()
    settings = ServeSettings("m", "f", "t", "http://host:19530", "code", "server", 0.01)
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert ServeSettings.from_environment() == settings


@pytest.mark.parametrize(
    ("corpora", "default", "required", "wrong"),
    [
        (("one",), "one", True, "exclude each other"),
        ((), None, True, "kept no names"),
        (("one",), "two", False, "no corpus 'two' .it has: one"),
        ((), "one", False, "no corpus 'one'"),
    ],
)
def test_corpora_that_do_not_fit_are_refused(
    corpora: tuple[str, ...], default: str | None, required: bool, wrong: str
) -> None:
    with pytest.raises(InputError, match=wrong):
        launch.check_corpora(corpora, default, required)


def test_corpora_that_fit_are_not_refused() -> None:
    for default, required in ((None, True), ("one", False), (None, False)):
        launch.check_corpora(("one", "two"), default, required)


def test_only_a_server_that_requires_corpora_has_the_door() -> None:
    ask = [launch.server_command("folder", "name", "127.0.0.1", 80, 5, [], required) for required in (True, False)]
    assert ["--middleware" in command for command in ask] == [True, False]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, ["one", "two", None]),
        ({"default_corpus": "one"}, ["one", "two"]),
        ({"require_corpus": True}, ["one", "two"]),
    ],
)
def test_all_rows_are_drafted_only_where_requests_need_name_no_corpus(settings: dict, named: list) -> None:
    assert ServeSettings("m", "f", "t", "a.db", "code", corpora=("one", "two"), **settings).named() == named
