"""The compose file as compose itself reads it: what is published, what is pinned, who waits for whom."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.compose import read_settings

ROOT = Path(__file__).parent.parent.parent

MUST_BE_SET = ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MILVUS_ROOT_PASSWORD", "ATTU_PASSWORD")


def composes() -> list[str]:
    """The command of every compose that is installed: the plugin, and 1.29."""
    found = ["docker-compose"] if shutil.which("docker-compose") else []
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        found += ["docker compose"] if asked.returncode == 0 else []
    return found


pytestmark = pytest.mark.skipif(not composes(), reason="no compose is installed: scripts/start-docker.sh")


@pytest.fixture(params=composes(), autouse=True)
def compose(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test reads the file with each of them."""
    monkeypatch.setenv("TESTED_COMPOSE", request.param)


def config(folder: Path, profile: str, *files: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """What `compose config` makes of the file with these settings, without any of the environment's own."""
    for name in ("docker-compose.yml", "Dockerfile"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "infra" / "milvus", folder / "infra" / "milvus", dirs_exist_ok=True)
    given = {**dict.fromkeys(MUST_BE_SET, "a-secret"), "COMPOSE_PROFILES": profile, **settings}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in given.items() if value))
    names = [part for name in ("docker-compose.yml", *files) for part in ("--file", name)]
    command = [*os.environ["TESTED_COMPOSE"].split(), *names, "--profile", profile, "config"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def services(folder: Path, profile: str, *files: str) -> dict:
    done = config(folder, profile, *files)
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]
    return {name: service for name, service in found.items() if set(service.get("profiles", [profile])) == {profile}}


@pytest.mark.parametrize("profile", ["gpu", "cpu"])
def test_each_profile_is_whole(tmp_path: Path, profile: str) -> None:
    found = services(tmp_path, profile)
    assert set(found) == {"etcd", "minio", f"milvus-{profile}", f"attu-{profile}"}
    for service in found.values():
        assert service["healthcheck"]["test"] and service["restart"] == "unless-stopped"
        assert re.search(r":(v\d|RELEASE\.\d)", service["image"]), f"{service['image']} is not pinned"
    milvus, attu = found[f"milvus-{profile}"], found[f"attu-{profile}"]
    assert {name: on["condition"] for name, on in milvus["depends_on"].items()} == {
        "etcd": "service_healthy",
        "minio": "service_healthy",
    }
    assert attu["depends_on"][f"milvus-{profile}"]["condition"] == "service_healthy"
    assert milvus["environment"]["COMMON_SECURITY_AUTHORIZATIONENABLED"] == "true"
    assert ("deploy" in milvus) == (profile == "gpu") == milvus["image"].endswith("-gpu")


@pytest.mark.parametrize("profile", ["gpu", "cpu"])
def test_nothing_is_published_beyond_this_machine(tmp_path: Path, profile: str) -> None:
    found = services(tmp_path, profile)
    assert not found["etcd"].get("ports") and not found["minio"].get("ports")
    assert {name for name, service in found.items() if "backend" in service.get("networks", {})} == {
        "etcd",
        "minio",
        f"milvus-{profile}",
    }
    for service in found.values():
        for port in service.get("ports", []):
            address = port["host_ip"] if isinstance(port, dict) else str(port)
            assert address.startswith("127.0.0.1"), port


@pytest.mark.parametrize("name", MUST_BE_SET)
def test_a_missing_secret_is_named_and_refused(tmp_path: Path, name: str) -> None:
    done = config(tmp_path, "cpu", **{name: ""})
    assert done.returncode != 0 and f"{name} is not set; copy .env.example to .env" in done.stderr


def test_tls_is_an_override(tmp_path: Path) -> None:
    found = services(tmp_path, "cpu", "infra/milvus/tls.yml")
    environment = found["milvus-cpu"]["environment"]
    assert environment["COMMON_SECURITY_TLSMODE"] == "1" and environment["PROXY_HTTP_ENABLED"] == "false"
    assert environment["ETCD_ENDPOINTS"] == "etcd:2379"  # what was there stays
    assert any("/milvus/certs" in str(volume) for volume in found["milvus-cpu"]["volumes"])
    assert found["attu-cpu"]["environment"]["MILVUS_SSL"] == "true"


def test_the_example_settings_name_all_that_must_be_set() -> None:
    example = read_settings(ROOT / ".env.example")
    assert set(MUST_BE_SET) <= set(example) and example["COMPOSE_PROFILES"] in ("cpu", "gpu")
    assert all(not value for name, value in example.items() if name.endswith("PASSWORD"))


def test_the_profile_serve_is_published_on_this_machine_and_starts_no_second_milvus(tmp_path: Path) -> None:
    found = services(tmp_path, "serve")
    assert set(found) == {"etcd", "minio", "serve"}  # these two have no profile
    serve = found["serve"]
    assert "127.0.0.1" in str(serve["ports"]) and "VLLM_API_KEY" in serve["environment"]
    assert "--host=0.0.0.0" in serve["command"] and serve["healthcheck"]["test"]
