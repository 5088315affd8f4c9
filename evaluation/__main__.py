"""`python -m evaluation` is `dresd eval`."""

from dresd_milvus.console import run_app
from evaluation.cli import app

run_app(app, "python -m evaluation")
