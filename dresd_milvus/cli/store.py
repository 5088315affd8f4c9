"""`dresd store`: what can be done with a store once it is built."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dresd_milvus.options import (
    CollectionOption,
    DtypeOption,
    IndexOption,
    ModelOption,
    PartitionByOption,
    PartitionsOption,
    TokenOption,
    UriOption,
    VectorsOption,
)

if TYPE_CHECKING:
    from dresd_milvus.milvus import MilvusStore

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """List, load, index, publish, move, expire and remove stores."""


@contextmanager
def _store(uri: str, collection: str, token: str) -> Iterator[MilvusStore]:
    from dresd_milvus.milvus import MilvusStore

    with MilvusStore.open(uri, collection, token) as store:
        yield store


@app.command("list")
def list_(
    uri: UriOption,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")] = False,
    token: TokenOption = "",
) -> None:
    """Every collection of a database, with its aliases."""
    from rich.table import Table

    from dresd_milvus.console import wide_console
    from dresd_milvus.milvus.admin import list_stores

    found = list_stores(uri, token)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("collection", "published as", "rows", "index", "state", "source", "model"):
        table.add_column(heading, justify="right" if heading == "rows" else "left")
    for each in found:
        state = each["state"] + (", not loaded" if each["loaded"] is False else "")
        rows = f"{each['rows']:,}" if "rows" in each else ""
        rest = (each.get(name, "") for name in ("source", "model"))
        table.add_row(each["collection"], ", ".join(each["aliases"]), rows, each.get("index", ""), state, *rest)
    wide_console().print(table if found else f"there are no collections in {uri}")


@app.command()
def load(uri: UriOption, collection: CollectionOption, token: TokenOption = "") -> None:
    """Have a collection ready to be searched."""
    from dresd_milvus.console import Phases

    with _store(uri, collection, token) as store, Phases() as phases:
        phases.phase("loading", None, "")
        store.load()


@app.command()
def index(uri: UriOption, collection: CollectionOption, index: IndexOption = "auto", token: TokenOption = "") -> None:
    """Give a collection another index, or other search parameters. While it is built, searches fail."""
    from dresd_milvus.console import Phases
    from dresd_milvus.milvus.admin import reindex

    with _store(uri, collection, token) as store, Phases() as phases:
        phases.phase("indexing", store.manifest.rows or None, "rows")
        manifest = reindex(store, index, progress=phases.advance)
    print(f"{store.collection} has the index {manifest.index}")


@app.command()
def publish(
    uri: UriOption,
    collection: CollectionOption,
    alias: Annotated[str, typer.Option("--as", help="The name that readers use.")],
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Remove the collection that it stood for.")] = False,
    token: TokenOption = "",
) -> None:
    """Have readers of an alias use this collection from now on; it takes no moment in which there is none."""
    from dresd_milvus.milvus.admin import publish as publish_store

    with _store(uri, collection, token) as store:
        old = publish_store(store, alias)
    print(f"'{alias}' is {store.collection} now" + (f", it was {old}" if old else ""))
    if old and drop_old:
        drop(uri, old, token=token)


@app.command()
def drop(
    uri: UriOption,
    collection: CollectionOption,
    force: Annotated[bool, typer.Option("--force", help="Also while it is published.")] = False,
    token: TokenOption = "",
) -> None:
    """Remove a collection and its rows."""
    from dresd_milvus.milvus.admin import drop as drop_store
    from dresd_milvus.milvus.admin import drop_aliases

    with _store(uri, collection, token) as store:
        if force:
            drop_aliases(store)
        drop_store(store)
    print(f"{store.collection} is gone")


@app.command()
def restamp(
    uri: UriOption,
    collection: CollectionOption,
    model: ModelOption,
    dtype: DtypeOption = "auto",
    token: TokenOption = "",
) -> None:
    """Have a store of an earlier version know its model by the files of its checkpoint, not by loaded weights."""
    from dresd_milvus.models.loading import load_model
    from dresd_milvus.storage.opening import restamp as restamp_store

    with _store(uri, collection, token) as store:
        changed = restamp_store(store, load_model(model, dtype))
    print(f"{store.collection} knows {model} by its files" + ("" if changed else " already"))


@app.command()
def export(
    uri: UriOption,
    collection: CollectionOption,
    to: Annotated[Path, typer.Option(help="A folder that is not there yet.")],
    token: TokenOption = "",
) -> None:
    """Write a collection, its projection and its manifest into a folder of Parquet files."""
    from dresd_milvus.console import Phases
    from dresd_milvus.storage.transfer import export_store

    with _store(uri, collection, token) as store, Phases() as phases:
        phases.phase("exporting", store.manifest.rows, "rows")
        rows = export_store(store, to, phases.advance)
    print(f"{rows:,} rows of {collection} are in {to}")


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="What dresd store export has written.")],
    uri: UriOption,
    collection: CollectionOption,
    index: IndexOption = "auto",
    vectors: VectorsOption = "float32",
    partition_by: PartitionByOption = "none",
    partitions: PartitionsOption = 64,
    token: TokenOption = "",
) -> None:
    """Build a collection from an exported folder, in any Milvus; after an interruption run it again."""
    from dresd_milvus.console import Phases
    from dresd_milvus.storage.transfer import exported_rows, import_store

    with Phases() as phases:
        phases.phase("importing", exported_rows(folder), "rows")
        manifest = import_store(
            folder,
            uri,
            collection,
            token,
            phases.advance,
            index=index,
            vectors=vectors,
            partition_by=partition_by,
            partitions=partitions if partition_by == "token" else 0,
        )
    print(f"{manifest.rows:,} rows are in {collection} in {uri}, index {manifest.index}")


@app.command()
def expire(
    uri: UriOption,
    collection: CollectionOption,
    days: Annotated[float, typer.Option(min=0, help="Rows vanish so long after they were written; 0: never.")],
    token: TokenOption = "",
) -> None:
    """Have rows vanish some time after they were written. Such a store is searched on its server only."""
    from dresd_milvus.milvus.admin import expire as expire_store

    with _store(uri, collection, token) as store:
        expire_store(store, round(days * 86_400))
    print(f"rows of {store.collection} vanish after {days:g} days" if days else f"rows of {store.collection} stay")


@app.command()
def drop_source(
    uri: UriOption,
    collection: CollectionOption,
    source: Annotated[str, typer.Option(help="The origin of the rows, as inspect shows it.")],
    token: TokenOption = "",
) -> None:
    """Remove the rows of one source."""
    from dresd_milvus.milvus.admin import drop_source as drop_rows

    with _store(uri, collection, token) as store:
        rows = drop_rows(store, source)
    print(f"{rows:,} rows of '{source}' are gone from {store.collection}")
