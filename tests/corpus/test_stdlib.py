"""The standard library's functions as a corpus."""

import email
from pathlib import Path

import pytest

from dresd_milvus.corpus import stdlib


def test_the_standard_library_is_split_without_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of it, for all of it takes long to read."""
    folder = Path(email.__file__).parent
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(folder)})
    kept, held = ([pair.response for pair in stdlib.pairs(held_back)] for held_back in (False, True))
    assert len({*kept, *held}) == len(kept) + len(held) > 100, "each text is there once, on one side"
    assert {*kept, *held} == {pair.response for pair in stdlib.functions(folder, "email")}
    assert 0 < len(held) / (len(kept) + len(held)) < 0.15


def test_a_function_loses_its_docstring_and_keeps_its_body(tmp_path: Path) -> None:
    source = (
        "class A:\n    async def f(self,\n            x):  # c\n"
        '        """Do it.\n\n        More.\n        """\n        # why\n        return x\n'
    )
    (tmp_path / "m.py").write_text(source)
    pair = next(stdlib.functions(tmp_path, "here"))
    assert pair.prompt == "Write a Python function `f`. Do it."
    assert pair.response == "async def f(self,\n        x):  # c\n    # why\n    return x"
