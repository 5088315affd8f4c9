"""The connection to Milvus: pymilvus, retries, and what a server can do."""
