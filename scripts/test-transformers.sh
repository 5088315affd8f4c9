#!/usr/bin/env bash
# Tests the model families with the oldest and the newest transformers that pyproject.toml allows (`make test` has the
# pinned one). Each version has a small virtual environment, which takes all other packages from the project's.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
versions=("$@")
[ $# -gt 0 ] || versions=(5.16.0 5.24.0)
borrowed=$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
for version in "${versions[@]}"; do
  own=".venv-transformers/$version"
  if [ ! -e "$own/.installed" ]; then
    "$venv/bin/python" -m venv "$own"
    echo "$borrowed" >"$("$own/bin/python" -c 'import site; print(site.getsitepackages()[0])')/borrowed.pth"
    "$own/bin/python" -m pip install --quiet --disable-pip-version-check "transformers==$version"
    touch "$own/.installed"
  fi
  echo "transformers $("$own/bin/python" -c 'import transformers; print(transformers.__version__)')"
  "$own/bin/python" -m pytest tests/target/test_families.py tests/target/test_hf_target.py
done
