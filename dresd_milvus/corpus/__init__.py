"""Documents and how they become tokens: shared by ingestion, evaluation and generation, so that they agree."""

from dresd_milvus.corpus.documents import Document, Encoded, Template, encode_documents, encode_prompt
from dresd_milvus.corpus.sources import read_documents

__all__ = ["Document", "Encoded", "Template", "encode_documents", "encode_prompt", "read_documents"]
