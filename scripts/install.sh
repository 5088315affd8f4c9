#!/usr/bin/env bash
# Make the virtual environment and install the project into it, with the versions in constraints.txt.
#
# The PyTorch wheel of the Python package index brings gigabytes of CUDA libraries. Without an NVIDIA driver the CPU
# build is asked for by its exact version (torch==X+cpu), which that index does not have, so pip cannot fetch the
# large one by mistake: it comes from a wheel folder or mirror that pip is set up with, or, through uv, which knows
# PyTorch's own index of CPU builds by name.
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
