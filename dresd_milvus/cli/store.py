"""`dresd store`: what can be done with a store once it is built."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dresd_milvus.console import Phases, print_rows
from dresd_milvus.options import (
    CollectionOption,
    DtypeOption,
    IndexOption,
    LayoutOptions,
    ModelOption,
    TokenOption,
    UriOption,
    with_options,
)

if TYPE_CHECKING:
    from dresd_milvus.milvus import MilvusStore

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Named:
    """The store that a command works on."""

    uri: UriOption
    collection: CollectionOption
    token: TokenOption = ""

    def open(self, to_read: bool = False) -> MilvusStore:
        """to_read: whether nothing will be written (see readable). Raises StoreError when it cannot be opened."""
        from dresd_milvus.milvus import MilvusStore
        from dresd_milvus.storage.reading import readable

        return MilvusStore.open(readable(self.uri) if to_read else self.uri, self.collection, self.token)


@app.callback()
def root() -> None:
    """List, load, index, publish, move, expire and remove stores."""


@app.command("list")
def list_(
    uri: UriOption,
    as_json: Annotated[bool, typer.Option("--json", help="Output as one JSON array.")] = False,
    token: TokenOption = "",
) -> None:
    """Every collection of a database, with its aliases."""
    from dresd_milvus.milvus import admin
    from dresd_milvus.storage.reading import readable

    found = admin.list_stores(readable(uri), token)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    elif not found:
        print(f"there are no collections in {uri}")
    else:
        heads = ["collection", "published as", "rows", "index", "state", "source", "model"]
        print_rows([heads, *map(_cells, found)], left={*heads} - {"rows"})


def _cells(store: dict[str, Any]) -> list[str]:
    state = store["state"] + (", not loaded" if store["loaded"] is False else "")
    rows = f"{store['rows']:,}" if "rows" in store else ""
    rest = [store.get(name, "") for name in ("source", "model")]
    return [store["collection"], ", ".join(store["aliases"]), rows, store.get("index", ""), state, *rest]


@app.command()
@with_options
def load(named: Named) -> None:
    """Have a collection ready to be searched."""
    with named.open() as store, Phases() as phases:
        phases.phase("loading", None, "")
        store.load()


@app.command()
@with_options
def index(named: Named, index: IndexOption = "auto") -> None:
    """Give a collection another index, or other search parameters. While it is built, searches fail."""
    from dresd_milvus.milvus import admin

    with named.open() as store, Phases() as phases:
        phases.phase("indexing", store.manifest.rows or None, "rows")
        manifest = admin.reindex(store, index, progress=phases.advance)
    print(f"{store.collection} has the index {manifest.index}")


@app.command()
@with_options
def publish(
    named: Named,
    alias: Annotated[str, typer.Option("--as", help="Alias, the name that readers use.")],
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Removal of the collection that it stood for.")] = False,
) -> None:
    """Have readers of an alias use this collection from now on; it takes no moment in which there is none."""
    from dresd_milvus.milvus import admin

    with named.open() as store:
        old = admin.publish(store, alias)
    print(f"'{alias}' is {store.collection} now" + (f", it was {old}" if old else ""))
    if old and drop_old:
        _drop(replace(named, collection=old))


@app.command()
@with_options
def drop(
    named: Named, force: Annotated[bool, typer.Option("--force", help="Removal even while it is published.")] = False
) -> None:
    """Remove a collection and its rows."""
    _drop(named, force)


def _drop(named: Named, force: bool = False) -> None:
    from dresd_milvus.milvus import admin

    with named.open() as store:
        if force:
            admin.drop_aliases(store)
        admin.drop(store)
    print(f"{store.collection} is gone")


@app.command()
@with_options
def restamp(named: Named, model: ModelOption, dtype: DtypeOption = "auto") -> None:
    """Have a store of an earlier version know its model by the files of its checkpoint, not by loaded weights."""
    from dresd_milvus.models.loading import load_model
    from dresd_milvus.storage import opening

    with named.open() as store:
        changed = opening.restamp(store, load_model(model, dtype))
    print(f"{store.collection} knows {model} by its files" + ("" if changed else " already"))


@app.command()
@with_options
def export(named: Named, to: Annotated[Path, typer.Option(help="Folder to write, which is not there yet.")]) -> None:
    """Write a collection, its projection and its manifest into a folder of Parquet files."""
    from dresd_milvus.storage.transfer import export_store

    with named.open(to_read=True) as store, Phases() as phases:
        phases.phase("exporting", store.manifest.rows, "rows")
        rows = export_store(store, to, phases.advance)
    print(f"{rows:,} rows of {named.collection} are in {to}")


@app.command("import")
@with_options
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder that dresd store export has written.")],
    named: Named,
    layout: LayoutOptions,
) -> None:
    """Build a collection from an exported folder, in any Milvus; after an interruption run it again."""
    from dresd_milvus.storage.transfer import exported_rows, import_store

    with Phases() as phases:
        phases.phase("importing", exported_rows(folder), "rows")
        manifest = import_store(folder, named.uri, named.collection, named.token, phases.advance, **asdict(layout))
    print(f"{manifest.rows:,} rows are in {named.collection} in {named.uri}, index {manifest.index}")


@app.command()
@with_options
def expire(
    named: Named, days: Annotated[float, typer.Option(min=0, help="Age at which rows vanish (days); 0: never.")]
) -> None:
    """Have rows vanish some time after they were written. Such a store is searched on its server only."""
    from dresd_milvus.milvus import admin

    with named.open() as store:
        admin.expire(store, round(days * 86_400))
    print(f"rows of {store.collection} vanish after {days:g} days" if days else f"rows of {store.collection} stay")


@app.command()
@with_options
def drop_source(
    named: Named, source: Annotated[str, typer.Option(help="Source of the rows, as dresd inspect shows it.")]
) -> None:
    """Remove the rows of one source."""
    from dresd_milvus.milvus import admin

    with named.open() as store:
        rows = admin.drop_source(store, source)
    print(f"{rows:,} rows of '{source}' are gone from {store.collection}")
