"""The GPU benchmark runs here as a check of itself, and says plainly when there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "bench.py"
NODES = ["0", "1", "2", "4", "8", "16", "32", "64", "128"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    # One thread: more only wait for each other where tests run side by side.
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What a check writes: (JSON, Markdown)."""
    out = tmp_path_factory.mktemp("gpu")
    ended = run("--size", "tiny", "--device", "cpu", "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    return json.loads((out / "tiny.json").read_text()), (out / "tiny.md").read_text()


def holds_a_summary(found: dict[str, Any]) -> bool:
    low, high = found["interval"]
    return 0 <= low <= found["median"] <= high and found["times"] >= 2


def test_a_check_has_every_part(made: tuple[dict[str, Any], str]) -> None:
    results = made[0]["results"]
    for length in ("256", "2048"):
        assert list(results["verify"][length]) == NODES
        for of in results["verify"][length].values():
            assert holds_a_summary(of["ms"]) and holds_a_summary(of["again_ms"])
            assert of["bandwidth_floor_ms"] > 0 and of["compute_floor_ms"] > 0 and of["over_floor"] > 0
        assert results["overhead"][length]["vanilla_over_bare"]["ratio"] > 0
        assert results["overhead"][length]["implicit_waits_a_step"] is None
        assert results["graphs"][length] == {}
    for part in ("keep", "pick", "fetch"):
        assert all(holds_a_summary(of) for of in results[part].values())
    assert all(holds_a_summary(of) for of in results["search"]["ms"].values())
    assert results["ceilings"]["bytes_per_second"] > 0 and len(results["budget"]) >= 2


def test_what_is_simulated_has_the_acceptance_it_says(made: tuple[dict[str, Any], str]) -> None:
    cases = {(case["nodes"], case["accepted"]): case for case in made[0]["results"]["simulated"]["cases"]}
    assert cases[0, 0]["mat"] == cases[16, 0]["mat"] == cases[64, 0]["mat"] == 1
    # Eight tokens by at most three a step, and by at most five; the last step is cut.
    assert cases[16, 2]["mat"] == cases[64, 2]["mat"] == pytest.approx(8 / 3)
    assert cases[16, 4]["mat"] == cases[64, 4]["mat"] == pytest.approx(8 / 2)


def test_nobody_takes_a_check_for_a_measurement(made: tuple[dict[str, Any], str]) -> None:
    content, text = made
    assert content["results"]["measurement"] is False
    assert "NOT A MEASUREMENT" in text and "Random weights" in text and "SIMULATED" in text
    assert content["provenance"]["made_at"][:10] in text and f"torch {torch.__version__}" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so_and_ends_well(tmp_path: Path) -> None:
    ended = run("--size", "7b", "--out", str(tmp_path))
    assert (ended.returncode, ended.stdout) == (0, "no CUDA device; skipped\n"), ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_large_model_is_not_run_on_a_cpu() -> None:
    ended = run("--size", "7b", "--device", "cpu")
    assert ended.returncode == 2 and "--size tiny" in ended.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_steps_are_captured_and_waits_are_counted(tmp_path: Path) -> None:
    few = ("--repeats", "3", "--texts", "2", "--tokens", "8", "--rows", "5000")
    ended = run("--size", "tiny", "--out", str(tmp_path), *few)
    assert ended.returncode == 0, ended.stderr
    results = json.loads((tmp_path / "tiny.json").read_text())["results"]
    assert results["measurement"] is True
    assert results["overhead"]["256"]["implicit_waits_a_step"] > 0
    assert all(holds_a_summary(of) for of in results["graphs"]["256"].values())
