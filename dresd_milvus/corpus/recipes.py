"""The datasets of the paper (DReSD, section 4; names and keys from its released code), as data."""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """hub: the dataset's name there. keys: of the prompt and the response in a row; a response of None means prompts
    only, which the target must answer. shuffle: the seed of the order, take: how many rows of it. turns: how many
    exchanges of a conversation, None for all.
    """

    hub: str
    split: str
    prompt_key: str | None
    response_key: str | None
    shuffle: int | None = None
    take: int | None = None
    turns: int | None = None
    what: str = ""


RECIPES = {
    "evol-instruct-code": Recipe(
        "nickrosh/Evol-Instruct-Code-80k-v1", "train", "instruction", "output", what="the paper's store for code"
    ),
    "ultrachat": Recipe(
        "HuggingFaceH4/ultrachat_200k",
        "train_sft",
        "messages",
        "messages",
        shuffle=42,
        take=80_000,
        turns=1,
        what="the paper's store for chat: first exchanges of 80,000 conversations",
    ),
    "codealpaca": Recipe(
        "sahil2801/CodeAlpaca-20k", "train", "instruction", "output", what="the paper's prompts for code"
    ),
    "mt-bench": Recipe(
        "HuggingFaceH4/mt_bench_prompts", "train", "prompt", None, turns=1, what="the paper's prompts for chat"
    ),
}
