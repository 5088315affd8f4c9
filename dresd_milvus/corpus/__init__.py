"""The path from text to tokens: sources, documents, templates. Ingestion, evaluation and generation share it."""

from dresd_milvus.corpus.documents import Document, Encoded, Template, encode_documents, encode_prompt
from dresd_milvus.corpus.sources import ReadOptions, Source, read_documents

__all__ = [
    "Document",
    "Encoded",
    "ReadOptions",
    "Source",
    "Template",
    "encode_documents",
    "encode_prompt",
    "read_documents",
]
