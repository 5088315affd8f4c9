"""Corpora: what is read, in which order, and what is refused."""

import csv
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dresd_milvus.corpus import Document, ReadOptions, Source, Template, read_documents, stdlib
from dresd_milvus.corpus.chat import CHAT, chat_template
from dresd_milvus.corpus.duplicates import Dedup, DuplicateFilter
from dresd_milvus.corpus.recipes import RECIPES
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import load_tokenizer
from tests.samples import CHATML

ROWS = [{"instruction": f"q{n}", "output": f"a{n}"} for n in range(5)]

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye."},
    {"role": "assistant", "content": "Farewell."},
    {"role": "user", "content": "nobody answers"},
]


def read(text: str | Path, limit: int | None = None, **how: Any) -> list[Document]:
    return list(read_documents(Source.parse(str(text)), ReadOptions(**how), limit))


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.parquet"])
def test_files_of_every_kind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        with gzip.open(path, "wt") if name.endswith("gz") else path.open("w") as file:
            if "csv" in name:
                writer = csv.DictWriter(file, ["instruction", "output"])
                writer.writeheader()
                writer.writerows(ROWS)
            else:
                file.write(json.dumps(ROWS) if name == "a.json" else "\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert [d.turns for d in read(path)] == [(f"q{n}", f"a{n}") for n in range(5)]
    assert len(read(path, limit=2)) == 2 and {d.origin for d in read(f"mine={path}")} == {"mine"}


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("instruction,output\nq,a\n", encoding="utf-8-sig")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("words", encoding="utf-8-sig")
    assert read(tmp_path / "a.csv") == [Document(("q", "a"), "a.csv")]
    assert [document.turns for document in read(tmp_path / "texts")] == [("", "words")]


def test_rows_without_a_key_are_counted_and_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS, {"instruction": "q"}, {"instruction": "q", "output": None}])
    with pytest.raises(InputError, match=r"2 of 7 rows of .* row 6: .* under 'output' \(its keys: instruction\)"):
        read(path)
    assert len(read(path, limit=5)) == 5
    with pytest.raises(InputError, match=r"7 of 7 rows .*--response-key"):
        read(path, response_key="answer")
    reading = ReadOptions(incomplete="skip")
    assert len(list(read_documents(Source.parse(str(path)), reading))) == 5
    assert reading.skipped == {"incomplete rows": 2}


def test_unusual_keys_are_asked_for(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"in": "q", "out": "a"}])
    with pytest.raises(InputError, match="keys in, out; say with --prompt-key"):
        read(path)
    assert read(path, prompt_key="in", response_key="out") == [Document(("q", "a"), "a.jsonl")]


def test_plain_text_rows_are_answers_to_nothing(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "two"}])
    assert [d.turns for d in read(path, template=Template())] == [("", "one"), ("", "two")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "has no rows"),
        ("a.jsonl", b'{"instruction": "q", "output": "a"}\n{"inst', "row 2 of .* cannot be read"),
        ("a.jsonl", b"[1]\n", "row 1 of .* is not a JSON object"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
        ("a.jsonl", b'{"instruction": "\xff"}', "row 1 of .* cannot be read.*utf-8"),
        ("a.json", b"[{}, ", "cannot be read"),
        ("a.parquet", b"PAR1 not", "cannot be read"),
        ("a.csv", b"instruction,output\n\xff,a", "cannot be read"),
        ("a.xlsx", b"a,b", "not a type of file"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_a_folder_gives_its_text_files_in_order(tmp_path: Path) -> None:
    for name, content in {
        "b.py": b"b = 1",
        "a/x.txt": b"x",
        "z.bin": b"\xff\x00",
        "n.txt": b"a\0b",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "h.txt").write_text("h")
    reading = ReadOptions()
    documents = list(read_documents(Source.parse(str(tmp_path)), reading))
    assert [d.turns for d in documents] == [("", "x"), ("", "b = 1")]
    assert reading.skipped == {"files that are not UTF-8": 1, "binary files": 1}


def test_what_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no source 'nowhere'"):
        read("nowhere")
    with pytest.raises(InputError, match="names no place"):
        read("mine=")
    with pytest.raises(InputError, match="cannot load the dataset 'no-such/dataset'"):
        read("hf:no-such/dataset")


def conversations(tmp_path: Path) -> Path:
    other = [{"from": "human", "value": "1?"}, {"from": "gpt", "value": "1!"}]
    return write_jsonl(tmp_path / "chat.jsonl", [{"messages": TALK}, {"messages": other}])


def test_conversations_under_a_plain_template(tmp_path: Path) -> None:
    first, second = read(conversations(tmp_path), template=Template("Q: {prompt}\nA: "))
    assert first.turns == ("Be kind.\nQ: Hello?\nA: ", "Hello!", "\nQ: Bye.\nA: ", "Farewell.")
    assert second.turns == ("Q: 1?\nA: ", "1!")


class ChatTokenizer:
    """What the chat code asks of a tokenizer."""

    chat_template, bos_token, bos_token_id = "there is one", "<s>", 1

    def get_chat_template(self) -> str:
        return self.chat_template

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool, **_: Any) -> str:
        said = "".join(f"<{m['role']}>{m['content']}</>" for m in messages)
        return "<s>" + said + ("<assistant>" if add_generation_prompt else "")

    def __call__(self, text: str) -> Any:
        return type("Found", (), {"input_ids": [1]})


def test_conversations_in_the_models_own_chat_template(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer()
    first, second = read(conversations(tmp_path), template=CHAT, tokenizer=tokenizer)
    assert first.turns == (
        "<system>Be kind.</><user>Hello?</><assistant>",
        "Hello!",
        "</><user>Bye.</><assistant>",
        "Farewell.",
    )
    assert second.turns == ("<user>1?</><assistant>", "1!")
    assert chat_template(tokenizer) == "<user>{prompt}</><assistant>"
    with pytest.raises(InputError, match="has no chat template"):
        chat_template(type("Plain", (), {"chat_template": None}))


CALLING = CHATML.replace(
    "{{ message.content }}",
    "{{ message.content }}{% for call in message.tool_calls %}<call>{{ call.function.name }} "
    "{{ call.function.arguments.city }}</call>{% endfor %}",
)
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOLS = [
    {"role": "user", "content": [{"type": "text", "text": "Is it "}, {"type": "text", "text": "warm?"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "12 degrees", "tool_call_id": "1"},
    {"role": "assistant", "content": "No. ", "tool_calls": None},
    {"role": "user", "content": "Thanks."},
    {"role": "assistant", "content": "Bye."},
]


def chatty(template: str) -> Any:
    tokenizer = load_tokenizer("sample")
    tokenizer.chat_template = template
    return tokenizer


def test_text_parts_and_tool_calls_are_read(tmp_path: Path) -> None:
    """By a template that knows calls; what an answer calls is part of it, and what a tool says is read."""
    path = write_jsonl(tmp_path / "tools.jsonl", [{"messages": TOOLS[:2]}, {"messages": TOOLS}])
    _, document = read(path, template=CHAT, tokenizer=chatty(CALLING))
    assert document.turns == (
        "<|im_start|>user\nIs it warm?<|im_end|>\n<|im_start|>assistant\n",
        "<call>weather Oslo</call>",
        "<|im_end|>\n<|im_start|>tool\n12 degrees<|im_end|>\n<|im_start|>assistant\n",
        "No. ",
        "<|im_end|>\n<|im_start|>user\nThanks.<|im_end|>\n<|im_start|>assistant\n",
        "Bye.",
    )
    trimming = CALLING.replace("{{ message.content }}", "{{ message.content | trim }}")
    trimmed = read(path, template=CHAT, tokenizer=chatty(trimming))[1].turns
    assert trimmed == tuple(turn.strip() if turn == "No. " else turn for turn in document.turns)


@pytest.mark.parametrize(
    ("messages", "template", "reason"),
    [
        (TOOLS, CHATML, "the chat template does not write the tools that message 2 calls (weather)"),
        (TOOLS, None, "message 2 calls a tool, which needs a chat template (--template chat)"),
        ([*TOOLS[:3], {"role": "assistant", "content": None}], CALLING, "message 4 has content that is not text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, TOOLS[5]], CHATML, "message 1 has content that is no"),
        (TOOLS[:1], CHATML, "it has no answer"),
        (TOOLS[3:], CHATML, "it begins with an answer"),
        (TOOLS[4:], "{{ raise_exception('no thanks') }}", "refuses a conversation: no thanks"),
        (TOOLS[2:], CHATML.replace("message.content", "message.content[:3]"), "does not write an answer as it is"),
    ],
)
def test_a_conversation_that_cannot_be_written_is_counted_and_named(
    tmp_path: Path, messages: list[Any], template: str | None, reason: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": messages}, {"messages": TALK}])
    how = {"template": CHAT, "tokenizer": chatty(template)} if template else {"template": Template()}
    with pytest.raises(InputError, match=rf"rows of .* the first of them row 1: .*{re.escape(reason)}"):
        read(path, **how)
    reading = ReadOptions(incomplete="skip", **how)
    left = list(read_documents(Source.parse(str(path)), reading))
    assert len(left) + reading.skipped["incomplete rows"] == 2 and reading.skipped["incomplete rows"] > 0


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


@pytest.mark.parametrize(("mode", "kept"), [("none", 4), ("exact", 3), ("near", 2)])
def test_duplicates(mode: Dedup, kept: int) -> None:
    long = "def f(a, b):\n" + "\n".join(f"    x{n} = a + b * {n} - some_value({n})" for n in range(40))
    texts = [long, long, long.replace("x39", "y39"), "something else entirely, about nothing in particular"]
    duplicates = DuplicateFilter(mode)
    assert sum(not duplicates.seen(Document(("prompt", text), "x")) for text in texts) == kept


def test_the_standard_library_is_split_without_overlap() -> None:
    kept, held = list(stdlib.pairs()), list(stdlib.pairs(held_back=True))
    assert not {pair.response for pair in kept} & {pair.response for pair in held}
    assert len(kept) > 3000 and 0.03 < len(held) / (len(kept) + len(held)) < 0.07


def test_a_function_loses_its_docstring_and_keeps_its_body(tmp_path: Path) -> None:
    source = (
        "class A:\n    async def f(self,\n            x):  # c\n"
        '        """Do it.\n\n        More.\n        """\n        # why\n        return x\n'
    )
    (tmp_path / "m.py").write_text(source)
    pair = next(stdlib.functions(tmp_path, "here"))
    assert pair.prompt == "Write a Python function `f`. Do it."
    assert pair.response == "async def f(self,\n        x):  # c\n    # why\n    return x"


def test_templates() -> None:
    assert Template.parse("Q: {prompt}\\nA:")("{x} %s") == "Q: {x} %s\nA:"
    assert Template()("p") == "Question: p\nAnswer:\n"
    for bad in ("no placeholder", "{prompt}{instruction}"):
        with pytest.raises(InputError, match="exactly once"):
            Template(bad)
