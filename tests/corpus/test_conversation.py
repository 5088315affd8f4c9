"""How a model is spoken to: the template that is chosen, and ids that are those of ingestion and of the tokenizer."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from dresd_milvus.corpus import Document, Template, encode_documents
from dresd_milvus.corpus.chat import CHAT, chat_template, turns_by_chat_template
from dresd_milvus.corpus.conversation import Conversation, Dialogue, choose_template
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import load_tokenizer
from dresd_milvus.retrieval.store import Manifest
from tests.samples import CHATML

PLAIN = load_tokenizer("sample")

SYSTEM_FIRST = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
WITH_BOS = "{{ bos_token }}" + CHATML
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
SYSTEM_LOST = CHATML.replace(
    "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
)
TRIMMED = CHATML.replace("message.content", "message.content | trim")
WITHOUT_THOUGHTS = CHATML.replace("message.content", "message.content.split('</think>')[-1]")
DATED = "<|im_start|>system\nToday is {{ strftime_now('%d %B %Y') }}.<|im_end|>\n" + CHATML


def tokenizer_with(template: str) -> Any:
    tokenizer = deepcopy(PLAIN)
    tokenizer.chat_template = template
    return tokenizer


CHATTY = tokenizer_with(CHATML)
STORE = Manifest("m", "f", "h", "p", 4, 20, "Q: {prompt}\n", "s")
STORE_OF_CHATS = replace(STORE, template=chat_template(CHATTY))
STORE_OF_TEXT = replace(STORE, template=None)


@pytest.mark.parametrize(
    ("tokenizer", "option", "manifest", "suite", "expected"),
    [
        (PLAIN, None, None, None, Template()),
        (PLAIN, None, None, "{prompt}", Template("{prompt}")),
        (PLAIN, None, STORE, "{prompt}", Template("{prompt}")),
        (PLAIN, None, STORE, None, Template("Q: {prompt}\n")),
        (PLAIN, None, STORE_OF_TEXT, None, None),
        (PLAIN, "A: {prompt}\\n", STORE, CHAT, Template("A: {prompt}\n")),
        (PLAIN, None, STORE, CHAT, CHAT),
        (CHATTY, None, None, None, CHAT),
        (CHATTY, None, None, "{prompt}", CHAT),
        (CHATTY, None, STORE, "{prompt}", Template("Q: {prompt}\n")),
        (CHATTY, None, STORE_OF_CHATS, None, CHAT),
        (CHATTY, None, STORE_OF_TEXT, None, CHAT),
        (CHATTY, "{prompt}", STORE_OF_CHATS, None, Template("{prompt}")),
        (CHATTY, CHAT, STORE, None, CHAT),
    ],
)
def test_the_template_that_is_chosen(
    tokenizer: Any, option: str | None, manifest: Manifest | None, suite: str | None, expected: Template | str | None
) -> None:
    assert choose_template(tokenizer, option, manifest, suite) == expected


SAID = [("Who?", "I am."), ("Why {prompt}?", "So.\n"), ("  ", "")]


def dialogue(tokenizer: Any, system: str | None = None) -> list[list[int]]:
    """The ids before each answer of SAID."""
    talk, found = Dialogue(Conversation(tokenizer, CHAT, system)), []
    for question, answer in SAID:
        found.append(talk.ask(question))
        talk.answered(question, found[-1], tokenizer(answer, add_special_tokens=False)["input_ids"])
    return found


def messages(count: int, system: str | None) -> list[dict[str, str]]:
    """The messages up to so many questions."""
    said = [(role, text) for pair in SAID for role, text in zip(("user", "assistant"), pair, strict=True)]
    said = [("system", system)] * (system is not None) + said[: 2 * count - 1]
    return [{"role": role, "content": text} for role, text in said]


@pytest.mark.parametrize("system", [None, "You are a pirate."])
@pytest.mark.parametrize("template", [CHATML, SYSTEM_FIRST, WITH_BOS], ids=["chatml", "system first", "bos"])
def test_a_conversation_is_read_as_ingestion_and_the_tokenizer_write_it(template: str, system: str | None) -> None:
    tokenizer = tokenizer_with(template)
    read = dialogue(tokenizer, system)
    turns = turns_by_chat_template(tokenizer, [*messages(3, system), {"role": "assistant", "content": ""}])
    document = encode_documents(tokenizer, [Document(turns, "")])[0].ids.tolist()
    for count, ids in enumerate(read, 1):
        text = tokenizer.apply_chat_template(messages(count, system), tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(ids) == (text if template == WITH_BOS else tokenizer.bos_token + text)
        assert ids == document[: len(ids)] and ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("template", [TRIMMED, WITHOUT_THOUGHTS], ids=["trimmed", "without thoughts"])
def test_a_template_that_writes_earlier_answers_otherwise_is_followed(template: str) -> None:
    tokenizer, conversation = tokenizer_with(template), Conversation(tokenizer_with(template), CHAT)
    answer = "<think>Hm.</think>Yes. "
    before = conversation.begin("one")
    ids = conversation.follow([*before, 5, 6, 7], ["one", "two"], [answer])
    said = [("user", "one"), ("assistant", answer), ("user", "two")]
    text = tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in said], tokenize=False, add_generation_prompt=True
    )
    assert ids == tokenizer(text)["input_ids"]


def test_a_template_that_writes_the_day_always_writes_the_same() -> None:
    tokenizer = tokenizer_with(DATED)
    assert "Today is 26 July 2024." in chat_template(tokenizer)
    assert "Today is 26 July 2024." in tokenizer.decode(Conversation(tokenizer, CHAT).begin("Hello"))


@pytest.mark.parametrize(
    ("tokenizer", "template", "message"),
    [
        (PLAIN, Template(), "--system-prompt is for models that are asked in a chat template"),
        (tokenizer_with(NO_SYSTEM), CHAT, "refuses a conversation: no system role; leave out --system-prompt"),
        (tokenizer_with(SYSTEM_LOST), CHAT, "leaves --system-prompt out"),
    ],
    ids=["no template", "refused", "lost"],
)
def test_a_system_prompt_without_a_place_is_one_clear_line(tokenizer: Any, template: Any, message: str) -> None:
    Conversation(tokenizer, template)
    with pytest.raises(InputError, match=message) as caught:
        Conversation(tokenizer, template, "You are a pirate.")
    assert "\n" not in str(caught.value)
