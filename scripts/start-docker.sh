#!/usr/bin/env bash
# A Docker engine for the tests of the stack, where there is none: installs Debian's packages and starts the engine.
# Does nothing where one answers, and says so where it may not help.
set -euo pipefail
if docker info >/dev/null 2>&1 && { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; }; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "no Docker engine answers, and only root on Debian can be helped; tests of the stack will be skipped" >&2
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
