"""Conversations as turns: what the model reads and what it answers."""

from __future__ import annotations

from typing import Any

from dresd_milvus.corpus.documents import Template
from dresd_milvus.errors import InputError

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "prompter": "user"}
"""Other names of a role, as datasets have them."""

Message = dict[str, str]


def read_messages(value: Any) -> list[Message] | None:
    """[{role, content}] of a conversation in one of the usual forms (role/content, from/value); None if it is none."""
    if not isinstance(value, list):
        return None
    messages = []
    for entry in value:
        if not isinstance(entry, dict):
            return None
        role, content = entry.get("role", entry.get("from")), entry.get("content", entry.get("value"))
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        messages.append({"role": ROLES.get(role, role), "content": content})
    return messages


def chat_template(tokenizer: Any) -> str:
    """The text around one prompt in the tokenizer's own chat template, with {prompt} in it; InputError without one."""
    text = _render(tokenizer, [{"role": "user", "content": "{prompt}"}], True)
    Template(text)
    return text


def exchanges(messages: list[Message], most: int | None = None) -> list[Message]:
    """The messages up to the answer to the `most`-th question, ending in an answer."""
    ends = [at + 1 for at, message in enumerate(messages) if message["role"] == "assistant"]
    ends = ends if most is None else ends[:most]
    return messages[: ends[-1]] if ends else []


def turns_by_chat_template(tokenizer: Any, messages: list[Message]) -> tuple[str, ...]:
    """Turns as the tokenizer's chat template writes them; () where it does not write the answers as they are.

    What the template puts after an answer belongs to the next turn that is read.
    """
    turns: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, so_far = _render(tokenizer, messages[:at], True), "".join(turns)
        if not before.startswith(so_far):
            return ()
        turns += [before[len(so_far) :], message["content"]]
    return tuple(turns)


def turns_by_template(template: Template | None, messages: list[Message]) -> tuple[str, ...]:
    """Turns where every question is put into one template; other messages stand before it, a line each."""
    turns: list[str] = []
    read: list[str] = []
    for message in messages:
        if message["role"] == "assistant":
            turns += ["\n".join(read), message["content"]]
            read = [""]  # a line break after the answer
        elif message["role"] == "user" and template:
            read.append(template(message["content"]))
        else:
            read.append(message["content"])
    return tuple(turns)


def _render(tokenizer: Any, messages: list[Message], ask: bool) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "the model's tokenizer has no chat template; give --template 'Question: {prompt}\\nAnswer:\\n'"
        )
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))
    except Exception as error:  # templates raise what they like
        raise InputError(f"the tokenizer's chat template refuses a conversation: {error}") from error
    # The tokenizer puts it there itself.
    return text.removeprefix(tokenizer.bos_token) if _adds_bos(tokenizer) else text


def _adds_bos(tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and list(tokenizer("").input_ids)[:1] == [tokenizer.bos_token_id]
