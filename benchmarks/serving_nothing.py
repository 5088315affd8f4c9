"""A drafter for vLLM that proposes nothing: what the hook itself costs. See the server `nothing` of serving.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Nothing:
    """What vLLM's worker calls."""

    def __init__(self, config: Any) -> None:
        pass

    def load_model(self, model: Any) -> None:
        """Nothing is loaded."""

    def propose(self, sampled: Sequence[Any], *_: Any, **__: Any) -> list[list[int]]:
        """No draft for any request."""
        return [[] for _ in sampled]
