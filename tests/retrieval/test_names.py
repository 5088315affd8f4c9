"""Addresses and names: what people write, and one line where it cannot be meant."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.errors import InputError
from dresd_milvus.retrieval.names import check_name, is_embedded, parse_uri

HOME = str(Path("~").expanduser())


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("a.db", "a.db"),
        ("./a.db", "a.db"),
        ("a.db/", "a.db"),
        ("a.db///", "a.db"),
        ("x/../a.db", "a.db"),
        (" a.db ", "a.db"),
        ("~/a.db", f"{HOME}/a.db"),
        ("/x//y/./a.db", "/x/y/a.db"),
        ("file:///x/a.db", "/x/a.db"),
        ("file://localhost/x/a.db", "/x/a.db"),
        ("FILE:///x/a%20b.db", "/x/a b.db"),
        ("file:a.db", "a.db"),
        ("with space/100%#?ä.db", "with space/100%#?ä.db"),
        ("http://host:19530", "http://host:19530"),
        ("HTTP://Host:19530/", "http://host:19530"),
        ("https://host", "https://host"),
        ("tcp://10.0.0.1:1", "tcp://10.0.0.1:1"),
        ("http://[::1]:19530", "http://[::1]:19530"),
        ("unix:/tmp/s.sock", "unix:/tmp/s.sock"),
    ],
)
def test_one_spelling_for_each_database(text: str, uri: str) -> None:
    assert parse_uri(text) == uri
    assert parse_uri(uri) == uri
    assert is_embedded(uri) == uri.endswith(".db")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no database"),
        ("  ", "names no database"),
        ("a\nb.db", "names no database"),
        ("a\x00.db", "names no database"),
        ("localhost:19530", "give http://localhost:19530"),
        ("127.0.0.1:19530/", "give http://127.0.0.1:19530"),
        ("[::1]:19530", "give http://[::1]:19530"),
        ("grpc://host:19530", "'grpc://' is no address"),
        ("milvus://host", "'milvus://' is no address"),
        ("sqlite:///a.db", "'sqlite://' is no address"),
        ("s3://bucket/a.db", "'s3://' is no address"),
        ("http://", "no host"),
        ("http://:19530", "no host"),
        ("http://host:0", "no host or no port"),
        ("http://host:99999", "cannot be read"),
        ("http://host:port", "cannot be read"),
        ("http://[::1", "cannot be read"),
        ("http://host:19530/books", "names a database after the port"),
        ("http://host:19530?db=books", "names a database after the port"),
    ],
)
def test_what_is_no_address_gets_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_uri(text)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["http://root:hush@host:19530", "https://u:hush@[::1]:1/x", "HTTP://u:hush@h"])
def test_a_login_in_an_address_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InputError, match="MILVUS_TOKEN") as raised:
        parse_uri(text)
    assert "hush" not in str(raised.value)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_one_line(text: str) -> None:
    try:
        uri = parse_uri(text)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert uri


@pytest.mark.parametrize("name", ["code", "_x", "A9_", "x" * 255])
def test_names_that_servers_accept(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "my-store", "v1.0", "a b", "1abc", "a$b", "x" * 256, "ä", "org/name", " a", "a\n", "١"]
)
def test_names_that_servers_refuse(name: str) -> None:
    with pytest.raises(InputError) as raised:
        check_name(name)
    assert "\n" not in str(raised.value)
    check_name(str(raised.value).rpartition(" ")[2])  # what the message proposes


def test_an_alias_is_called_an_alias() -> None:
    with pytest.raises(InputError, match="an alias"):
        check_name("a-b", "alias")
