"""`dresd chat` and `dresd generate`: what is read, what is shown, and how an answer or the chat is ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dresd_milvus.cli.speaker import Speaker, chat
from dresd_milvus.corpus.chat import CHAT
from dresd_milvus.corpus.conversation import Conversation
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.models.loading import LoadedModel, load_tokenizer
from dresd_milvus.systems.prepared import prepare_drafter
from dresd_milvus.systems.sources import Sources
from tests.helpers import dresd
from tests.samples import write_chat_model

TOKENS = 12
QUESTIONS = ["Write a Python function `close`. Close the file.", "Write `open`.", "Write `read`."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("chatty") / "model")


@pytest.fixture
def model(sample: LoadedModel, folder: Path) -> LoadedModel:
    """The sample with a chat template."""
    return replace(sample, tokenizer=load_tokenizer(str(folder)))


class Talk:
    """A chat that was held: what was shown, and of every answer the ids before it, what followed and how many tokens
    went through the model."""

    def __init__(
        self,
        model: LoadedModel,
        lines: list[Any],
        watch: Callable[[int], None] = lambda step: None,
        stop: tuple[str, ...] = (),
    ) -> None:
        out, self.model = StringIO(), model
        self.read: list[list[int]] = []
        self.said: list[Any] = []
        self.passed: list[list[int]] = []
        speaker = Speaker(model, prepare_drafter("hybrid-no-dense", Sources(), model, 8, 4), Greedy(), TOKENS, stop)
        speaker.console, answer = Console(file=out, width=200), speaker.answer

        def spy(ids: list[int], reuse_prefix: bool, interrupted: Callable[[], bool]) -> Any:
            self.read.append(list(ids))
            self.passed.append([])
            steps = iter(range(TOKENS))

            def watched() -> bool:
                watch(next(steps))
                return interrupted()

            self.said.append(answer(ids, reuse_prefix, watched))
            return self.said[-1]

        speaker.answer = spy  # type: ignore[method-assign]
        hook = model.target.model.get_input_embeddings().register_forward_hook(self._count)
        try:
            chat(speaker, Conversation(model.tokenizer, CHAT), self._reader(lines))
        finally:
            hook.remove()
            self.shown = out.getvalue()

    def _count(self, _module: Any, args: tuple[Any, ...], _out: Any) -> None:
        self.passed[-1].append(args[0].numel())

    @staticmethod
    def _reader(lines: list[Any]) -> Callable[[], str]:
        left: Iterator[Any] = iter(lines)

        def read() -> str:
            line = next(left, EOFError)
            if isinstance(line, type):
                raise line
            return str(line)

        return read


def test_a_turn_goes_on_from_what_was_read_before(model: LoadedModel) -> None:
    talk = Talk(model, QUESTIONS)
    assert len(talk.read) == 3
    for before, done, after, passed in zip(talk.read, talk.said, talk.read[1:], talk.passed[1:], strict=False):
        committed = before + done.tokens[:-1]  # the last token was picked, and has not been read yet
        assert after[: len(before) + len(done.answer)] == before + done.answer
        assert passed[0] == len(after) - 1 - len(committed)
    # /new forgets, blank lines ask nothing, and /exit ends the chat.
    plain = Talk(model, ["/new", QUESTIONS[0], "/new", "  ", "/exit", QUESTIONS[1]])
    assert len(plain.read) == 1 and plain.said[0].tokens == talk.said[0].tokens


def test_every_turn_is_the_rendered_conversation_and_answered_as_from_the_start(model: LoadedModel) -> None:
    talk = Talk(model, QUESTIONS)
    messages = []
    for question, ids, done in zip(QUESTIONS, talk.read, talk.said, strict=True):
        messages.append({"role": "user", "content": question})
        text = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert model.tokenizer.decode(ids) == model.tokenizer.bos_token + text
        speaker = Speaker(model, prepare_drafter("vanilla", Sources(), model), Greedy(), TOKENS)
        speaker.console = Console(file=StringIO())
        assert speaker.answer(ids).tokens == done.tokens
        messages.append({"role": "assistant", "content": model.tokenizer.decode(done.answer)})


def test_the_answer_is_shown_and_nothing_of_the_template(model: LoadedModel) -> None:
    talk = Talk(model, QUESTIONS[:2])
    help_line, *shown = talk.shown.splitlines()
    assert "/new" in help_line and "<|im" not in talk.shown and "Write" not in talk.shown and "</s>" not in talk.shown
    answers = [model.tokenizer.decode(done.answer) for done in talk.said]
    figures = [line for line in shown if line.startswith("hybrid-no-dense: ")]
    assert "\n".join(shown) == "\n".join(part for pair in zip(answers, figures, strict=True) for part in pair)


def test_an_answer_is_remembered_as_it_was_shown_where_a_stop_string_ended_it(model: LoadedModel) -> None:
    whole = model.tokenizer.decode(Talk(model, QUESTIONS[:1]).said[0].answer)
    stop = whole[5:9]
    text = whole[: whole.index(stop)]
    talk = Talk(model, QUESTIONS[:2], stop=(stop,))
    assert talk.said[0].reason == "stop" and f"\n{text}\n" in talk.shown and "ended by stop" in talk.shown
    messages = [{"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": text}]
    messages.append({"role": "user", "content": QUESTIONS[1]})
    rendered = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert model.tokenizer.decode(talk.read[1]) == model.tokenizer.bos_token + rendered


def test_ctrl_c_ends_an_answer_and_not_the_chat(model: LoadedModel) -> None:
    def press(step: int) -> None:
        if step == 1 and not pressed:
            pressed.append(step)
            signal.raise_signal(signal.SIGINT)

    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    talk = Talk(model, QUESTIONS[:2], press)
    assert pressed and signal.getsignal(signal.SIGINT) is before
    first, second = talk.said
    assert first.reason == "interrupt" and len(first.steps) == 2 and second.reason != "interrupt"
    assert talk.read[1][: len(talk.read[0]) + len(first.tokens)] == talk.read[0] + first.tokens
    assert "ended by interrupt" in talk.shown


def test_ctrl_c_twice_or_at_the_prompt_ends_the_chat(model: LoadedModel) -> None:
    assert len(Talk(model, [QUESTIONS[0], KeyboardInterrupt, QUESTIONS[1]]).read) == 1

    def press(step: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            Talk(model, QUESTIONS, press)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_conversation_that_outgrows_the_context_is_one_clear_line(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.target, "context", 150)
    talk = Talk(model, [*QUESTIONS, *QUESTIONS, "/new", QUESTIONS[0]])
    lines = [line for line in talk.shown.splitlines() if "/new begins a new one" in line]
    assert lines and all("and the model's context holds 150;" in line for line in lines)
    assert len(talk.read) + len(lines) == 7, "every question was answered or refused"
    assert talk.read[-1] == talk.read[0], "a new conversation begins"


def test_chat_takes_lines_from_a_pipe(folder: Path) -> None:
    command = [sys.executable, "-c", "from dresd_milvus.cli.main import main; main()", "chat", "--model", str(folder)]
    options = ["--nodes", "4", "--max-new-tokens", "4", "--system-prompt", "Be kind.", "--dtype", "float32"]
    said = f"{QUESTIONS[0]}\n\xff\n".encode("latin-1")
    done = subprocess.run([*command, *options], input=said, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().count("hybrid-no-dense: ") == 2 and done.stdout.endswith(b"> \n")


def test_a_closed_input_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input, which is closed" in dresd(capsys, "chat", "--model", folder, "--nodes", "4").error


def test_generate_shows_the_answer_alone(capsys: pytest.CaptureFixture[str], folder: Path, model: LoadedModel) -> None:
    options = ["--nodes", "4", "--max-new-tokens", "8", "--dtype", "float32"]
    done = dresd(capsys, "generate", QUESTIONS[0], "--model", folder, *options)
    talk = Talk(model, QUESTIONS[:1])
    answer = done.out.rstrip("\n").rsplit("\n", 1)[0]
    assert done.code == 0 and answer == model.tokenizer.decode(talk.said[0].tokens[:8], skip_special_tokens=True)
    other = dresd(capsys, "generate", QUESTIONS[0], "--model", folder, *options, "--template", "{prompt}")
    assert other.out.rsplit("\n", 2)[0] != answer, "a template that is asked for wins"


def test_a_system_prompt_needs_a_chat_template(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["generate", "Hello"], ["chat"]):
        assert "--system-prompt is for models" in dresd(capsys, *command, "--system-prompt", "Be kind.").error
