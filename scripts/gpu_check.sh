#!/usr/bin/env bash
# Check and measure on this machine's GPU, in at most nine minutes and without a network:
#
#     bash scripts/gpu_check.sh [WHEELS_DIR] [--out DIR] [--minutes 9] [--only PART ...]
#
# The Python that is called (PYTHON=..., else .venv's, else python3) brings torch, transformers, accelerate and peft. Wheels of what else it lacks
# (docs/benchmarks.md lists them) lie in WHEELS_DIR and go into a temporary folder; nothing is installed. scripts/gpu_check.py says what is done.
set -euo pipefail

wheels=""
if [[ $# -gt 0 && $1 != --* ]]; then
    wheels=$(cd "$1" && pwd)
    shift
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -z ${PYTHON:-} ]]; then
    PYTHON=python3
    if [[ -x .venv/bin/python ]]; then PYTHON=.venv/bin/python; fi
fi
if [[ -n $wheels ]]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check --target "$site" "$wheels"/*.whl
    PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
# The package itself is not installed either.
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}
"$PYTHON" scripts/gpu_check.py "$@"
