"""Defaults and choices that options of the command line share with the code below it.

They have a module of their own, without imports of libraries: `dresd --help` reads it and must answer at once.
"""

from typing import Literal

DEPTH = 32
"""Most tokens on one path of a draft."""

MAX_NEW_TOKENS = 512
"""Most tokens of one answer."""

SEARCH_SECONDS = 0.25
"""Deadline of a search in a decoding step, in seconds."""

Search = Literal["auto", "server", "replica", "filter", "partition", "oversample"]
"""Where a store is searched, and by which plan; see storage.opening.open_retrieval."""
