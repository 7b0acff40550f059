#!/usr/bin/env bash
# launch/slurm.sh: a run on the GPUs of a SLURM cluster, one process a GPU; it continues by itself after a preemption or
# at the end of its time.
#
#   launch/slurm.sh --nodes 4 --gpus 8 --time 08:00:00 -- stepjax ppo --config=math_7b --workdir=/shared/runs/math
#
#   --nodes N            machines (1)
#   --gpus G             GPUs of each, and so processes on each (8)
#   --time T             longest time before the job is queued again (04:00:00)
#   --partition P        (the cluster's default)
#   --account A          (yours)
#   --name NAME          of the job (stepjax)
#   --grace SECONDS      how long before the end SLURM says so: a step is then done and saved (120)
#   --dry-run            print the command and submit nothing
#
# The work directory must lie on a file system that all machines share; jax with CUDA ("jax[cuda12]") must be installed.
# Cost: nodes × gpus GPUs for the time that the job runs, against your account, idle or not; nothing while it is queued.
# Stop: scancel JOBID (SLURM prints it). The run saves itself and goes; the same command continues it.
set -euo pipefail

usage() { sed -n '2,/^set /p' "$0" | sed -n 's/^# \{0,1\}//p'; }
fail() { echo "launch/slurm.sh: $*" >&2; exit 2; }

# Inside of the job: SLURM runs this same file on the first machine.
if [ "${1:-}" = --inside ]; then
  shift
  status=0
  srun --kill-on-bad-exit=0 "$@" || status=$?
  # 75: told to stop, or a machine was lost. The run goes on where it was, with the same job number.
  if [ "$status" = 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
  exit "$status"
fi

nodes=1 gpus=8 time=04:00:00 partition='' account='' name=stepjax grace=120 dry=0
while [ $# -gt 0 ]; do
  case "$1" in
    --nodes | --gpus | --time | --partition | --account | --name | --grace)
      [ $# -ge 2 ] || fail "$1 needs a value"
      declare "${1#--}=$2"; shift 2 ;;
    --dry-run) dry=1; shift ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) fail "what is '$1'? See launch/slurm.sh --help" ;;
  esac
done
[ $# -gt 0 ] || fail "name a command after --"
for number in nodes gpus grace; do
  case "${!number}" in '' | *[!0-9]* | 0) fail "--$number must be a positive number, not '${!number}'" ;; esac
done
# SIGTERM goes to the processes, not to the shell: they save and go. Some seconds are kept for the last write.
job=(sbatch --job-name "$name" --nodes "$nodes" --ntasks-per-node "$gpus" --gpus-per-node "$gpus" --time "$time"
  --signal "TERM@$grace" --requeue --open-mode append --output "%x-%j.log")
[ -z "$partition" ] || job+=(--partition "$partition")
[ -z "$account" ] || job+=(--account "$account")
job+=("$(cd "$(dirname "$0")" && pwd)/slurm.sh" --inside "$@")
if [ "$dry" = 1 ]; then
  printf '%q ' "${job[@]}"; echo
  printf '%q ' srun --kill-on-bad-exit=0 "$@"; echo
  exit 0
fi
exec "${job[@]}"
