#!/bin/bash
# Bring the stack up from nothing, without a registry, and try it: make compose-offline-test
#
# A rebuild goes through while Dask workers are killed; the cube is sealed and audited; nobody gets in
# without a password; no secret is in logs, containers, objects or Prefect's records; nobody is root;
# everything is there again after down and up. Says how long each part took, and cleans up after itself.
#
# Needs docker compose. Where no engine answers, root gets one of its own (dockerd), in a temporary
# folder; debootstrap and a network are needed where the base and the wheels are not there yet.
set -euo pipefail
cd "$(dirname "$0")/.."

CUBE=s3://cubes/rebuild.zarr
BASE=debian:bookworm-softcon
work=$(mktemp -d "${TMPDIR:-/tmp}/softcon-offline.XXXXXX")
engine=

say() { printf '%5d s  %s\n' "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }
# A project of its own: the volumes of a stack that somebody uses are never touched.
compose() { docker compose -p softcon-try -f docker-compose.yml -f docker/compose.offline.yml --progress quiet "$@"; }
worker() { compose run --rm -T --no-deps worker "$@" </dev/null; }
status() { curl --noproxy '*' -s -o /dev/null -w '%{http_code}' "$@"; }

clean_up() {
  local code=$?
  if docker version >/dev/null 2>&1; then
    if ((code)); then compose logs --tail 30 2>/dev/null || true; fi
    compose down --volumes --timeout 5 >/dev/null 2>&1 || true
  fi
  if [ -n "$engine" ]; then
    kill "$engine" && wait "$engine" || true
  fi
  rm -rf "$work"
  exit "$code"
}
trap clean_up EXIT

if ! docker version >/dev/null 2>&1; then
  if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
    fail "no docker engine answers: start one, or be root where dockerd is installed"
  fi
  export DOCKER_HOST="unix://$work/socket"
  dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" -H "$DOCKER_HOST" \
    --bip 172.30.0.1/24 >"$work/log" 2>&1 &
  engine=$!
  for _ in $(seq 60); do
    docker version >/dev/null 2>&1 && break
    sleep 1
  done
  docker version >/dev/null 2>&1 || { tail "$work/log"; fail "dockerd does not answer"; }
  say "an engine of our own answers"
fi
docker compose version >/dev/null 2>&1 || fail "docker has no plugin compose (version 2)"

if ! docker image inspect "$BASE" >/dev/null 2>&1; then
  make --silent offline-base BASE_FOLDER="$work/debian" >"$work/base.log" 2>&1 \
    || { tail "$work/base.log"; fail "make offline-base"; }
  say "the base is made"
fi
if [ -z "$(find docker/wheels -name '*.whl' -newer constraints.txt -print -quit)" ]; then
  make --silent wheels
  say "the wheels are there"
fi
compose build >"$work/build.log" 2>&1 || { tail "$work/build.log"; fail "docker compose build"; }
say "built: $(docker image inspect -f '{{.Size}}' softcon-cube:latest) bytes, on a base of" \
  "$(docker image inspect -f '{{.Size}}' "$BASE")"

compose up --detach --wait
say "every service is healthy"
docker stats --no-stream --format '{{.Name}}  {{.MemUsage}}'

# Nobody gets in without a password; pages alone are for everybody.
expect() {
  local code=$1; shift
  local found; found=$(status "$@")
  [ "$found" = "$code" ] || fail "$found, not $code: ${*: -1}"
}
expect 401 -X POST http://127.0.0.1:4200/api/flow_runs/filter
expect 401 http://127.0.0.1:4200/api/admin/settings
expect 403 "http://127.0.0.1:8333/cubes?list-type=2"
expect 200 -H 'Accept: text/html' http://127.0.0.1:4200/v2/dashboard
for container in $(compose ps --quiet); do
  # The first line is the title.
  docker top "$container" -eo pid,uid,args | tail -n +2 | while read -r _ uid args; do
    [ "$uid" != 0 ] || fail "root runs $args"
  done
done
say "nobody gets in without a password, and nobody is root"

written() { compose logs --no-log-prefix worker 2>/dev/null | grep -c 'is written' || true; }
wait_for_batches() {
  for _ in $(seq 300); do
    [ "$(written)" -ge "$1" ] && return
    sleep 1
  done
  fail "only $(written) batches are written"
}
worker prefect deployment run rebuild-dataset/local --watch >"$work/rebuild.log" 2>&1 &
rebuild=$!
wait_for_batches 1
# A crash: the engine starts the container again by itself.
compose exec -T --index 1 dask-worker python -c '
import os, pathlib, signal
for found in pathlib.Path("/proc").glob("[0-9]*/stat"):
    pid, parent = int(found.parent.name), int(found.read_text().rsplit(")", 1)[1].split()[1])
    if parent == 1 and pid != os.getpid():
        os.kill(pid, signal.SIGKILL)
'
is_back() {
  compose ps --quiet dask-worker | xargs docker inspect -f '{{.RestartCount}} {{.State.Running}}' | grep -qx '1 true'
}
for _ in $(seq 30); do
  is_back && break
  sleep 1
done
is_back || fail "a crashed Dask worker stays away"
say "a Dask worker has crashed and is back, $(written) batches are written"
wait_for_batches 2
# Killed by hand, all of them: they stay away until somebody starts them.
compose kill --signal KILL dask-worker
say "all Dask workers are killed, $(written) batches are written"
sleep 5
compose up --detach --no-recreate --no-deps dask-worker
wait "$rebuild" || { tail -n 20 "$work/rebuild.log"; fail "the rebuild"; }
say "the rebuild is complete"

worker prefect deployment run seal-and-audit/local --watch >"$work/seal.log" 2>&1 \
  || { tail -n 20 "$work/seal.log"; fail "seal-and-audit"; }
worker softcon inspect "$CUBE" >"$work/before"
grep -q 'state .*sealed' "$work/before" || fail "the cube is not sealed"
say "the cube is sealed and audited: $(grep -o 'stored .*objects' "$work/before" | tr -s ' ')"

everything() {
  compose logs --no-color
  compose config
  # shellcheck disable=SC2046 # a word each
  docker inspect $(compose ps --all --quiet) softcon-cube:latest softcon-postgres:offline
  docker history --no-trunc softcon-cube:latest
}
everything | compose run --rm -T --no-deps -v "$PWD/docker/find_secrets.py:/find_secrets.py:ro" worker \
  python /find_secrets.py || fail "secrets"
say "no secret is where it may not be"

runs() { worker prefect api POST /flow_runs/count; }
runs_before=$(runs)
compose down
compose up --detach --wait
worker softcon inspect "$CUBE" >"$work/after"
cmp "$work/before" "$work/after" || fail "the cube is another one after down and up"
[ "$(runs)" = "$runs_before" ] || fail "Prefect has forgotten runs: there were $runs_before"
say "down and up: the cube and $runs_before runs are still there"
