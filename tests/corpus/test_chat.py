"""Conversations as turns: by a plain template, by a chat template, or refused with the reason."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dresd_milvus.corpus import ReadOptions, Source, Template, read_documents
from dresd_milvus.corpus.chat import CHAT, chat_template
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import load_tokenizer
from tests.corpus.reading import TALK, read, write_jsonl
from tests.samples import CHATML


def conversations(tmp_path: Path) -> Path:
    other = [{"from": "human", "value": "1?"}, {"from": "gpt", "value": "1!"}]
    return write_jsonl(tmp_path / "chat.jsonl", [{"messages": TALK}, {"messages": other}])


def test_conversations_under_a_plain_template(tmp_path: Path) -> None:
    first, second = read(conversations(tmp_path), template=Template("Q: {prompt}\nA: "))
    assert first.turns == ("Be kind.\nQ: Hello?\nA: ", "Hello!", "\nQ: Bye.\nA: ", "Farewell.")
    assert second.turns == ("Q: 1?\nA: ", "1!")


class ChatTokenizer:
    """What the chat code asks of a tokenizer."""

    chat_template, bos_token, bos_token_id = "there is one", "<s>", 1

    def get_chat_template(self) -> str:
        return self.chat_template

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool, **_: Any) -> str:
        said = "".join(f"<{m['role']}>{m['content']}</>" for m in messages)
        return "<s>" + said + ("<assistant>" if add_generation_prompt else "")

    def __call__(self, text: str) -> Any:
        return type("Found", (), {"input_ids": [1]})


def test_conversations_in_the_models_own_chat_template(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer()
    first, second = read(conversations(tmp_path), template=CHAT, tokenizer=tokenizer)
    assert first.turns == (
        "<system>Be kind.</><user>Hello?</><assistant>",
        "Hello!",
        "</><user>Bye.</><assistant>",
        "Farewell.",
    )
    assert second.turns == ("<user>1?</><assistant>", "1!")
    assert chat_template(tokenizer) == "<user>{prompt}</><assistant>"
    with pytest.raises(InputError, match="has no chat template"):
        chat_template(type("Plain", (), {"chat_template": None}))


CALLING = CHATML.replace(
    "{{ message.content }}",
    "{{ message.content }}{% for call in message.tool_calls %}<call>{{ call.function.name }} "
    "{{ call.function.arguments.city }}</call>{% endfor %}",
)


CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


TOOLS = [
    {"role": "user", "content": [{"type": "text", "text": "Is it "}, {"type": "text", "text": "warm?"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "12 degrees", "tool_call_id": "1"},
    {"role": "assistant", "content": "No. ", "tool_calls": None},
    {"role": "user", "content": "Thanks."},
    {"role": "assistant", "content": "Bye."},
]


def chatty(template: str) -> Any:
    tokenizer = load_tokenizer("sample")
    tokenizer.chat_template = template
    return tokenizer


def test_text_parts_and_tool_calls_are_read(tmp_path: Path) -> None:
    """By a template that knows calls; what an answer calls is part of it, and what a tool says is read."""
    path = write_jsonl(tmp_path / "tools.jsonl", [{"messages": TOOLS[:2]}, {"messages": TOOLS}])
    _, document = read(path, template=CHAT, tokenizer=chatty(CALLING))
    assert document.turns == (
        "<|im_start|>user\nIs it warm?<|im_end|>\n<|im_start|>assistant\n",
        "<call>weather Oslo</call>",
        "<|im_end|>\n<|im_start|>tool\n12 degrees<|im_end|>\n<|im_start|>assistant\n",
        "No. ",
        "<|im_end|>\n<|im_start|>user\nThanks.<|im_end|>\n<|im_start|>assistant\n",
        "Bye.",
    )
    trimming = CALLING.replace("{{ message.content }}", "{{ message.content | trim }}")
    trimmed = read(path, template=CHAT, tokenizer=chatty(trimming))[1].turns
    assert trimmed == tuple(turn.strip() if turn == "No. " else turn for turn in document.turns)


OFFERING = "{% if tools %}{% for tool in tools %}<tool>{{ tool.function.name }}{% endfor %}{% endif %}" + CHATML
OFFERED = {"name": "weather", "parameters": {}}


@pytest.mark.parametrize(
    "tools",
    [[OFFERED], [{"type": "function", "function": OFFERED}], json.dumps([OFFERED])],
    ids=["plain", "full", "text"],
)
def test_the_tools_of_a_row_go_into_the_chat_template(tmp_path: Path, tools: Any) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": TALK, "tools": tools}, {"messages": TALK, "tools": None}])
    offered, plain = read(path, template=CHAT, tokenizer=chatty(OFFERING))
    assert offered.turns == (f"<tool>weather{plain.turns[0]}", *plain.turns[1:])
    assert read(path, template=Template()) == read(path, template=Template())[::-1]


def test_tools_that_are_none_are_counted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": TALK, "tools": "weather"}, {"messages": TALK, "tools": [3]}])
    with pytest.raises(InputError, match=r"2 of 2 rows .* row 1: its tools are not a list of functions"):
        read(path, template=CHAT, tokenizer=chatty(OFFERING))


def test_messages_may_be_json_in_a_column(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": json.dumps(TALK)}, {"messages": TALK}])
    one, two = read(path)
    assert one == two


def test_sharegpt_roles_of_tools_are_known(tmp_path: Path) -> None:
    talk = [
        ("developer", "Be kind."),
        ("human", "Warm?"),
        ("function_call", "weather()"),
        ("observation", "12"),
        ("gpt", "No."),
    ]
    path = write_jsonl(tmp_path / "a.jsonl", [{"conversations": [{"from": who, "value": what} for who, what in talk]}])
    [document] = read(path, template=CHAT, tokenizer=chatty(CHATML))
    assert document.turns[1::2] == ("weather()", "No.")
    assert document.turns[0].startswith("<|im_start|>system\nBe kind.") and "<|im_start|>tool\n12" in document.turns[2]


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    image = [{"role": "user", "content": [{"type": "image_url"}]}, TOOLS[5]]
    rows = [{"messages": image}, {"messages": TALK[:1] + image}, {"messages": TOOLS[:1]}, {"messages": TALK}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    reasons = r"\(2: a message has content that is not text, 1: it has no answer\)"
    what = rf"3 of 4 rows .* {reasons}, the first of them row 1: message 1"
    with pytest.raises(InputError, match=what):
        read(path)
    reading = ReadOptions(incomplete="skip")
    assert len(list(read_documents(Source.parse(str(path)), reading))) == 1
    assert sorted(reading.skipped.values()) == [1, 2]


@pytest.mark.parametrize(
    ("messages", "template", "reason"),
    [
        (TOOLS, CHATML, "the chat template does not write the tools that message 2 calls (weather)"),
        (TOOLS, None, "message 2 calls a tool, which needs a chat template (--template chat)"),
        ([*TOOLS[:3], {"role": "assistant", "content": None}], CALLING, "message 4 has content that is not text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, TOOLS[5]], CHATML, "message 1 has content that is no"),
        (TOOLS[:1], CHATML, "it has no answer"),
        (TOOLS[3:], CHATML, "it begins with an answer"),
        (TOOLS[4:], "{{ raise_exception('no thanks') }}", "refuses a conversation: no thanks"),
        (TOOLS[2:], CHATML.replace("message.content", "message.content[:3]"), "does not write an answer as it is"),
    ],
)
def test_a_conversation_that_cannot_be_written_is_counted_and_named(
    tmp_path: Path, messages: list[Any], template: str | None, reason: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": messages}, {"messages": TALK}])
    how = {"template": CHAT, "tokenizer": chatty(template)} if template else {"template": Template()}
    with pytest.raises(InputError, match=rf"rows of .* the first of them row 1: .*{re.escape(reason)}"):
        read(path, **how)
    reading = ReadOptions(incomplete="skip", **how)
    left = list(read_documents(Source.parse(str(path)), reading))
    assert len(left) + reading.skipped.total() == 2 and reading.skipped.total() > 0
