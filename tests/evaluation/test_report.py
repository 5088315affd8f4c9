"""What a person looks at: the page of a run, its table, and the curves of draft quality."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evaluation.offline.intrinsic import Shape, Tally
from evaluation.reporting.intrinsic_report import report_curves, report_systems
from evaluation.reporting.metrics import summarise
from evaluation.reporting.report import print_table, table, write_report
from tests.evaluation.test_metrics import record

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def runs() -> list[dict[str, Any]]:
    """Plain decoding, and a system whose second text differs at a near tie and whose third at no tie."""
    plain = [record([0] * 6, [0] * 6, [0] * 6, 60.0, index) for index in range(3)]
    ours = [record([3, 1], [8, 8], [4, 4], 30.0, index) for index in range(3)]
    for number, gap in ((1, 5e-5), (2, 0.25)):
        ours[number] |= {"first_difference": 4, "gap": gap, "prompt_id": f"p{number} <&>"}
    about = {"suite": "code <&>"}
    return [about | {"system": name} | summarise(of, plain) for name, of in (("vanilla", plain), ("<dense>", ours))]


def test_a_page_stands_alone_and_says_where_texts_differ(runs: list[dict[str, Any]], tmp_path: Path) -> None:
    write_report({"runs": runs, "provenance": {"command": "a <b> & c"}}, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 1 and not re.search(r"src=|<link|<script", page), "nothing is loaded"
    assert "dresd-milvus: code &lt;&amp;&gt;, 3 prompts" in page and "<td>&lt;dense&gt;</td>" in page
    assert "a &lt;b&gt; &amp; c" in page and "<dense>" not in page.replace("<svg", "")
    assert "&lt;dense&gt;: prompt p1 &lt;&amp;&gt;, token 4, gap 5e-05; &lt;dense&gt;: prompt p2" in page
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    head, rule, *lines = (tmp_path / "table.md").read_text().splitlines()
    headings = table(runs)[0]
    assert head == f"| {' | '.join(headings)} |" and rule.count("---") == len(headings)
    assert [line.split(" | ")[0] for line in lines] == ["| vanilla", "| <dense>"]
    assert lines[1].endswith("| 1/3 +1 |") and "| 3.00 |" in lines[1], "identical, explained; 6 tokens in 2 steps"


def test_texts_that_are_all_alike_are_said_to_be(runs: list[dict[str, Any]], tmp_path: Path) -> None:
    write_report({"runs": runs[:1]}, tmp_path)
    assert "Nowhere: every text is identical." in (tmp_path / "report.html").read_text()


def test_tables_of_a_terminal_leave_two_columns_out(runs: list[dict[str, Any]], capsys: Capture) -> None:
    print_table(runs)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["system", "MAT"] and "path acc." not in head and len(lines) == 2
    print_table([{"cell": {"nodes": "8"}, **run} for run in runs], ["nodes"])
    swept = capsys.readouterr().out.splitlines()
    assert swept[0].split()[:3] == ["nodes", "system", "MAT"] and [line.split()[0] for line in swept[1:]] == ["8", "8"]


def tally(*texts: list[int]) -> Tally:
    """What was accepted, at the positions of every text; every draft had eight nodes but those of nothing."""
    made = Tally()
    made.accepted, made.nodes = list(texts), [[8 * (count > 0) for count in text] for text in texts]
    return made


def test_draft_quality_by_system_and_nodes(tmp_path: Path) -> None:
    found = {
        "dense": {Shape(2, 4): tally([1, 1], [1, 1]), Shape(8, 4): tally([2, 0], [2, 0])},
        "rest": {Shape(2, 4): tally([0, 0], [0, 0]), Shape(8, 4): tally([3, 3], [3, 3])},
    }
    table = report_systems(found, {"provenance": "here"}, tmp_path / "new")
    assert table.splitlines() == [
        "| system | 2 nodes | 8 nodes | hit rate |",
        "| --- | ---: | ---: | ---: |",
        "| dense | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] | 50% |",
        "| rest | 0.00 [0.00, 0.00] | 3.00 [3.00, 3.00] | 100% |",
    ]
    content = json.loads((tmp_path / "new" / "intrinsic.json").read_text())
    assert content["provenance"] == "here" and (tmp_path / "new" / "table.md").read_text() == table
    listed = [(entry["system"], entry["nodes"], entry["accepted_length"]) for entry in content["systems"]]
    assert listed == [("dense", 2, 1), ("dense", 8, 1), ("rest", 2, 0), ("rest", 8, 3)]
    assert (tmp_path / "new" / "intrinsic.png").read_bytes().startswith(b"\x89PNG")


def test_draft_quality_by_what_was_varied(tmp_path: Path) -> None:
    curves = {
        name: [
            {name: value, "rows": rows, "by_shape": [{"nodes": 8, **tally([accepted], [accepted]).summary()}]}
            for value, rows, accepted in points
        ]
        for name, points in {"dim": [(16, 1000, 1), (64, 1000, 2)], "store": [(0.1, 100, 0), (1.0, 1000, 2)]}.items()
    }
    dims, stores = report_curves(curves, {}, tmp_path).split("\n\n")
    assert dims.splitlines()[2:] == ["| 16 | 1.00 [1.00, 1.00] | 1,000 |", "| 64 | 2.00 [2.00, 2.00] | 1,000 |"]
    assert stores.splitlines()[2] == "| 0.1 | 0.00 [0.00, 0.00] | 100 |"
    assert set(json.loads((tmp_path / "intrinsic.json").read_text())["varied"]) == {"dim", "store"}
