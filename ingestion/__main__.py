"""`python -m ingestion` is `dresd ingest`."""

from dresd_milvus.console import run_app
from ingestion.cli import app

run_app(app, "python -m ingestion")
