"""How a model is spoken to: what its prompts go into, and the tokens before each of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from dresd_milvus.corpus.chat import (
    CHAT,
    Message,
    UnwritableError,
    chat_template,
    has_chat_template,
    render,
    turns_by_chat_template,
)
from dresd_milvus.corpus.documents import Template, encode_prompt
from dresd_milvus.errors import InputError
from dresd_milvus.retrieval.store import Manifest


def choose_template(
    tokenizer: Any, option: str | None = None, manifest: Manifest | None = None, suite: str | None = None
) -> Template | str | None:
    """What prompts go into: a template, CHAT, or None for nothing.

    The first that there is: the option; for a model with a chat template what the store was built with, then that chat
    template; for others the suite's template, the store's, and the default. A suite that says CHAT means every model.
    Raises InputError for an option that is no template.
    """
    if option is not None:
        return CHAT if option == CHAT else Template.parse(option)
    if suite == CHAT:
        return CHAT
    if has_chat_template(tokenizer):
        built = manifest.template if manifest else None  # None: of plain text, where nothing was asked
        return CHAT if built in (None, chat_template(tokenizer)) else Template(built)
    if suite is not None:
        return Template(suite)
    if manifest is not None:
        return Template(manifest.template) if manifest.template else None
    return Template()


class Conversation:
    """What the model reads before each answer: the same tokens that ingestion makes of such a conversation.

    template: what a question goes into, None for nothing, CHAT for the tokenizer's own template. system: the system
    prompt, which only CHAT has a place for; None is what the template itself says.
    Raises InputError where there is no chat template, or none that takes a system prompt.
    """

    def __init__(self, tokenizer: Any, template: Template | str | None, system: str | None = None) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.system: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        if template == CHAT:
            chat_template(tokenizer)
        if system is not None:
            self._require_system(system)

    def begin(self, question: str) -> list[int]:
        """The tokens before the first answer."""
        if isinstance(self.template, str):
            asked = [*self.system, {"role": "user", "content": question}]
            return encode_prompt(self.tokenizer, None, render(self.tokenizer, asked))
        return encode_prompt(self.tokenizer, self.template, question)

    def follow(self, before: list[int], questions: Sequence[str], answers: Sequence[str]) -> list[int]:
        """The tokens before the next answer: before holds those up to the latest answer's end, without an end token;
        questions: all, the next one included; answers: those so far."""
        text = "\n" + (self.template(questions[-1]) if isinstance(self.template, Template) else questions[-1])
        if self.template == CHAT:
            messages = list(self.system)
            for question, answer in zip(questions, [*answers, ""], strict=True):
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            turns = self._turns(messages)
            if list(turns[1::2]) != [*answers, ""]:  # it writes earlier answers otherwise, without thoughts for one
                return encode_prompt(self.tokenizer, None, render(self.tokenizer, messages[:-1]))
            text = turns[-2]
        return [*before, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _turns(self, messages: list[Message]) -> tuple[str, ...]:
        with suppress(UnwritableError):
            return turns_by_chat_template(self.tokenizer, messages)
        return ()

    def _require_system(self, system: str) -> None:
        if self.template != CHAT:
            raise InputError("--system-prompt is for models that are asked in a chat template, which this is not")
        try:
            written = render(self.tokenizer, [*self.system, {"role": "user", "content": "Hello"}])
        except InputError as error:
            raise InputError(f"{error}; leave out --system-prompt, and say it in the prompt") from error
        if system.strip() not in written:
            raise InputError("the model's chat template leaves --system-prompt out; say it in the prompt")


class Dialogue:
    """One conversation as it goes on."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._questions: list[str] = []
        self._answers: list[str] = []
        self._ids: list[int] = []  # up to the latest answer's end

    def ask(self, question: str) -> list[int]:
        """The tokens before the answer to the next question."""
        if not self._answers:
            return self.conversation.begin(question)
        return self.conversation.follow(self._ids, [*self._questions, question], self._answers)

    def answered(self, question: str, before: list[int], answer: list[int]) -> None:
        """A question was answered. before: the tokens that `ask` gave; answer: what followed, without an end token."""
        self._questions.append(question)
        self._answers.append(self.conversation.tokenizer.decode(answer, skip_special_tokens=True))
        self._ids = before + answer
