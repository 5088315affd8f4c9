"""Options that several commands of `dresd eval` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from dresd_milvus.options import TemplateOption
from evaluation.prompts import Suite, load_suite

SystemsOption = Annotated[str, typer.Option(help="Systems, by comma.")]
NeighboursOption = Annotated[int | None, typer.Option(min=1, help="Number of hits of a dense search; default: 50.")]


@dataclass(frozen=True)
class PromptOptions:
    """Which prompts the model answers, and what they are put into."""

    suite: Annotated[
        str, typer.Option(help="Suite of prompts: stdlib, a name (dresd eval suites), NAME=FILE, or a file of prompts.")
    ] = "stdlib"
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of prompts.")] = None
    template: TemplateOption = None

    def load(self) -> Suite:
        """Read the suite. Raises InputError when it cannot be used or is empty."""
        return load_suite(self.suite, self.limit)
