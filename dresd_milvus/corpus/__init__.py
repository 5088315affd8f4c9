"""Documents and how they become tokens: shared by ingestion, evaluation and generation, so that they agree."""

from dresd_milvus.corpus.documents import Document, Encoded, Template, encode_documents, encode_prompt
from dresd_milvus.corpus.sources import Reading, Source, read_documents

__all__ = [
    "Document",
    "Encoded",
    "Reading",
    "Source",
    "Template",
    "encode_documents",
    "encode_prompt",
    "read_documents",
]
