"""The paper's datasets, read from local copies."""

from pathlib import Path

from dresd_milvus.corpus import Template
from dresd_milvus.corpus.recipes import RECIPES
from tests.corpus.reading import TALK, read, write_jsonl


def test_recipes_read_a_local_copy_under_their_own_name(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "ultra.jsonl", [{"prompt": "x", "messages": [*TALK[1:5], n_th(n)]} for n in range(30)]
    )
    documents = read(f"ultrachat={path}", template=Template("{prompt}|"))
    assert [d.turns for d in documents] == [("Hello?|", "Hello!")] * 30 and documents[0].origin == "ultrachat"
    rows = [{"instruction": f"q{n}", "input": "i", "output": f"a{n}"} for n in range(3)]
    assert read(f"codealpaca={write_jsonl(tmp_path / 'c.jsonl', rows)}")[2].turns == ("q2", "a2")
    bench = write_jsonl(tmp_path / "m.jsonl", [{"prompt": ["first?", "second?"]}])
    assert read(f"mt-bench={bench}", answers=False)[0].turns == ("first?", "")
    assert {"evol-instruct-code", "ultrachat", "codealpaca", "mt-bench"} == set(RECIPES)
    assert (RECIPES["ultrachat"].shuffle, RECIPES["ultrachat"].take) == (42, 80_000)


def n_th(number: int) -> dict[str, str]:
    return {"role": "user", "content": str(number)}


def test_the_order_of_a_recipe_is_its_seeds(tmp_path: Path) -> None:
    """The paper's subset is datasets' own shuffle(seed=42), so ours must be too."""
    import datasets

    rows = [{"messages": [n_th(n), {"role": "assistant", "content": f"a{n}"}]} for n in range(40)]
    path = write_jsonl(tmp_path / "u.jsonl", rows)
    expected = [f"a{n}" for n in datasets.Dataset.from_dict({"n": list(range(40))}).shuffle(seed=42)["n"]]
    assert [d.turns[1] for d in read(f"ultrachat={path}")] == expected
