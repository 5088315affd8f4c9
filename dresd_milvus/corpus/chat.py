"""Conversations as turns: what the model reads and what it answers."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from dresd_milvus.corpus.documents import Template
from dresd_milvus.errors import InputError

CHAT = "chat"
"""A template of this name is the tokenizer's own chat template."""

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "prompter": "user"}
"""Other names of a role, as datasets have them."""

ONE_DAY = "{% macro strftime_now(layout) %}26 July 2024{% endmacro %}"
"""Before a chat template: whatever it writes today's date with writes the same every day, or a store would fit its
prompts for one day, and a run would not be repeated on the next."""

Message = dict[str, Any]
"""role and content, both text; tool_calls, name and tool_call_id where there are such, as chat templates take them."""


class UnwritableError(Exception):
    """A conversation, of which a message cannot be written; says which and why."""


def is_conversation(value: Any) -> bool:
    """Whether this is a list of messages, in one of the usual forms (role/content, from/value)."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(entry, dict) and isinstance(entry.get("role", entry.get("from")), str) for entry in value)
    )


def read_messages(value: Any) -> list[Message]:
    """The messages of a conversation in one of the usual forms; raises UnwritableError for content that is no text."""
    if not is_conversation(value):
        raise UnwritableError("it is no list of messages")
    messages = []
    for number, entry in enumerate(value, 1):
        role, content = entry.get("role", entry.get("from")), entry.get("content", entry.get("value"))
        calls = entry.get("tool_calls") or []
        text = "" if content is None and calls else _text(content)
        if text is None:
            raise UnwritableError(f"message {number} has content that is no text")
        message: Message = {"role": ROLES.get(role, role), "content": text}
        message |= {key: entry[key] for key in ("name", "tool_call_id") if isinstance(entry.get(key), str)}
        if calls:
            message["tool_calls"] = [_call(number, call) for call in calls]
        messages.append(message)
    return messages


def _text(content: Any) -> str | None:
    """The text of a message's content, a text or parts of one; None where there is something else."""
    if isinstance(content, list):
        parts = [str(part["text"]) for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return "".join(parts) if len(parts) == len(content) else None
    return content if isinstance(content, str) else None


def _call(number: int, call: Any) -> dict[str, Any]:
    """A tool call as chat templates take it, its arguments a mapping."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UnwritableError(f"message {number} calls a tool without a name")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    return {**call, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def has_chat_template(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "chat_template", None))


def chat_template(tokenizer: Any) -> str:
    """The text around one prompt in the tokenizer's own chat template, with {prompt} in it; InputError without one."""
    return Template(ask_by_chat_template(tokenizer, "{prompt}")).text


def ask_by_chat_template(tokenizer: Any, question: str) -> str:
    """The text that the model answers, as the tokenizer's chat template writes it; InputError without one."""
    return render(tokenizer, [{"role": "user", "content": question}])


def exchanges(messages: list[Message], most: int | None = None) -> list[Message]:
    """The messages up to the answer to the `most`-th question, ending in an answer."""
    ends = [at + 1 for at, message in enumerate(messages) if message["role"] == "assistant"]
    ends = ends if most is None else ends[:most]
    return messages[: ends[-1]] if ends else []


def turns_by_chat_template(tokenizer: Any, messages: list[Message]) -> tuple[str, ...]:
    """Turns as the tokenizer's chat template writes them; what it puts after an answer belongs to the next turn that is
    read. Raises UnwritableError where it does not write an answer as it is."""
    turns: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if at == 0:
            raise UnwritableError("it begins with an answer")
        before, so_far = render(tokenizer, messages[:at]), "".join(turns)
        if not before.startswith(so_far):
            raise UnwritableError(f"the chat template writes an answer before message {at + 1} otherwise")
        turns += [before[len(so_far) :], _answer(tokenizer, messages[: at + 1], before)]
    return tuple(turns)


def _answer(tokenizer: Any, messages: list[Message], before: str) -> str:
    """The last message, an answer, as the chat template writes it behind the text before: it may trim it, or add calls
    of tools."""
    content, calls = messages[-1]["content"], messages[-1].get("tool_calls", ())
    if not calls and content == content.strip():
        return str(content)
    other = "another answer"
    end = render(tokenizer, [*messages[:-1], {"role": "assistant", "content": other}], False).rpartition(other)[2]
    written = render(tokenizer, messages, False)
    answer = written.removeprefix(before).removesuffix(end)
    names = [call["function"]["name"] for call in calls]
    if before + answer + end != written or not all(name in answer for name in names):
        what = f"the tools that message {len(messages)} calls ({', '.join(names)})" if names else "an answer as it is"
        raise UnwritableError(f"the chat template does not write {what}")
    return answer


def turns_by_template(template: Template | None, messages: list[Message]) -> tuple[str, ...]:
    """Turns where every question is put into one template; other messages stand before it, a line each. Raises
    UnwritableError for calls of tools."""
    turns: list[str] = []
    read: list[str] = []
    for number, message in enumerate(messages, 1):
        if "tool_calls" in message:
            raise UnwritableError(f"message {number} calls a tool, which only a chat template (--template chat) writes")
        if message["role"] == "assistant":
            turns += ["\n".join(read), message["content"]]
            read = [""]  # a line break after the answer
        elif message["role"] == "user" and template:
            read.append(template(message["content"]))
        else:
            read.append(message["content"])
    return tuple(turns)


def render(tokenizer: Any, messages: list[Message], ask: bool = True) -> str:
    """Messages as the tokenizer's chat template writes them, less the BOS that the tokenizer itself puts before a text.

    ask: up to where the model's next answer begins. Raises InputError without a chat template, and where it refuses
    the messages.
    """
    if not has_chat_template(tokenizer):
        raise InputError(
            "the model's tokenizer has no chat template; give --template 'Question: {prompt}\\nAnswer:\\n'"
        )
    try:
        template = ONE_DAY + tokenizer.get_chat_template()
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=ask
        )
    except Exception as error:  # templates raise what they like
        raise InputError(f"the tokenizer's chat template refuses a conversation: {error}") from error
    return str(text).removeprefix(tokenizer.bos_token) if _adds_bos(tokenizer) else str(text)


def _adds_bos(tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and list(tokenizer("").input_ids)[:1] == [tokenizer.bos_token_id]
