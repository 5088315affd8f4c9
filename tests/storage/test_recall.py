"""How much of the truth each search plan finds."""

from dresd_milvus.milvus import MilvusStore
from dresd_milvus.storage.recall import measure_recall
from tests.oracle import example_manifest, example_projection, example_rows
from tests.sealed import build_collection


def test_recall_of_an_exact_index_is_whole(database: str) -> None:
    with build_collection(database, "rows", 400) as store:
        plans = measure_recall(store)
    assert {plan.plan for plan in plans} == {"filter", "oversample"}
    best = next(plan for plan in plans if plan.plan == "filter")
    assert best.stored == best.perturbed == best.mrr == 1.0 and best.enough and 0 < best.p50_ms <= best.p95_ms


def test_recall_tells_a_plan_that_loses_rows(database: str) -> None:
    """Oversampling k = 50 four times cannot find the ten nearest of 1 in 300 first tokens among 3000 rows."""
    manifest = example_manifest()
    with MilvusStore.create(database, "rows", manifest, example_projection()) as store:
        store.write(example_rows(3000, vocabulary=300))
        store.seal(manifest)
        found = {plan.plan: plan for plan in measure_recall(store)}
    assert found["filter"].enough and not found["oversample"].enough
