"""A wrong configuration gives one line that names the remedy, never a stack trace or a hang."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest

from dresd_milvus.errors import DresdError, InputError, StoreError
from dresd_milvus.milvus import MilvusStore, admin
from dresd_milvus.milvus.client import connection
from dresd_milvus.milvus.client.connection import connect
from dresd_milvus.milvus.users import await_rights, make_users
from tests import milvus_server
from tests.fakes import FakeMilvus
from tests.helpers import dresd
from tests.milvus_server import MilvusServer
from tests.oracle import example_manifest, example_projection, example_rows

ROOT, READER = "root:Milvus", "reader:Secret123"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate authority's ca.pem and a server's server.pem and server.key for localhost."""
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    for command in (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "openssl x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names "
        "-out server.pem",
    ):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def secured(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server with logins and TLS, a sealed collection 'rows', and a user who may only read."""
    if not milvus_server.installed():
        pytest.skip(milvus_server.MISSING)
    options = ["--authorization-enabled", "true", "--tls-mode", "1"]
    options += ["--server-pem-path", str(authority / "server.pem"), "--server-key-path", str(authority / "server.key")]
    options += ["--ca-pem-path", str(authority / "ca.pem"), "--extra-config", "proxy.http.enabled=false"]
    server = MilvusServer(tmp_path_factory.mktemp("secured") / "server", *options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILVUS_CA", str(authority / "ca.pem"))
        manifest = example_manifest()
        with MilvusStore.create(secure(server), "rows", manifest, example_projection(), ROOT) as store:
            store.write(example_rows(30))
            store.seal(manifest)
            store.client.create_user("reader", "Secret123")
            store.client.create_role("reading")
            store.client.grant_role("reader", "reading")
            for privilege in ("Search", "Query", "GetLoadState", "GetStatistics", "IndexDetail"):
                store.client.grant_privilege("reading", "Collection", privilege, "*")
            store.client.grant_privilege("reading", "Global", "DescribeCollection", "*")
            store.client.grant_privilege("reading", "Global", "ShowCollections", "*")
    yield server
    server.stop()


def secure(server: MilvusServer) -> str:
    return f"https://localhost:{server.port}"


@pytest.fixture
def trusted(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILVUS_CA", str(authority / "ca.pem"))


def problem(uri: str, token: str = "") -> str:
    """The error of opening the collection 'rows' and searching it: one line."""
    with pytest.raises(DresdError) as raised, MilvusStore.open(uri, "rows", token) as store:
        store.load()
        store.search(example_rows(1).vectors, None, 3)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.usefixtures("trusted")
def test_a_reader_needs_no_more_than_its_rights(secured: MilvusServer) -> None:
    with MilvusStore.open(secure(secured), "rows", READER) as store:
        store.load()
        assert store.search(example_rows(1).vectors, None, 3).continuations.shape == (1, 3, 5)
        assert sum(len(rows) for rows in store.scan()) == 30
        assert store.projection().fingerprint == example_projection().fingerprint


@pytest.mark.usefixtures("trusted")
def test_logins(secured: MilvusServer) -> None:
    uri = secure(secured)
    assert "wants a login; give --token USER:PASSWORD or set MILVUS_TOKEN" in problem(uri)
    assert "does not accept this user and password; check --token" in problem(uri, "root:wrong")
    assert "does not accept this user and password; check --token" in problem(uri, "nobody:Milvus")
    assert "names a database after the port" in problem(f"{uri}/other")
    assert "must not hold a login; give it with --token" in problem(uri.replace("//", "//root:Milvus@"))


@pytest.mark.usefixtures("trusted")
def test_a_missing_privilege(secured: MilvusServer) -> None:
    with pytest.raises(StoreError, match=r"this user may not do that .* dresd stack init-users"):
        MilvusStore.create(secure(secured), "mine", example_manifest(), example_projection(), READER)


@pytest.mark.usefixtures("trusted")
def test_a_collection_that_is_not_loaded(secured: MilvusServer) -> None:
    client = connect(secure(secured), ROOT)
    client.release_collection("rows")
    said = problem(secure(secured), READER)
    assert "the collection is not loaded in the Milvus" in said and "dresd store load --uri" in said
    with MilvusStore.open(secure(secured), "rows", ROOT) as store:  # a user who may load it
        with pytest.raises(StoreError, match=r"not loaded in the Milvus .* dresd store load"):
            store.search(example_rows(1).vectors, None, 3)
        store.load()
        store.search(example_rows(1).vectors, None, 3)


def test_tls_on_one_side_only(secured: MilvusServer, server_uri: str) -> None:
    assert "if it speaks TLS write https://" in problem(f"http://localhost:{secured.port}", ROOT)
    assert "does not speak TLS; write http:// instead" in problem(server_uri.replace("http:", "https:"))


def test_a_certificate_that_cannot_be_verified(secured: MilvusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "set MILVUS_CA to the file of the authority" in problem(secure(secured), ROOT)
    monkeypatch.setenv("MILVUS_CA", "/not/there.pem")
    assert "MILVUS_CA names /not/there.pem, and there is no such file" in problem(secure(secured), ROOT)


def test_addresses(milvus_server: MilvusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 2.0)
    assert "no host has the name" in problem("http://no-such-host.invalid:19530")
    assert "nothing listens at" in problem("http://127.0.0.1:1")
    assert "no Milvus gRPC port; check the port (19530" in problem(f"http://127.0.0.1:{milvus_server.health}")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "does not answer; check the address" in problem(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_a_server_that_is_too_old() -> None:
    with FakeMilvus("v2.2.16") as fake:
        assert "is version v2.2.16, too old; upgrade it to 2.3.0 or newer" in problem(fake.uri)


def test_a_collection_without_an_index(server_uri: str) -> None:
    with MilvusStore.create(server_uri, "rows", example_manifest(), example_projection()) as store:
        store.client.release_collection("rows")
        store.client.drop_index("rows", store.client.list_indexes("rows")[0])
    assert "has no index on its keys; build one with: dresd store index" in problem(server_uri)


def test_a_collection_of_another_program(server_uri: str) -> None:
    client = connect(server_uri)
    client.create_collection("rows", dimension=4)
    assert "was not built by dresd-milvus: it has no manifest" in problem(server_uri)


def test_the_command_line_says_the_same_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = dresd(capsys, "store", "list", "--uri", "http://127.0.0.1:1")
    assert "nothing listens at http://127.0.0.1:1" in outcome.error


def test_making_users_waits_for_their_rights() -> None:
    """A server's proxies apply new rights a moment after they were granted."""
    answers = iter(["GetStatistics: permission deny to writer"] * 2 + ["can't find collection dresd_rights"])

    class Client:
        asked = 0

        def get_collection_stats(self, name: str) -> None:
            self.asked += 1
            raise RuntimeError(next(answers))

    client = Client()
    opened = patch("dresd_milvus.milvus.users.connection", return_value=nullcontext(client))
    with opened:
        await_rights("http://server", "writer", "writing-1")
    assert client.asked == 3


@pytest.mark.usefixtures("trusted")
def test_a_writer_may_build_and_publish_and_a_reader_may_not(secured: MilvusServer) -> None:
    uri, manifest = secure(secured), example_manifest(partition_by="source")
    with pytest.raises(InputError, match="the password of writer must have 6 to 72 characters"):
        make_users(uri, "Milvus", {"writer": "short"})
    made = make_users(uri, "Milvus", {"reader": "reading-1", "writer": "writing-1"})
    assert set(made) == {"reader", "writer"}
    again = make_users(uri, "Milvus", {"reader": "reading-1", "writer": "writing-1"})
    assert all(what.startswith("made anew") for what in again.values())
    with MilvusStore.create(uri, "built", manifest, example_projection(), "writer:writing-1") as store:
        store.write(example_rows(20))
        store.seal(manifest)
        admin.publish(store, "live")
        admin.reindex(store, "HNSW")
        admin.drop_source(store, "test")
        admin.drop_aliases(store)
        with MilvusStore.open(uri, "built", "reader:reading-1") as reader:
            assert reader.search(example_rows(1).vectors, None, 3).scores.shape == (1, 3)
            for forbidden in (reader.drop, lambda: reader.write(example_rows(2)), lambda: admin.expire(reader, 9)):
                with pytest.raises(StoreError, match="this user may not do that"):
                    forbidden()
        admin.drop(store)
