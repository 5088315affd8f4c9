"""An embedded ingestion that kills itself before any of its changes to files; the same command again builds the same
store.

`make test` does this at a few places; `make soak` 200 times, half of them between the last request and the seal: before
every change there twice, then at random moments; and in half of the trials again, anywhere in the second command.
"""

import random
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from dresd_milvus.retrieval.suffix_store import SuffixStore
from tests.ingestion.test_kills import Content, content, require_same
from tests.killed import REQUEST, Command
from tests.samples import TEMPLATE, write_corpus

SOAK_KILLS, INTERRUPTS = 200, 60
DOCUMENTS, SHARD_SIZE = 30, 3_000

SEALED = "os.rename /run/seal/00000.done"
"""The place before the marker of the seal."""


class Trials:
    """An ingestion that is killed again and again.

    spare: what plan, fit and embedding have left of an undisturbed one. early: the places of these phases. late: those
    of the phases after them, from the database's first file to the seal's marker. between: the numbers of those of them
    that come after the last request.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self._log, self._spare = folder / "root", folder / "log", folder / "spare"
        self.uri, self._run = self.root / "a.db", self.root / "run"
        self.root.mkdir()
        corpus = write_corpus(folder / "corpus.jsonl", DOCUMENTS)
        self._command = ["ingest", "run", "--source", str(corpus), "--uri", str(self.uri), "--collection", "rows"]
        self._command += ["--run-dir", str(self._run), "--dtype", "float32", "--dim", "16", "--template", TEMPLATE]
        self._command += f"--shard-size {SHARD_SIZE} --answers greedy --answer-tokens 8 --also rest".split()
        undisturbed = self.start("--keep-rows")
        assert undisturbed.wait() == 0, undisturbed.output()
        self._whole, places = self._content(), undisturbed.places()
        first = next(number for number, place in enumerate(places) if "/a.db/" in place)
        self.early, self.late = places[:first], places[first:]
        last = len(self.late) - self.late[::-1].index(REQUEST)
        self.between = range(last + 1, self.late.index(SEALED) + 2)
        for part in ("load", "seal", "suffixes"):
            shutil.rmtree(self._run / part)
        self._run.rename(self._spare)

    def start(
        self, *options: str, die_at: int = 0, delay: float = 0.0, sent: signal.Signals = signal.SIGKILL
    ) -> Command:
        """Start the command. die_at, delay, sent: see Command."""
        return Command([*self._command, *options], self.root, self._log, die_at, delay, sent)

    def kill(self, *die_at: int, early: bool = False, delay: float = 0.0) -> list[list[str]]:
        """Kill the command, once for each number; then let it end, and compare.

        die_at: places, for the first kill among the late ones, or among all if early. delay: see Command. Returns what
        each command had passed, from "the start" on, when it was killed; [] where it ended before.
        """
        self.prepare(early)
        passed = []
        for number in die_at:
            command = self.start(die_at=number, delay=delay)
            passed.append(["the start", *command.places()] if command.wait() else [])
        self.mend()
        return passed

    def prepare(self, early: bool = False) -> None:
        """Leave nothing of the trial before; unless early, put back what plan, fit and embedding have made."""
        for folder in (self.uri, self._run):
            shutil.rmtree(folder, ignore_errors=True)
        if not early:
            shutil.copytree(self._spare, self._run)

    def mend(self) -> str:
        """Run the command, compare, and return what it has said."""
        mending = self.start()
        assert mending.wait() == 0, mending.output()
        require_same(self._content(), self._whole)
        assert not (self._run / "rows").exists()
        return mending.output()

    def _content(self) -> Content:
        assert len(SuffixStore(self._run / "suffixes"))
        return content(str(self.uri), "rows")


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return Trials(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_killed_between_the_last_request_and_the_seal(trials: Trials, share: float) -> None:
    assert trials.kill(trials.between[round(share * (len(trials.between) - 1))])[0]


def test_killed_while_the_collection_is_made_and_while_the_rows_are_removed(trials: Trials) -> None:
    assert trials.kill(1 + trials.late.index("open /a.db/collections/rows/schema.json.tmp"))[0]
    assert trials.kill(len(trials.late) + 2)[0]


def test_a_log_that_is_cut_loses_no_row(trials: Trials) -> None:
    trials.prepare()
    assert trials.start(die_at=trials.between[0]).wait()
    (log,) = trials.uri.glob("collections/rows/wal/*")
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    assert trials.mend().count("'rows' holds other rows than were sent; all its rows are loaded again") == 1


def interrupt(trials: Trials, die_at: int, early: bool) -> None:
    """Ctrl-C there: no traceback, a line that says how to go on, status 130; the same command goes on."""
    trials.prepare(early)
    command = trials.start(die_at=die_at, sent=signal.SIGINT)
    status, said = command.wait(), command.output()
    assert "Traceback" not in said and status in (130, 0), said
    assert status == 0 or said.rstrip().splitlines()[-1].startswith("interrupted"), said
    trials.mend()


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_interrupted_in_a_phase(trials: Trials, share: float) -> None:
    places = len(trials.early) + len(trials.late)
    interrupt(trials, round(share * places), early=True)


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """So many of these numbers, evenly spread."""
    return [numbers[len(numbers) * part // count] for part in range(count)]


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_killed_in_every_phase_before_and_after(trials: Trials) -> None:
    chance = random.Random(0)
    early = spread(range(1, len(trials.early) + 1), SOAK_KILLS // 4)
    outside = [n for n in range(1, len(trials.late) + 3) if n not in trials.between]
    for number, die_at in enumerate([*early, *spread(outside, SOAK_KILLS // 4)]):
        again = chance.sample(range(1, len(trials.late)), k=number % 2)
        report(number + 1, trials.kill(die_at, *again, early=number < len(early)))


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_interrupted_in_every_phase(trials: Trials) -> None:
    for die_at in spread(range(1, len(trials.early) + len(trials.late) + 1), INTERRUPTS):
        interrupt(trials, die_at, early=True)


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_killed_many_times_between_the_last_request_and_the_seal(trials: Trials) -> None:
    chance, kills = random.Random(0), 0
    while kills < SOAK_KILLS // 2:
        again = chance.sample(range(1, len(trials.late)), k=kills % 2)
        if kills < 2 * len(trials.between):
            passed = trials.kill(trials.between[kills % len(trials.between)], *again)
        else:
            passed = trials.kill(chance.choice(trials.between), *again, delay=chance.uniform(0, 0.03))
        kills += bool(passed[0]) and SEALED not in passed[0]
        report(kills, passed)


def report(number: int, passed: list[list[str]]) -> None:
    killed = [places[-1] for places in passed if places]
    print(f"{number}: killed after {', and again after '.join(killed) or 'its end'}", flush=True)
