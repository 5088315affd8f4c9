"""Links in the documents hold, and one version stands everywhere."""

import re
from pathlib import Path

import pytest
import tomli

from dresd_milvus import __version__

ROOT = Path(__file__).parent.parent
PAGES = [path.relative_to(ROOT) for path in sorted((*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page: named ones, and those that GitHub makes of headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_hold(page: Path) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    broken = []
    for link in LINK.findall(text):
        place, _, anchor = link.partition("#")
        if not link.startswith(("http://", "https://")):
            target = (ROOT / page).parent / place if place else ROOT / page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_tests_that_are_named_are_there(page: Path) -> None:
    named = set(re.findall(r"\btests/[\w/]+\.py\b", (ROOT / page).read_text())) - {"tests/drafters/test_NAME.py"}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_one_version_stands_everywhere() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    changed = re.search(r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert cited and changed
    assert {project, cited[1], changed[1]} == {__version__}
