"""The dashboard shows metrics that there are."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
VLLM = {
    "vllm:generation_tokens_total",
    "vllm:spec_decode_num_accepted_tokens_total",
    "vllm:spec_decode_num_drafts_total",
}
"""Those of vLLM 0.32."""


def test_every_metric_of_the_dashboard_is_counted() -> None:
    board = json.loads((ROOT / "infra/grafana/serving.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"\b(?:dresd_|vllm:)\w+", query)}
    code = (ROOT / "dresd_milvus/serving/metrics.py").read_text()
    counters = {f"{name}_total" for name in re.findall(r'Metric\(f?"(dresd_\w+)"', code)}
    counters |= {"dresd_drafted_tokens_total", "dresd_accepted_tokens_total"}
    histograms = {f"{name}_bucket" for name in re.findall(r'Histogram\("(dresd_\w+)"', code)}
    assert asked == counters | histograms | VLLM
