#!/usr/bin/env bash
# launch/local.sh [--devices N] -- stepjax COMMAND …: one process here, with N CPU devices (default 8).
#
#   launch/local.sh --devices 8 -- stepjax ppo --config=quickstart --config.mesh.fsdp=4 --config.mesh.tensor=2 --workdir=runs/sharded
#
# The run is sharded exactly as it would be over N accelerators, which is how a mesh is tried out before it costs money.
set -euo pipefail
devices=8
while [ $# -gt 0 ]; do
  case "$1" in
    --devices) devices=${2:?--devices needs a number}; shift 2 ;;
    --) shift; break ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "launch/local.sh: what is '$1'? usage: launch/local.sh [--devices N] -- stepjax COMMAND …" >&2; exit 2 ;;
  esac
done
[ $# -gt 0 ] || { echo "launch/local.sh: name a command after --" >&2; exit 2; }
case "$devices" in '' | *[!0-9]* | 0) echo "launch/local.sh: --devices must be a positive number, not '$devices'" >&2; exit 2 ;; esac
export JAX_PLATFORMS=cpu
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$devices"
exec "$@"
