"""`dresd stack` on a real Docker engine, with images that stand in for those that cannot be pulled here."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dresd_milvus.milvus import MilvusStore
from infra.compose import Service
from infra.stack import newly_failed
from tests import milvus_server
from tests.helpers import dresd
from tests.infra.standins import import_images, name_of
from tests.milvus_server import free_ports
from tests.oracle import example_manifest, example_projection, example_rows

ROOT = Path(__file__).parent.parent.parent

SETTINGS = {
    "COMPOSE_PROFILES": "cpu",
    "MINIO_ROOT_USER": "dresd",
    "MINIO_ROOT_PASSWORD": "secret-one",
    "MILVUS_ROOT_PASSWORD": "Milvus",  # the packaged server is too old to take another
    "MILVUS_READER_PASSWORD": "reading-1",
    "MILVUS_WRITER_PASSWORD": "writing-1",
    "ATTU_PASSWORD": "secret-two",
}


def engine() -> bool:
    """Whether a Docker engine and a compose are here."""
    if not (shutil.which("docker") and (shutil.which("docker-compose") or shutil.which("docker"))):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


needs_engine = pytest.mark.skipif(not engine(), reason="no Docker engine answers; start one: scripts/start-docker.sh")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not milvus_server.installed():
        pytest.skip(milvus_server.MISSING)
    import_images(tmp_path_factory.mktemp("images"))


def make_project(folder: Path, milvus: str = "milvus", **settings: str) -> Path:
    """A folder with the real compose file, settings of its own and an override that changes image names only."""
    (folder / "infra").mkdir(parents=True)
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copytree(ROOT / "infra" / "milvus", folder / "infra" / "milvus")
    ports = dict(zip(("MILVUS_PORT", "MILVUS_METRICS_PORT", "ATTU_PORT"), map(str, free_ports(3)), strict=True))
    written = {**SETTINGS, **ports, "COMPOSE_PROJECT_NAME": f"dresd-test-{os.getpid()}-{folder.name[-12:]}", **settings}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in written.items()))
    images = {"etcd": "etcd", "minio": "minio", "milvus-cpu": milvus, "attu-cpu": "attu"}
    lines = "".join(f"  {service}: {{image: '{name_of(standin)}'}}\n" for service, standin in images.items())
    (folder / "images.yml").write_text(f"services:\n{lines}")
    return folder


@pytest.fixture
def project(tmp_path: Path, images: None, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    folder = make_project(tmp_path / "stack")
    yield folder
    dresd(capsys, "stack", "down", "--project", folder, "--file", folder / "images.yml", "--volumes")


def port(project: Path, name: str = "MILVUS_PORT") -> str:
    return dict(line.split("=", 1) for line in (project / ".env").read_text().splitlines())[name]


@needs_engine
@pytest.mark.timeout(300)
def test_up_status_users_and_down(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--project", project)
    doctor = dresd(capsys, "stack", "doctor", *options)
    assert "Docker engine" in doctor.out and f"port {port(project)}  free" in doctor.out and doctor.code == 0

    up = dresd(capsys, "stack", "up", *options, "--file", project / "images.yml")
    assert up.code == 0, up
    assert "healthy: attu-cpu, etcd, milvus-cpu, minio" in up.out and "starting" in up.err

    status = dresd(capsys, "stack", "status", *options)
    assert status.code == 0 and status.out.count("healthy") == 4
    assert f"127.0.0.1:{port(project)}" in status.out and "0.0.0.0" not in status.out

    users = dresd(capsys, "stack", "init-users", *options)
    assert users.code == 0 and "reader: made" in users.out and "writer: made" in users.out
    assert "made anew" in dresd(capsys, "stack", "init-users", *options).out

    uri, manifest = f"http://127.0.0.1:{port(project)}", example_manifest()
    assert "wants a login" in dresd(capsys, "store", "list", "--uri", uri).error
    with MilvusStore.create(uri, "rows", manifest, example_projection(), "writer:writing-1") as store:
        store.write(example_rows(20))
        store.seal(manifest)
    with MilvusStore.open(uri, "rows", "reader:reading-1") as store:
        assert store.search(example_rows(1).vectors, None, 3).continuations.shape == (1, 3, 5)
    listed = dresd(capsys, "store", "list", "--uri", uri, "--token", "reader:reading-1")
    assert "rows" in listed.out and "sealed" in listed.out
    publish = ("store", "publish", "--uri", uri, "--collection", "rows", "--as", "live", "--token")
    assert "may not do that" in dresd(capsys, *publish, "reader:reading-1").error
    assert dresd(capsys, *publish, "writer:writing-1").code == 0

    logs = subprocess.run(["docker", "ps", "--format", "{{.Names}}"], capture_output=True, text=True, check=True)
    assert "milvus-cpu" in logs.stdout
    down = dresd(capsys, "stack", "down", *options, "--file", project / "images.yml")
    assert down.out == "stopped, data kept\n"
    status = dresd(capsys, "stack", "status", *options)
    assert status.code == 1 and "nothing runs" in status.out


@pytest.mark.parametrize(
    ("restarts", "ended", "trouble"), [(1, 1, True), (1, 0, False), (1, None, False), (3, 0, True)]
)
def test_a_service_that_was_restarted_is_to_blame_once_compose_gives_up(
    restarts: int, ended: int | None, trouble: bool
) -> None:
    service = Service("milvus-cpu", "running", "starting", restarts, 0, "new", None)
    assert newly_failed(service, {"old": 0}, ended) is trouble


@needs_engine
@pytest.mark.timeout(300)
def test_a_service_that_fails_is_named_with_its_last_log_lines(
    tmp_path: Path, images: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_project(tmp_path / "broken", milvus="broken")
    options = ("--project", folder, "--file", folder / "images.yml")
    try:
        up = dresd(capsys, "stack", "up", *options, "--deadline", "60")
        assert "the service milvus-cpu failed" in up.error and "panic: the index pool is too small" in up.err
        status = dresd(capsys, "stack", "status", "--project", folder)
        assert status.code == 1 and "milvus-cpu" in status.out
        # What failed before does not stand in the way of what was mended.
        images = (folder / "images.yml").read_text()
        (folder / "images.yml").write_text(images.replace(name_of("broken"), name_of("milvus")))
        assert dresd(capsys, "stack", "up", *options).code == 0
        # Nor does it start with the other profile on the same data and ports.
        settings = (folder / ".env").read_text()
        (folder / ".env").write_text(settings.replace("COMPOSE_PROFILES=cpu", "COMPOSE_PROFILES=gpu"))
        assert (
            "with the profile cpu; run first (data stays): dresd stack down"
            in dresd(capsys, "stack", "up", *options).error
        )
        (folder / ".env").write_text(settings)
    finally:
        dresd(capsys, "stack", "down", *options, "--volumes")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MINIO_ROOT_PASSWORD", "", "MINIO_ROOT_PASSWORD in .env must be set; nothing was started"),
        ("COMPOSE_PROFILES", "", "COMPOSE_PROFILES in .env must be gpu or cpu"),
        ("MILVUS_ROOT_PASSWORD", "x" * 73, "longer than the 72 characters"),
    ],
)
def test_what_is_not_set_is_named_and_nothing_starts(
    tmp_path: Path, name: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_project(tmp_path / "stack", **{name: value})
    assert said in dresd(capsys, "stack", "up", "--project", folder).error


def test_a_folder_without_settings_says_how_to_make_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no docker-compose.yml" in dresd(capsys, "stack", "up", "--project", tmp_path).error
    folder = make_project(tmp_path / "stack")
    (folder / ".env").unlink()
    assert "copy .env.example to .env" in dresd(capsys, "stack", "up", "--project", folder).error
    doctor = dresd(capsys, "stack", "doctor", "--project", folder)
    assert doctor.code == 1 and "copy .env.example to .env" in doctor.out


def test_users_need_passwords(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_project(tmp_path / "stack", MILVUS_WRITER_PASSWORD="")
    error = dresd(capsys, "stack", "init-users", "--project", folder).error
    assert "MILVUS_WRITER_PASSWORD in .env must be set; no user was made" in error


def test_a_taken_port_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_project(tmp_path / "stack")
    with socket.create_server(("127.0.0.1", int(port(folder)))):
        doctor = dresd(capsys, "stack", "doctor", "--project", folder)
    assert doctor.code == 1 and f"port {port(folder)}  taken" in doctor.out and "MILVUS_PORT in .env" in doctor.out
