"""One ingestion from start to end: plan, fit, embed, load, seal. Every part is skipped when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.loading import LoadedModel, check_model, load_tokenizer
from dresd_milvus.milvus import has_collection
from dresd_milvus.projection import check_dim
from dresd_milvus.store import Manifest
from ingestion.folder import RunFolder
from ingestion.plan import Plan, Settings, load_plan, make_plan
from ingestion.run import Progress, Run, Share, drop, rows_of
from ingestion.workers import embed_with_workers


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
    share: Share = Share(),  # noqa: B008, it is immutable
) -> Manifest | None:
    """Build, or go on building, the collection that the settings describe; returns the sealed manifest.

    model: loaded when it is needed if it is not given. workers: processes that embed. share: of the shards, None is
    returned when those of others are missing. keep_rows: leave the files of rows in the run folder.
    Raises InputError or StoreError before anything is written when it cannot be built.
    """
    if replace_old:
        if share.world > 1:
            raise InputError("--replace would take away what the other shares do; run it once without --shard")
        drop(folder, settings.uri, settings.collection, token)
    run = Run(folder, plan(settings, folder, progress, model, token), token, device, model)
    if not has_collection(settings.uri, settings.collection, token):
        run.folder.forget("load")
        run.folder.forget("seal")
    run.fit(progress)
    embed(run, progress, share, workers)
    run.load(share, progress)
    if missing := run.missing():
        progress.tell(f"{len(missing)} of {len(run.plan.shards)} shards are left to the other shares; not sealed yet")
        return None
    return run.seal(progress, keep_rows)


def plan(
    settings: Settings, folder: Path, progress: Progress, model: LoadedModel | None = None, token: str = ""
) -> Plan:
    """The plan of the run that is going on, or a new one; the collection's name must be free for a new one."""
    with _nothing_left_of(folder), RunFolder(folder).claim("plan", wait=True):
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
def _nothing_left_of(folder: Path) -> Iterator[None]:
    """Remove a new folder again, and the parents made for it, when it comes to nothing."""
    new = next((path for path in (*reversed(folder.parents), folder) if not path.exists()), None)
    try:
        yield
    except BaseException:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
        raise


def embed(run: Run, progress: Progress, share: Share, workers: int) -> None:
    """Embed a share of the shards, in this process or in several."""
    pending = run.to_embed(share)
    if not pending:
        return
    done = rows_of(run, "embed", set(run.shards(share)) - set(pending))
    about = sum(run.plan.shards[shard][2] for shard in run.shards(share))
    total = run.plan.tokens * about // max(sum(characters for _, _, characters in run.plan.shards), 1)
    if workers == 1:
        progress.phase("embedding", total, "rows", done)
        run.embed(share, progress.advance)
    else:
        progress.phase(f"embedding with {workers} workers", total, "rows", done)
        embed_with_workers(run, share, workers, progress)
