"""What ends a text: every token that a model's files name for it."""

from __future__ import annotations

from typing import Any

ANSWER = "An answer."


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids of configuration, generation configuration and tokenizer, and of what ends a turn in the chat template.

    They disagree in many published models, and one that is left out has a model run on to the limit.
    """
    named = [
        getattr(model.config.get_text_config(), "eos_token_id", None),
        getattr(model.generation_config, "eos_token_id", None),
        tokenizer.get_vocab().get(tokenizer.eos_token),
        turn_end(tokenizer),
    ]
    ids = [id for one in named if one is not None for id in ([one] if isinstance(one, int) else one)]
    return frozenset(id for id in ids if id >= 0)  # some configurations say -1 for none


def turn_end(tokenizer: Any) -> int | None:
    """The special token that the chat template puts behind an answer; None where there is none."""
    turns = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": ANSWER}]
    if not tokenizer.chat_template:
        return None
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # a template is a program: it may want other roles, and raises what it likes
        return None
    behind = text.rpartition(ANSWER)[2].lstrip()
    special = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    matching = [token for token in special if token and behind.startswith(token)]
    return special[max(matching, key=len)] if matching else None
