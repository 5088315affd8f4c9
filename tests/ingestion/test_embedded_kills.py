"""An embedded ingestion that kills itself before any of its changes to files; the same command again builds the same
store.

`make test` does this at a few places; `make soak` 200 times: at every place in turn, at random moments between two, and
in half of the trials again while the second command mends the store.
"""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from dresd_milvus.retrieval.suffix_store import SuffixStore
from tests.ingestion.test_kills import Content, content, require_same
from tests.killed import REQUEST, Command
from tests.samples import TEMPLATE, write_corpus

SOAK_KILLS = 200
DOCUMENTS, SHARD_SIZE = 30, 3_000

SEALED = "os.rename /run/seal/00000.done"
"""The place before the marker of the seal."""


class Trials:
    """An ingestion that is killed again and again.

    spare: what plan, fit and embedding have left of an undisturbed one. early: the places of these phases. late: those
    of the phases after them, from the database's first file to the seal's marker. last: the number of the last request
    among the late ones.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self._log, self._spare = folder / "root", folder / "log", folder / "spare"
        self._uri, self._run = self.root / "a.db", self.root / "run"
        self.root.mkdir()
        corpus = write_corpus(folder / "corpus.jsonl", DOCUMENTS)
        self._command = ["ingest", "run", "--source", str(corpus), "--uri", str(self._uri), "--collection", "rows"]
        self._command += ["--run-dir", str(self._run), "--dtype", "float32", "--dim", "16", "--template", TEMPLATE]
        self._command += [
            "--shard-size",
            str(SHARD_SIZE),
            "--answers",
            "greedy",
            "--answer-tokens",
            "8",
            "--also",
            "rest",
        ]
        undisturbed = self.start("--keep-rows")
        assert undisturbed.wait() == 0, undisturbed.output()
        self._whole, places = self._content(), undisturbed.places()
        first = next(number for number, place in enumerate(places) if "/a.db/" in place)
        self.early, self.late = places[:first], places[first:]
        self.last = len(self.late) - self.late[::-1].index(REQUEST)
        for part in ("load", "seal", "suffixes"):
            shutil.rmtree(self._run / part)
        self._run.rename(self._spare)

    def start(self, *options: str, die_at: int = 0, delay: float = 0.0) -> Command:
        """Start the command. die_at, delay: see Command."""
        return Command([*self._command, *options], self.root, self._log, die_at, delay)

    def kill(self, die_at: int, early: bool = False, delay: float = 0.0, again: int = 0) -> str:
        """Kill the command once, and again at another place if that is named; then let it end, and compare.

        die_at: a place among the late ones, or among all. Returns the place before which it was killed, or '' where it
        ended before that.
        """
        for folder in (self._uri, self._run):
            shutil.rmtree(folder, ignore_errors=True)
        if not early:
            shutil.copytree(self._spare, self._run)
        killed = self.start(die_at=die_at, delay=delay)
        place = " ".join(["after", *killed.places()[-1:]]) if killed.wait() else ""
        if again:
            self.start(die_at=again).wait()
        mending = self.start()
        assert mending.wait() == 0, mending.output()
        require_same(self._content(), self._whole)
        assert not (self._run / "rows").exists()
        return place

    def _content(self) -> Content:
        assert len(SuffixStore(self._run / "suffixes"))
        return content(str(self._uri), "rows")


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return Trials(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_killed_between_the_last_request_and_the_seal(trials: Trials, share: float) -> None:
    sealed = 1 + trials.late.index(SEALED)
    assert trials.kill(trials.last + 1 + round(share * (sealed - trials.last - 1)))


def test_killed_while_the_collection_is_made_and_while_the_rows_are_removed(trials: Trials) -> None:
    assert trials.kill(1 + trials.late.index("open /a.db/collections/rows/schema.json.tmp"))
    assert trials.kill(len(trials.late) + 2)


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_killed_at_every_place(trials: Trials) -> None:
    chance, sealed, counts = random.Random(0), 1 + trials.late.index(SEALED), Counter[str]()
    between = range(trials.last + 1, sealed + 1)
    loading = [*range(1, trials.last + 1), *range(sealed + 1, len(trials.late) + 5)]
    while counts["late"] < SOAK_KILLS // 2 or counts["other"] < SOAK_KILLS // 2:
        number = counts.total()
        kind = "late" if number % 2 and counts["late"] < SOAK_KILLS // 2 else "other"
        round_, at = divmod(number // 2, len(between))
        delay = chance.uniform(0, 0.1) if kind == "late" and round_ > 1 else 0.0
        again = chance.randint(1, len(trials.late)) if chance.random() < 0.5 else 0
        early = kind == "other" and number % 4 == 0
        if kind == "late":
            die_at = between[at]
        else:
            die_at = chance.randint(1, len(trials.early)) if early else loading[number // 4 % len(loading)]
        place = trials.kill(die_at, early, delay, again)
        counts[kind if place else "ended before"] += 1
        print(f"{dict(counts)}: {place or 'not killed'}{f', again at {again}' if again else ''}", flush=True)
