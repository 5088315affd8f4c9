#!/usr/bin/env bash
# Installs a real Milvus server without containers, for tests and benchmarks: the last version that was published as a
# Python package. It has a virtual environment of its own, because it pins a client that the project does not use.
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${1:-.venv-server}"
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "the packaged Milvus server runs on Linux x86-64 only; the tests that need it will be skipped" >&2
  exit 0
fi
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install --quiet --no-deps milvus==2.3.5
# Unpack its libraries once, where every server that a test starts can use them.
"$venv/bin/python" -c "import sys, milvus; milvus._initialize_data_files(sys.argv[1])" "$PWD/$venv/server"
echo "Milvus server $("$venv/bin/python" -c 'import milvus; print(milvus.__version__)') in $venv"
# Attu's client library, for the test that makes Attu's calls.
if command -v npm >/dev/null; then
  npm install --silent --no-audit --no-fund --prefix "$venv/attu" @zilliz/milvus2-sdk-node@2.5.9 >/dev/null ||
    echo "Attu's SDK could not be installed; the test of its calls will be skipped" >&2
fi
