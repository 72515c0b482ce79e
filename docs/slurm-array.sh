#!/usr/bin/env bash
# A study by the 16 tasks of a Slurm array, over a database that all nodes reach. Submit with:
#
#   export PNEUMOSEARCH_STORAGE=postgresql://ME:PASSWORD@HOST/studies    # never on a command line, where others see it
#   export PNEUMOSEARCH_DATA=/path/on/all/nodes/chest_xray
#   sbatch --export=ALL docs/slurm-array.sh studies/wide.toml 200
#
# The first task begins the study and trains as well; the others join it as soon as it is there. Any of them may end
# early, be requeued or come later: what one leaves behind, another goes on with, from its last epoch where the folder
# `results` is shared by the nodes, else from its first with the same numbers.
# Expected: as many trials as asked for, each ended once; each task's output tells what it trained.
#SBATCH --job-name=pneumosearch
#SBATCH --array=0-15
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@180
#SBATCH --output=pneumosearch-%A-%a.log
# On GPUs add:  #SBATCH --gres=gpu:1
set -euo pipefail

study=${1:?name a study file}
trials=${2:-50}
: "${PNEUMOSEARCH_STORAGE:?set it to the URL of a database that all nodes reach}"
name=$(sed -n 's/^name *= *"\(.*\)"$/\1/p' "$study")

# Libraries see all cores of the node, of which this task has but some.
export TF_NUM_INTRAOP_THREADS=${SLURM_CPUS_PER_TASK:-1} OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

if [ "${SLURM_ARRAY_TASK_ID:-0}" -eq 0 ]; then
    exec pneumosearch study "$study" --trials "$trials"
fi
exec pneumosearch worker --name "$name" --wait 30m
