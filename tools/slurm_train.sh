#!/usr/bin/env bash
# Train under SLURM: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
# Variables, for example: GPUS=16 GPUS_PER_NODE=8 CPUS_PER_TASK=8 SRUN_ARGS="--time=30:00:00"
# In a batch job that is told to stop (sbatch --requeue --signal=USR1@120), it requeues the job:
# use --resume, so that the training continues.
set -eu
if [ $# -lt 3 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
shift 3
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
status=0
# shellcheck disable=SC2086  # SRUN_ARGS is a list of words
srun --partition="$PARTITION" --job-name="$JOB_NAME" --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" --gres="gpu:$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$CONFIG" --launcher slurm "$@" || status=$?
# 75: train.py was told to stop and has saved a checkpoint.
if [ "$status" -eq 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
