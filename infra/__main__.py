"""`python -m infra` is `dresd stack`."""

from dresd_milvus.console import run_app
from infra.cli import app

run_app(app, "python -m infra")
