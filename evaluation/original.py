"""DReSD's own command line: its flags, translated into a `dresd eval run`. The table is in docs/evaluation.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dresd_milvus.errors import InputError
from dresd_milvus.options import ModelOption

DATASETS = {"codealpaca": "codealpaca", "mtbench": "mt-bench"}
"""Its names of prompts (without punctuation), and ours."""

DRAFTERS = {"pld": "prompt_lookup", "small": "small_lm"}
"""What its --sd may be, and our systems."""


@dataclass(frozen=True)
class OriginalOptions:
    """The flags of DReSD's evaluate.py."""

    dataset: Annotated[str, typer.Option(help="Prompts: codealpaca, mt_bench, NAME=FILE or any suite.")]
    model: ModelOption = "sample"
    datastore: Annotated[str | None, typer.Option(help="Collection in PATH_PREFIX/store.db.")] = None
    n_gpus: Annotated[int, typer.Option("--n_gpus", min=1, help="Number of ranks, started by the launcher.")] = 1
    num_drafts: Annotated[int, typer.Option("--num_drafts", min=1, help="Number of drafts per step.")] = 10
    len_drafts: Annotated[int, typer.Option("--len_drafts", min=1, help="Length of a draft (tokens).")] = 10
    sd: Annotated[str | None, typer.Option(help="System without a store: pld or small.")] = None
    rest: Annotated[str, typer.Option(help="REST: True or False.")] = "False"
    dresd: Annotated[str, typer.Option(help="DReSD: True or False.")] = "False"
    max_tokens: Annotated[int, typer.Option("--max_tokens", min=1, help="Longest answer (tokens).")] = 128
    path_prefix: Annotated[Path, typer.Option("--path_prefix", help="Folder of stores and results.")] = Path("runs")

    def arguments(self) -> list[str]:
        """The arguments of `dresd eval run` for these flags.

        Its datastores are files under path_prefix; here the collection `datastore` of path_prefix/store.db. A batch of
        num_drafts rows of len_drafts tokens becomes a tree of at most so many nodes and of that depth. Raises
        InputError for a flag's value that the original did not have.
        """
        named, equals, file = self.dataset.partition("=")
        suite = DATASETS.get(named.lower().replace("-", "").replace("_", "").removesuffix("20k"), named) + equals + file
        if self.sd not in (None, *DRAFTERS):
            raise InputError(f"--sd is pld or small, not '{self.sd}'")
        stored = [name for name, flag in (("rest", self.rest), ("dense", self.dresd)) if flag.lower() == "true"]
        systems = ["vanilla", *([DRAFTERS[self.sd]] if self.sd else []), *stored]
        rows = self.num_drafts if stored else 1  # what has one row drafts one path; REST and DReSD have a batch of them
        found = ["--model", self.model, "--suite", suite, "--systems", ",".join(systems), "--tp", str(self.n_gpus)]
        found += ["--nodes", str(rows * self.len_drafts), "--depth", str(self.len_drafts)]
        found += ["--max-new-tokens", str(self.max_tokens)]
        if stored:
            if self.datastore is None:
                raise InputError(
                    "--rest and --dresd need a --datastore, the name of a collection in PATH_PREFIX/store.db"
                )
            found += ["--uri", str(self.path_prefix / "store.db"), "--collection", self.datastore]
        name = f"{suite.partition('=')[0].replace('/', '-')}-{'-'.join(systems)}"
        return [*found, "--out", str(self.path_prefix / "results" / name)]
