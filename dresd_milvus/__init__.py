"""Dense retrieval for speculative decoding (DReSD, ACL Findings 2025) on Milvus."""

__version__ = "0.2.0"
