"""Conversations with a model: which template its prompts have, and the tokens before each of its answers."""

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
    """The template of prompts: a Template, CHAT for the tokenizer's chat template, or None for no template.

    The first of these that exists decides:
    1. `option`, the value of --template.
    2. `suite`, the template of the evaluation suite, if it is CHAT.
    3. With a chat template: the template in the store's manifest, else the chat template.
    4. Without one: `suite`, the template in the store's manifest, else the default template.

    Raises InputError for an option that is not a template.
    """
    if option is not None:
        return CHAT if option == CHAT else Template.parse(option)
    if suite == CHAT:
        return CHAT
    if has_chat_template(tokenizer):
        built = manifest.template if manifest else None  # None also for a store of plain text without prompts
        return CHAT if built in (None, chat_template(tokenizer)) else Template(built)
    if suite is not None:
        return Template(suite)
    if manifest is not None:
        return Template(manifest.template) if manifest.template else None
    return Template()


class Conversation:
    """Makes the tokens before each answer of a conversation: the same as ingestion makes of such a conversation.

    template: see choose_template. system: the system prompt, which needs CHAT; None for the template's own.
    Raises InputError for CHAT without a chat template, and for a system prompt that the template does not write.
    """

    def __init__(self, tokenizer: Any, template: Template | str | None, system: str | None = None) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.system: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        if template == CHAT:
            chat_template(tokenizer)
        if system is not None:
            self._require_system(system)

    def begin(self, question: str) -> list[int]:
        """The token ids before the first answer."""
        if isinstance(self.template, str):
            asked = [*self.system, {"role": "user", "content": question}]
            return encode_prompt(self.tokenizer, None, render(self.tokenizer, asked))
        return encode_prompt(self.tokenizer, self.template, question)

    def follow(self, before: list[int], questions: Sequence[str], answers: Sequence[str]) -> list[int]:
        """The token ids before the next answer.

        before: the ids up to the end of the last answer, without an end token. questions: all, the next one included.
        answers: the texts of all answers so far.
        """
        text = "\n" + (self.template(questions[-1]) if isinstance(self.template, Template) else questions[-1])
        if self.template == CHAT:
            messages = list(self.system)
            for question, answer in zip(questions, [*answers, ""], strict=True):
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            turns = self._turns(messages)
            if list(turns[1::2]) != [*answers, ""]:  # it changes earlier answers, for instance drops their reasoning
                return encode_prompt(self.tokenizer, None, render(self.tokenizer, messages[:-1]))
            text = turns[-2]
        return [*before, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _turns(self, messages: list[Message]) -> tuple[str, ...]:
        """The turns in the chat template, () if it cannot write them."""
        with suppress(UnwritableError):
            return turns_by_chat_template(self.tokenizer, messages)
        return ()

    def _require_system(self, system: str) -> None:
        """Raise InputError if the template does not write this system prompt."""
        if self.template != CHAT:
            raise InputError("--system-prompt is for models that are asked in a chat template; put it into the prompt")
        try:
            written = render(self.tokenizer, [*self.system, {"role": "user", "content": "Hello"}])
        except InputError as error:
            raise InputError(f"{error}; leave out --system-prompt, and put it into the prompt") from error
        if system.strip() not in written:
            raise InputError("the model's chat template leaves --system-prompt out; put it into the prompt")


class Dialogue:
    """A running conversation: its questions, answers and tokens so far."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._questions: list[str] = []
        self._answers: list[str] = []
        self._ids: list[int] = []  # up to the end of the last answer

    def ask(self, question: str) -> list[int]:
        """The token ids before the answer to the next question."""
        if not self._answers:
            return self.conversation.begin(question)
        return self.conversation.follow(self._ids, [*self._questions, question], self._answers)

    def answered(self, question: str, before: list[int], answer: list[int]) -> None:
        """Add an answer. before: the ids that `ask` returned. answer: the ids that followed, without an end token."""
        self._questions.append(question)
        self._answers.append(self.conversation.tokenizer.decode(answer, skip_special_tokens=True))
        self._ids = before + answer
