"""End tokens: all tokens that a model's files name as the end of a text."""

from __future__ import annotations

from typing import Any

ANSWER = "An answer."


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids of all tokens that end a text of this model.

    model: of transformers. They come from its configuration, its generation configuration, its tokenizer, and the end
    of a turn in its chat template. These disagree in many published models, and without one of them a model would
    generate up to the limit.
    """
    named = [
        getattr(model.config.get_text_config(), "eos_token_id", None),
        getattr(model.generation_config, "eos_token_id", None),
        tokenizer.get_vocab().get(tokenizer.eos_token),
        turn_end(tokenizer),
    ]
    ids = [id for one in named if one is not None for id in ([one] if isinstance(one, int) else one)]
    return frozenset(id for id in ids if id >= 0)  # some configurations have -1 for no token


def turn_end(tokenizer: Any) -> int | None:
    """The id of the special token that the chat template writes after an answer; None if there is none."""
    turns = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": ANSWER}]
    if not tokenizer.chat_template:
        return None
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # a template is a program and may raise any exception, for instance for a missing role
        return None
    rest = text.rpartition(ANSWER)[2].lstrip()
    special = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    matching = [token for token in special if token and rest.startswith(token)]
    return special[max(matching, key=len)] if matching else None
