"""The whole command line: it is declared without the libraries that do the work."""

import subprocess
import sys

import pytest

LARGE = {"torch", "transformers", "numba", "pymilvus", "datasets", "matplotlib"}

RUN = f"""
import sys
from dresd_milvus.cli.main import main
try:
    main()
finally:
    print("imported:", *sorted({LARGE} & {{*sys.modules}}))
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("eval run --help", 0),
        ("ingest run --help", 0),
        ("generate --help", 0),
        ("stack status --project /nowhere", 1),
        ("store publish --no-such-option", 2),
    ],
)
def test_help_and_wrong_options_are_answered_without_large_libraries(arguments: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, *arguments.split()], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
