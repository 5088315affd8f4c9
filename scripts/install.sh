#!/usr/bin/env bash
# Makes the virtual environment and installs the project into it, with the versions in constraints.txt.
#
# On PyPI the PyTorch wheel brings gigabytes of CUDA libraries. So without an NVIDIA driver the CPU build is named by its
# exact version (torch==X+cpu), which PyPI does not have, and pip cannot take the large wheel by mistake. The CPU build
# comes from a folder or mirror that pip is configured with; otherwise uv takes it from PyTorch's own index.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  echo "error: Python 3.10 or newer is needed; name one with PYTHON=/path/to/python3" >&2
  exit 1
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
torch=$(sed -n 's/^torch==//p' constraints.txt)

if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    echo "an NVIDIA driver was found: installing torch $torch with CUDA"
    "${pip[@]}" --constraint constraints.txt torch
  else
    echo "no NVIDIA driver: installing the CPU build of torch $torch"
    if ! "${pip[@]}" --only-binary torch --constraint constraints.txt "torch==$torch+cpu" 2>/dev/null; then
      "${pip[@]}" uv
      "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --torch-backend cpu \
        --constraint constraints.txt "torch==$torch"
    fi
  fi
fi
echo "installing dresd-milvus and what it needs"
"${pip[@]}" --constraint constraints.txt --editable ".[dev,gguf]"
