"""Conversations as turns: alternately the text that the model reads and the text that it answers."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from dresd_milvus.corpus.documents import Template
from dresd_milvus.errors import InputError

CHAT = "chat"
"""The template of this name is the tokenizer's own chat template."""

ROLES = {
    "human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "function_call": "assistant", "observation": "tool", "function": "tool",
    "developer": "system",
}  # fmt: skip
"""Roles by the names that some datasets have for them."""

FIXED_DATE = "{% macro strftime_now(layout) %}26 July 2024{% endmacro %}"
"""A definition before every chat template, which makes it write the same date every day. With today's date a store
would fit the prompts of one day only, and a run could not be repeated on the next."""

Message = dict[str, Any]
"""A message as chat templates accept it: role and content, both text; tool_calls, name and tool_call_id if present."""


class UnwritableError(Exception):
    """A template cannot write a conversation. The message of this error says which message and why."""

    @property
    def reason(self) -> str:
        """Why, without what belongs to one row: its keys, the number of the message."""
        return re.sub(r"message \d+", "a message", re.sub(r" \(.*\)$", "", str(self)))


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages in one of the usual forms (role/content or from/value)."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(entry, dict) and isinstance(entry.get("role", entry.get("from")), str) for entry in value)
    )


def read_messages(value: Any) -> list[Message]:
    """The messages of a conversation in one of the usual forms, or as JSON in a text.

    Raises UnwritableError for anything else, and for content that is not text.
    """
    value = parsed(value)
    if not is_conversation(value):
        raise UnwritableError("it is not a list of messages")
    messages = []
    for number, entry in enumerate(value, 1):
        role, content = entry.get("role", entry.get("from")), entry.get("content", entry.get("value"))
        calls = entry.get("tool_calls") or []
        text = "" if content is None and calls else _text(content)
        if text is None:
            raise UnwritableError(f"message {number} has content that is not text")
        message: Message = {"role": ROLES.get(role, role), "content": text}
        message |= {key: entry[key] for key in ("name", "tool_call_id") if isinstance(entry.get(key), str)}
        if calls:
            message["tool_calls"] = [_call(number, call) for call in calls]
        messages.append(message)
    return messages


def _text(content: Any) -> str | None:
    """The text of a message's content, which is a string or a list of text parts; None for any other content."""
    if isinstance(content, list):
        parts = [str(part["text"]) for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return "".join(parts) if len(parts) == len(content) else None
    return content if isinstance(content, str) else None


def _call(number: int, call: Any) -> dict[str, Any]:
    """A tool call as chat templates accept it, with arguments as a mapping.

    number: of the message, for errors. Raises UnwritableError for a call without a name.
    """
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UnwritableError(f"message {number} calls a tool without a name")
    arguments = function.get("arguments") or {}
    arguments = parsed(arguments)
    return {**call, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def parsed(value: Any) -> Any:
    """A value that may be given as JSON in a text; a text that is no JSON stays as it is."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def read_tools(value: Any) -> list[dict[str, Any]] | None:
    """The tools of a conversation as chat templates accept them, from a list of functions or JSON in a text.

    None where there are none. Raises UnwritableError for anything else.
    """
    tools = parsed(value) or None
    if tools is None:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise UnwritableError("its tools are not a list of functions")
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]


def has_chat_template(tokenizer: Any) -> bool:
    """Whether a tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def chat_template(tokenizer: Any) -> str:
    """The tokenizer's chat template for one prompt, as text with {prompt} in it; raises InputError without one."""
    return Template(prompt_by_chat_template(tokenizer, "{prompt}")).text


def prompt_by_chat_template(tokenizer: Any, question: str) -> str:
    """A question in the tokenizer's chat template, up to where the answer begins; raises InputError without one."""
    return render(tokenizer, [{"role": "user", "content": question}])


def first_exchanges(messages: list[Message], limit: int | None = None) -> list[Message]:
    """The messages up to the last answer, or up to the answer number `limit`; [] if there is no answer."""
    ends = [at + 1 for at, message in enumerate(messages) if message["role"] == "assistant"]
    ends = ends if limit is None else ends[:limit]
    return messages[: ends[-1]] if ends else []


def turns_by_chat_template(
    tokenizer: Any, messages: list[Message], tools: list[dict[str, Any]] | None = None
) -> tuple[str, ...]:
    """The turns of a conversation in the tokenizer's chat template. tools: those that the model was offered.

    What the template writes after an answer belongs to the next turn that the model reads. Raises UnwritableError if
    the template changes an answer.
    """
    turns: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if at == 0:
            raise UnwritableError("it begins with an answer")
        before, so_far = render(tokenizer, messages[:at], tools=tools), "".join(turns)
        if not before.startswith(so_far):
            raise UnwritableError(f"the chat template changes an answer before message {at + 1}")
        turns += [before[len(so_far) :], _answer(tokenizer, messages[: at + 1], before, tools)]
    return tuple(turns)


def _answer(tokenizer: Any, messages: list[Message], before: str, tools: list[dict[str, Any]] | None = None) -> str:
    """The last message, an answer, as the chat template writes it: it may strip spaces or add tool calls.

    before: the messages before it in the template. Raises UnwritableError if the template writes something else.
    """
    content, calls = messages[-1]["content"], messages[-1].get("tool_calls", ())
    if not calls and content == content.strip():
        return str(content)
    other = "another answer"
    end = render(tokenizer, [*messages[:-1], {"role": "assistant", "content": other}], False, tools)
    end = end.rpartition(other)[2]
    written = render(tokenizer, messages, False, tools)
    answer = written.removeprefix(before).removesuffix(end)
    names = [call["function"]["name"] for call in calls]
    if before + answer + end != written or not all(name in answer for name in names):
        what = f"the tools that message {len(messages)} calls ({', '.join(names)})" if names else "an answer as it is"
        raise UnwritableError(f"the chat template does not write {what}")
    return answer


def turns_by_template(template: Template | None, messages: list[Message]) -> tuple[str, ...]:
    """The turns of a conversation with every question in the same template, None for no template.

    Messages that are neither questions nor answers become lines before the next question. Raises UnwritableError for a
    tool call.
    """
    turns: list[str] = []
    read: list[str] = []
    for number, message in enumerate(messages, 1):
        if "tool_calls" in message:
            raise UnwritableError(f"message {number} calls a tool, which needs a chat template (--template chat)")
        if message["role"] == "assistant":
            turns += ["\n".join(read), message["content"]]
            read = [""]  # makes a line break after the answer
        elif message["role"] == "user" and template:
            read.append(template(message["content"]))
        else:
            read.append(message["content"])
    return tuple(turns)


def render(tokenizer: Any, messages: list[Message], ask: bool = True, tools: list[dict[str, Any]] | None = None) -> str:
    """Messages in the tokenizer's chat template, without the BOS token that the tokenizer itself writes before a text.

    ask: end with the text after which the model's next answer begins. tools: those that the model may call. Raises
    InputError without a chat template, and if the template refuses the messages.
    """
    if not has_chat_template(tokenizer):
        raise InputError(
            "the model's tokenizer has no chat template; give --template 'Question: {prompt}\\nAnswer:\\n'"
        )
    try:
        template = FIXED_DATE + tokenizer.get_chat_template()
        text = tokenizer.apply_chat_template(
            messages, tools=tools, chat_template=template, tokenize=False, add_generation_prompt=ask
        )
    except Exception as error:  # a template may raise any exception
        raise InputError(f"the tokenizer's chat template refuses a conversation: {error}") from error
    return str(text).removeprefix(tokenizer.bos_token) if _adds_bos(tokenizer) else str(text)


def _adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer writes its BOS token before a text."""
    return tokenizer.bos_token_id is not None and list(tokenizer("").input_ids)[:1] == [tokenizer.bos_token_id]
