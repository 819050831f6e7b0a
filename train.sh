#!/usr/bin/env bash
# Set up, then train; Hydra overrides may follow: ./train.sh trainer.steps=200 seed=1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash scripts/setup.sh

experiment=(experiment=quickstart)
for argument in "$@"; do
    if [[ $argument == experiment=* ]]; then
        experiment=()
    fi
done
exec .venv/bin/fineface train ${experiment[@]+"${experiment[@]}"} "$@"
