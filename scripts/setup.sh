#!/usr/bin/env bash
# Make .venv and install the project with the versions of constraints.txt; does nothing when that is done already.
# PYTHON=/path/to/python3.11 chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=.venv/.installed
wanted=$(cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)
if [[ -f $stamp && $(<"$stamp") == "$wanted $PWD" ]]; then
    exit 0
fi

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "setup: Python 3.11 or newer is needed; none of these is: ${PYTHON:-python3.11 python3.12 python3.13 python3 python}." >&2
    echo "setup: install it, or say where it is: PYTHON=/path/to/python3.11 $0" >&2
    return 1
}

unset PYTHONHOME PYTHONPATH  # another Python's, whose packages are not ours

# A folder that was moved or copied holds scripts that point elsewhere, so it is made anew.
if ! [[ -x .venv/bin/python ]] || ! new_enough .venv/bin/python || [[ -f $stamp && $(<"$stamp") != *" $PWD" ]]; then
    python=$(find_python)
    echo "setup: making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv || { echo "setup: 'python -m venv' failed; on Debian or Ubuntu install python3-venv" >&2; exit 1; }
fi

rm -f "$stamp"
# Of pip's settings only those count that say where packages come from; others (PIP_USER, PIP_TARGET, ...) would install elsewhere or not at all.
for name in ${!PIP_*}; do
    if ! [[ $name =~ ^PIP_(.*INDEX.*|FIND_LINKS|TRUSTED_HOST|PROXY|.*CERT|CONFIG_FILE|.*CACHE_DIR|.*TIMEOUT|RETRIES|KEYRING_PROVIDER)$ ]]; then
        unset "$name"
    fi
done
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0
# torch first and alone, so that the build that the machine's package index offers (CPU or CUDA) is the one that stays.
torch=$(grep -E '^torch==' constraints.txt)
echo "setup: installing $torch"
.venv/bin/python -m pip install --quiet "$torch"
echo "setup: installing fineface-train and the packages it needs"
.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
.venv/bin/python -m pip check >/dev/null || { .venv/bin/python -m pip check; exit 1; }
echo "$wanted $PWD" >"$stamp"
echo "setup: done"
