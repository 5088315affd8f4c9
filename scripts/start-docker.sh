#!/usr/bin/env bash
# Starts a Docker engine for the tests of the stack, installing Debian's packages first where they are missing. Does
# nothing where an engine answers. Without root or Debian it prints that those tests will be skipped.
set -euo pipefail
if docker info >/dev/null 2>&1 && { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; }; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "no Docker engine answers, and only root on Debian can install one; tests of the stack will be skipped" >&2
  exit 0
fi
if ! command -v dockerd >/dev/null || ! command -v docker-compose >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends docker.io docker-compose iptables; } >/dev/null 2>&1 ||
    { echo "Docker could not be installed; tests of the stack will be skipped" >&2; exit 0; }
fi
docker info >/dev/null 2>&1 || nohup dockerd >/tmp/dockerd.log 2>&1 &
for _ in $(seq 30); do
  docker info >/dev/null 2>&1 && exit 0
  sleep 1
done
echo "the Docker engine does not start (see /tmp/dockerd.log); tests of the stack will be skipped" >&2
