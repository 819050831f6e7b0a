#!/usr/bin/env bash
# Set up, then train; Hydra overrides may follow: ./train.sh trainer.steps=200 seed=1
# The quick start is ToyFACS's; with another base or other data the defaults are theirs: ./train.sh data=disfa_affectnet base=sd21
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash scripts/setup.sh

experiment=(experiment=quickstart)
for argument in "$@"; do
    if [[ $argument =~ ^(experiment|base|data)= ]]; then
        experiment=()
    fi
done
exec .venv/bin/fineface train ${experiment[@]+"${experiment[@]}"} "$@"
