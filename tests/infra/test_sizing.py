"""The memory that indexes need: the table of docs/operations.md is what the command prints."""

from pathlib import Path

import pytest

from dresd_milvus.milvus.indexes import CATALOGUE
from infra.sizing import GPU_GB, GPU_SHARE, ROWS, needs, payload_bytes, stored_bytes
from tests.helpers import dresd

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_page_has_every_index_as_it_is_derived() -> None:
    lines = PAGE.read_text().split("| index | B/row |")[1].split("\n\n")[0].splitlines()[2:]
    listed = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    derived = [
        [
            need.name,
            f"{need.index_bytes:,.0f}",
            f"{need.rows_per_gpu / 1e6:,.0f} M" if need.rows_per_gpu else "CPU",
            *(f"{size:.1f}" for size in need.index_gb),
            ", ".join(map(str, need.gpus or ())),
        ]
        for need in needs()
    ]
    assert listed == derived and len(derived) == len(CATALOGUE)


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    shown = dresd(capsys, "stack", "sizing").out
    assert all(name in shown for name in CATALOGUE)
    assert f"{payload_bytes()} B a row" in shown and f"{stored_bytes()} B in object storage" in shown
    halved = dresd(capsys, "stack", "sizing", "--half", "--dim", "32", "--continuation", "10").out
    assert "GPU_IVF_FLAT" not in halved, "it takes no float16"
    assert f"{payload_bytes(10)} B a row" in halved and f"{stored_bytes(32, 10, half=True)} B in" in halved


def test_gpus_hold_what_they_are_said_to_hold() -> None:
    for need in needs():
        assert (need.gpus is not None) == CATALOGUE[need.name].gpu == (need.rows_per_gpu is not None)
        for rows, gigabytes, gpus in zip(ROWS, need.index_gb, need.gpus or (), strict=False):
            assert gigabytes == pytest.approx(rows * need.index_bytes / 1e9)
            assert gpus - 1 < gigabytes / (GPU_GB * GPU_SHARE) <= gpus
