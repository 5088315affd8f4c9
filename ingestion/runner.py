"""One ingestion from start to end: plan, generate, fit, embed, load, seal. Every part is skipped when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus import has_collection
from dresd_milvus.milvus.admin import remove
from dresd_milvus.models.loading import LoadedModel, check_model, load_tokenizer
from dresd_milvus.progress import Progress
from dresd_milvus.retrieval.names import check_name
from dresd_milvus.retrieval.projection import check_dim
from dresd_milvus.retrieval.store import Manifest
from ingestion.options import Settings
from ingestion.planning.job import SINGLE_JOB, Job
from ingestion.planning.plan import Plan, load_plan, make_plan
from ingestion.planning.run_folder import RunFolder
from ingestion.run import Run
from ingestion.seal import seal
from ingestion.workers import run_workers


def ingest(
    settings: Settings,
    folder: Path,
    progress: Progress,
    *,
    model: LoadedModel | None = None,
    device: str = "auto",
    token: str = "",
    replace_old: bool = False,
    keep_rows: bool = False,
    workers: int = 1,
    job: Job = SINGLE_JOB,
    bulk: str | None = None,
) -> Manifest | None:
    """Build, or go on building, the collection that the settings describe; returns the sealed manifest.

    model: loaded when it is needed if it is not given. workers: processes that embed. job: whose shards are done here;
    None is returned when those of other jobs are missing. keep_rows: leave the files of rows in the run folder.
    bulk: load by way of Milvus's bucket, see BulkImport.
    Raises InputError or StoreError before anything is written when it cannot be built.
    """
    check_name(settings.collection)
    if replace_old:
        if job.count > 1:
            raise InputError("--replace would take away what the other jobs do; run it once without --shard")
        drop(folder, settings.uri, settings.collection, token)
    run = Run(folder, plan(settings, folder, progress, model, token), token, device, model)
    run.notice_losses(progress.message)
    generate(run, progress, job, workers)
    if left := run.shards_to_generate():
        progress.message(f"{len(left)} of {len(run.plan.shards)} shards are left to the other jobs; run it again then")
        return None
    run.fit(progress)
    embed(run, progress, job, workers)
    run.load(job, progress, bulk)
    if missing := run.shards_to_load():
        progress.message(f"{len(missing)} of {len(run.plan.shards)} shards are left to the other jobs; not sealed yet")
        return None
    return seal(run, progress, keep_rows)


def plan(
    settings: Settings, folder: Path, progress: Progress, model: LoadedModel | None = None, token: str = ""
) -> Plan:
    """The plan of the run that is going on, or a new one; the collection's name must be free for a new one."""
    settings = settings.for_sources()
    new = next((path for path in (*reversed(folder.parents), folder) if not path.exists()), None)
    with RunFolder(folder).lock("plan", wait=True), _nothing_left_of(folder, new):
        if (folder / "plan.json").exists():
            old = load_plan(folder)
            old.require(settings, folder)
            return old
        check_dim(settings.dim or 1, check_model(settings.model, settings.dtype))
        if has_collection(settings.uri, settings.collection, token):
            raise StoreError(
                f"the collection '{settings.collection}' is already in {settings.uri} and was not built by this run; "
                "give --replace to build it anew, or another --collection"
            )
        progress.phase("reading the corpus", None, "documents")
        tokenizer = model.tokenizer if model else load_tokenizer(settings.model)
        return make_plan(settings, folder, tokenizer, progress.advance)


@contextmanager
def _nothing_left_of(folder: Path, new: Path | None) -> Iterator[None]:
    """Remove a new folder again, from its first new parent on, when no plan comes of it; only while it is locked.

    Another process may have planned the run there since it was seen to be new.
    """
    try:
        yield
    except BaseException:
        if new is not None and not (folder / "plan.json").exists():
            shutil.rmtree(new, ignore_errors=True)
        raise


def generate(run: Run, progress: Progress, job: Job, workers: int) -> None:
    """Have the target answer the shards of a job, in this process or in several."""
    pending = run.shards_to_generate(job)
    documents = sum(run.plan.shards[shard][1] for shard in pending)
    _work(run, "generate", pending, progress, workers, documents * run.plan.settings.answer_tokens)


def embed(run: Run, progress: Progress, job: Job, workers: int) -> None:
    """Embed the shards of a job, in this process or in several."""
    pending = run.shards_to_embed(job)
    part = sum(run.plan.shards[shard][2] for shard in pending) / sum(size for _, _, size in run.plan.shards)
    _work(run, "embed", pending, progress, workers, round(run.plan.tokens * part))


def _work(run: Run, phase: str, shards: list[int], progress: Progress, workers: int, total: int) -> None:
    if not shards:
        return
    name, unit, work = {
        "generate": ("generating answers", "tokens", run.generate),
        "embed": ("embedding", "tokens", run.embed),
    }[phase]
    workers = min(workers, len(shards))
    progress.phase(name if workers == 1 else f"{name} with {workers} workers", total, unit)
    if workers == 1:
        work(shards, progress.advance)
    else:
        run.unload_model()
        run_workers(run, phase, shards, workers, progress)


def drop(folder: Path, uri: str, collection: str, token: str) -> None:
    """Remove a run and its collection. A kill leaves all of the run's folder, or none under its name."""
    if has_collection(uri, collection, token):
        remove(uri, collection, token)
    if (folder / "plan.json").exists():
        removed = folder.with_name(f"{folder.name}.removed")
        shutil.rmtree(removed, ignore_errors=True)
        folder.rename(removed)
        shutil.rmtree(removed)
