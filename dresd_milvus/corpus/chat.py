"""Conversations as turns: what the model reads and what it answers."""

from __future__ import annotations

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
    """Turns as the tokenizer's chat template writes them; () where it does not write the answers as they are.

    What the template puts after an answer belongs to the next turn that is read.
    """
    turns: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, so_far = render(tokenizer, messages[:at]), "".join(turns)
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


def render(tokenizer: Any, messages: list[Message]) -> str:
    """The text that the model's next answer follows, as the tokenizer's chat template writes it, less the BOS that the
    tokenizer itself puts before a text. Raises InputError without a chat template and where it refuses the messages.
    """
    if not has_chat_template(tokenizer):
        raise InputError(
            "the model's tokenizer has no chat template; give --template 'Question: {prompt}\\nAnswer:\\n'"
        )
    try:
        template = ONE_DAY + tokenizer.get_chat_template()
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # templates raise what they like
        raise InputError(f"the tokenizer's chat template refuses a conversation: {error}") from error
    return str(text).removeprefix(tokenizer.bos_token) if _adds_bos(tokenizer) else str(text)


def _adds_bos(tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and list(tokenizer("").input_ids)[:1] == [tokenizer.bos_token_id]
