"""What tests of benchmarks share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="package")
def benchmark_module() -> Iterator[Callable[[str], ModuleType]]:
    """Benchmarks by name; they import each other from their folder, as when one of them is run."""
    sys.path.insert(0, FOLDER)
    yield importlib.import_module
    sys.path.remove(FOLDER)
