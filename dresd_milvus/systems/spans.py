"""Spans of an answer and the documents that they were drafted from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.drafters.hybrid import Hybrid
from dresd_milvus.drafters.hybrid.attribution import Taken
from dresd_milvus.retrieval.store import POSITION_BITS
from dresd_milvus.systems.sources import Sources


class Span(NamedTuple):
    """A run of accepted draft tokens.

    first: position of the first of them in the text, prompt included. tokens: how many they are. source: see
    attribution.SOURCES. origin: the name of the corpus that they are from, '' if it is not known. document: its number
    there, as in the primary keys of rows, None for tokens of no document. position: of the first token in the document,
    or for 'text' in the text itself; None for what is from no place.
    """

    first: int
    tokens: int
    source: str
    origin: str = ""
    document: int | None = None
    position: int | None = None

    @property
    def place(self) -> str:
        """Where the tokens are from, for people."""
        if self.source == "recycled":
            return "what the model held likely before"
        if self.document is None:
            return f"this text, token {self.position}"
        corpus = f"'{self.origin}', " if self.origin else ""
        return f"{corpus}document {self.document}, token {self.position}"


def spans_of(drafter: Drafter, sources: Sources) -> list[Span]:
    """The spans of the drafter's last text, in order; none for a drafter that does not note where tokens are from."""
    return [_span(taken, sources) for taken in drafter.taken] if isinstance(drafter, Hybrid) else []


def _span(taken: Taken, sources: Sources) -> Span:
    if taken.source in ("text", "recycled"):
        return Span(taken.first, taken.tokens, taken.source, position=taken.place if taken.source == "text" else None)
    if taken.source == "corpus" and sources.suffixes:
        documents, positions = sources.suffixes.locate(np.array([taken.place]))
        document, position = int(documents[0]), int(positions[0])
    else:
        document, position = taken.place >> POSITION_BITS, taken.place & ((1 << POSITION_BITS) - 1)
    return Span(taken.first, taken.tokens, taken.source, _origin(document, sources), document, position)


def _origin(document: int, sources: Sources) -> str:
    """The name of a document's corpus: the only one of the collection, or as the suffix store knows it."""
    known: Sequence[str] = sources.manifest.origins if sources.manifest else ()
    if len(known) == 1:
        return known[0]
    if sources.suffixes and document < len(sources.suffixes.of_document):
        names: list[str] = sources.suffixes.about["origins"]
        return names[sources.suffixes.of_document[document]]
    return ""
