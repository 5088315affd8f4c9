"""Images that stand in for those of the compose file, made with `docker import` from what lies on this machine.

The one for Milvus holds the packaged server; the others answer their health checks and wait. Image names are all that
changes: commands, health checks, mounts and order are the compose file's own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.milvus_server import CONFIGURE, ENVIRONMENT

WAIT = "#!/bin/bash\nexec sleep infinity\n"
FINE = "#!/bin/bash\nexit 0\n"

SCRIPTS = {
    "etcd": {"usr/bin/etcd": WAIT, "usr/bin/etcdctl": FINE},
    "minio": {"usr/bin/minio": WAIT, "usr/local/bin/curl": FINE},
    "attu": {"usr/bin/node": FINE, "start": WAIT},
    # The package's server brings its own etcd and storage, so the addresses of the others are taken from it.
    "milvus": {
        "usr/bin/milvus": "#!/bin/bash\nunset ETCD_ENDPOINTS MINIO_ADDRESS MINIO_ACCESS_KEY_ID\n"
        "unset MINIO_SECRET_ACCESS_KEY MQ_TYPE\n"
        "export DEPLOY_MODE=STANDALONE LD_LIBRARY_PATH=/opt/milvus MILVUS_RUN_DIR=/milvus/run\n"
        "mkdir -p /var/lib/milvus/logs && cd /milvus && exec /opt/milvus/milvus run standalone\n"
    },
    "broken": {"usr/bin/milvus": "#!/bin/bash\necho 'panic: the index pool is too small'\nexit 3\n"},
}

PROGRAMS = ("bash", "sleep", "mkdir", "curl")


def name_of(standin: str) -> str:
    return f"dresd-standin-{standin}:test"


def import_images(folder: Path) -> None:
    """Make all of them; the engine must be there."""
    for standin, scripts in SCRIPTS.items():
        root = folder / standin
        for directory in ("tmp", "milvus/run", "var/lib/milvus"):
            (root / directory).mkdir(parents=True)
        for program in PROGRAMS:
            path = Path(shutil.which(program) or program)
            _copy(path, root / "usr/bin" / program)
            _copy_libraries(path, root)
        _copy(Path(shutil.which("bash") or "bash"), root / "bin/bash")
        if standin == "milvus":
            _add_server(root, folder / "configured")
        for place, text in scripts.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_text(text)
            (root / place).chmod(0o755)
        change = 'CMD ["/start"]' if standin == "attu" else "WORKDIR /"
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
            command = ["docker", "import", "--change", change, "-", name_of(standin)]
            subprocess.run(command, stdin=tar.stdout, check=True, capture_output=True)
        shutil.rmtree(root)


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path.resolve(), to)


def _copy_libraries(program: Path, root: Path, own: str = "") -> None:
    """What the loader says that it needs, but for what lies in its own folder."""
    environment = {"LD_LIBRARY_PATH": own, "PATH": os.environ["PATH"]}
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, env=environment, check=True).stdout
    for path in re.findall(r"(/\S+) \(0x", told):
        if not own or not path.startswith(own):
            _copy(Path(path), root / path.lstrip("/"))


def _add_server(root: Path, configured: Path) -> None:
    binaries = ENVIRONMENT / "server" / "bin"
    configured.mkdir()
    (configured / "bin").symlink_to(binaries)
    command = [str(ENVIRONMENT / "bin" / "python"), "-c", CONFIGURE, "--data", str(configured)]
    subprocess.run(command, check=True, capture_output=True)
    for path in (configured / "configs").iterdir():
        (root / "milvus/configs").mkdir(exist_ok=True)
        (root / "milvus/configs" / path.name).write_text(path.read_text().replace(str(configured), "/var/lib/milvus"))
    for path in binaries.iterdir():
        _copy(path, root / "opt/milvus" / path.name)
    _copy_libraries(binaries / "milvus", root, str(binaries))
