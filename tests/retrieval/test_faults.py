"""A server is killed, hangs or answers garbage in the middle of a text: the text stays the target's own.

Each fault happens once here; `make soak` runs 50 trials of each at random moments.
"""

import random
import time
from collections.abc import Callable, Iterator

import pytest

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.target.hf_target import HFTarget
from tests import milvus_server
from tests.faults import LONGEST_TEXT, Proxy, build_store, check, long_target, trial
from tests.milvus_server import MilvusServer

SOAK_TRIALS = 50


@pytest.fixture(scope="module")
def target() -> HFTarget:
    return long_target()


@pytest.fixture(scope="module")
def plain(target: HFTarget) -> list[int]:
    """The tokens that the target writes alone."""
    return generate(target, Vanilla(), Greedy(), [1], LONGEST_TEXT, FixedBudget(0, 0)).tokens


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, target: HFTarget) -> Iterator[MilvusServer]:
    """A server for this module alone: these tests harm it."""
    if not milvus_server.installed():
        pytest.skip(milvus_server.MISSING)
    server = MilvusServer(tmp_path_factory.mktemp("faults") / "server")
    build_store(server.uri, "rows", target, "HNSW")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def proxy(server: MilvusServer) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


def killed(server: MilvusServer, proxy: Proxy, seconds: float) -> tuple[str, Callable[[], None]]:
    def fault() -> None:
        server.kill()
        time.sleep(seconds)
        server.start()

    return server.uri, fault


def hanging(server: MilvusServer, proxy: Proxy, seconds: float) -> tuple[str, Callable[[], None]]:
    def fault() -> None:
        server.pause()
        time.sleep(seconds)
        server.resume()

    return server.uri, fault


def reset(server: MilvusServer, proxy: Proxy, seconds: float) -> tuple[str, Callable[[], None]]:
    return proxy.uri, lambda: proxy.disturb("reset", seconds)


def garbage(server: MilvusServer, proxy: Proxy, seconds: float) -> tuple[str, Callable[[], None]]:
    return proxy.uri, lambda: proxy.disturb("garbage", seconds)


FAULTS = {"killed": killed, "hanging": hanging, "reset": reset, "garbage": garbage}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_drafts_and_nothing_else(
    fault: str, server: MilvusServer, proxy: Proxy, target: HFTarget, plain: list[int]
) -> None:
    uri, happen = FAULTS[fault](server, proxy, 0.6)
    check(trial(uri, "rows", target, happen), plain)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", FAULTS)
def test_fifty_faults_at_random_moments(
    fault: str, server: MilvusServer, proxy: Proxy, target: HFTarget, plain: list[int], capsys: pytest.CaptureFixture
) -> None:
    dice, late, longest, failures = random.Random(fault), [], 0.0, 0
    for number in range(SOAK_TRIALS):
        uri, happen = FAULTS[fault](server, proxy, dice.uniform(0.3, 3.0))
        found = trial(uri, "rows", target, happen, before=dice.randint(5, 60))
        check(found, plain)
        late.append(found.resumed - found.answered)
        longest, failures = max(longest, found.longest), failures + found.failures
        with capsys.disabled():
            print(f"{fault} {number + 1}: {found.failures} failed searches, drafts back {late[-1]:+.2f} s", flush=True)
    with capsys.disabled():
        median = sorted(late)[len(late) // 2]
        print(
            f"{fault}: {SOAK_TRIALS} trials, 0 wrong tokens, {failures} failed searches; drafts back {median:+.2f} s "
            f"after an outside probe (median; at the latest {max(late):+.2f} s); longest step {longest:.2f} s"
        )
