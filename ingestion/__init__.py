"""Ingestion: corpus -> hidden states -> keys -> Milvus. Imports only `dresd_milvus`."""
