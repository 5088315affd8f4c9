"""Options that several commands of `dresd eval` have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dresd_milvus.corpus import Template
    from dresd_milvus.systems import Sources
    from evaluation.prompts import Suite

StoreOption = Annotated[str | None, typer.Option("--uri", help="The database, for dense and hybrid.")]
StoreNameOption = Annotated[str | None, typer.Option("--collection", help="The collection, for dense and hybrid.")]
SuiteOption = Annotated[
    str, typer.Option(help="stdlib, a named suite (dresd eval suites), NAME=FILE, or a file of prompts.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Prompts at most.")]
TemplateOption = Annotated[
    str | None,
    typer.Option(help="What prompts go into; 'chat': the model's own. Default: the suite's, or the store's."),
]


def pick_template(option: str | None, suite: Suite, sources: Sources | None) -> Template | str | None:
    """What prompts go into: the option if given, else the suite's own, else the store's, else the default."""
    from dresd_milvus.corpus import Template
    from dresd_milvus.retrieval import choose_template
    from evaluation.prompts import CHAT

    named = option if option is not None else suite.template
    if named == CHAT:
        return CHAT
    if option is None and named is not None:
        return Template(named)
    return choose_template(option, sources.retrieval.manifest if sources and sources.retrieval else None)
