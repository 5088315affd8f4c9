"""The fixture that imports benchmarks."""

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
    """Imports a benchmark by name, with the folder of benchmarks on the path, as when one of them is run."""
    sys.path.insert(0, FOLDER)
    yield importlib.import_module
    sys.path.remove(FOLDER)
