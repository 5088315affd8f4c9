"""DReSD's own command line: its flags, translated into a `dresd eval run`. The table is in docs/evaluation.md."""

from __future__ import annotations

from pathlib import Path

from dresd_milvus.errors import InputError

DATASETS = {"codealpaca": "codealpaca", "mtbench": "mt-bench"}
"""Its names of prompts (without punctuation), and ours."""


def translate(
    *,
    model: str,
    dataset: str,
    datastore: str | None,
    n_gpus: int,
    num_drafts: int,
    len_drafts: int,
    sd: str | None,
    rest: bool,
    dresd: bool,
    max_tokens: int,
    path_prefix: Path,
) -> list[str]:
    """The arguments of `dresd eval run` for the original's flags.

    Its datastores are files under path_prefix; here the collection `datastore` of path_prefix/store.db. A batch of
    num_drafts rows of len_drafts tokens becomes a tree of at most so many nodes and of that depth. Raises InputError
    for a flag's value that the original did not have.
    """
    named, equals, file = dataset.partition("=")
    suite = DATASETS.get(named.lower().replace("-", "").replace("_", "").removesuffix("20k"), named) + equals + file
    systems = ["vanilla"]
    if sd is not None:
        drafts = {"pld": "prompt_lookup", "small": "small_lm"}
        if sd not in drafts:
            raise InputError(f"--sd is pld or small, not '{sd}'")
        systems.append(drafts[sd])
    systems += [name for name, wanted in (("rest", rest), ("dense", dresd)) if wanted]
    # What has one row drafts one path; REST and DReSD have a batch of them.
    rows = num_drafts if rest or dresd else 1
    arguments = ["--model", model, "--suite", suite, "--systems", ",".join(systems), "--tp", str(n_gpus)]
    arguments += ["--nodes", str(rows * len_drafts), "--depth", str(len_drafts), "--max-new-tokens", str(max_tokens)]
    if rest or dresd:
        if datastore is None:
            raise InputError("--rest and --dresd need a --datastore: the name of a collection in PATH_PREFIX/store.db")
        arguments += ["--uri", str(path_prefix / "store.db"), "--collection", datastore]
    name = f"{suite.partition('=')[0].replace('/', '-')}-{'-'.join(systems)}"
    return [*arguments, "--out", str(path_prefix / "results" / name)]
