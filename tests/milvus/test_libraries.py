"""The Milvus libraries read neither a `.env` above their folder nor MILVUS_* variables of other programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pymilvus

SCRIPT = """
import json, os, sys
before = dict(os.environ)
from dresd_milvus.milvus import MilvusStore
from tests.oracle import example_manifest, example_projection, example_rows
with MilvusStore.create(sys.argv[1], "rows", example_manifest(), example_projection()) as store:
    store.write(example_rows(30))
    store.seal(store.manifest)
with MilvusStore.open(sys.argv[1], "rows") as store:
    rows = sum(map(len, store.require_sealed().scan()))
import pymilvus
changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
gone = sorted(before.keys() - os.environ.keys())
print(json.dumps({"from": pymilvus.__file__, "rows": rows, "changed": changed, "gone": gone}))
"""


def test_neither_a_dotenv_file_nor_foreign_variables_matter(tmp_path: Path) -> None:
    packages = tmp_path / "checkout" / ".venv" / "packages"
    packages.mkdir(parents=True)
    (packages / "pymilvus").symlink_to(Path(pymilvus.__file__).parent)
    (tmp_path / "checkout" / ".env").write_text("MILVUS_ROOT_PASSWORD=poison\nPOISON=1\nMILVUS_URI=./milvus.db\n")
    poison = {
        "MILVUS_URI": "./milvus.db",
        "MILVUS_CONN_TIMEOUT": "10s",
        "MILVUS_LITE_WAL_SIZE_LIMIT_BYTES": "many",
        "PYTHON_DOTENV_DISABLED": "0",
    }
    script = tmp_path / "script.py"  # a file: for a program without one, the search begins in the working directory
    script.write_text(SCRIPT)
    path = os.pathsep.join(map(str, (packages, Path(__file__).parents[2])))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "a.db")],
        env={**os.environ, **poison, "PYTHONPATH": path, "GRPC_VERBOSITY": "NONE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("from").startswith(str(packages))
    assert found == {"rows": 30, "changed": {}, "gone": []}
