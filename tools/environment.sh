#!/bin/sh
# Make .venv hold exactly what requirements.lock says, and EVC itself, editable. Run from the project's folder.
set -eu

say() { printf 'environment: %s\n' "$*" >&2; }

# two at once wait for each other
exec 9<pyproject.toml
flock 9
[ .venv/synced -nt requirements.lock ] && [ .venv/synced -nt pyproject.toml ] && exit 0

fits() { command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

make_venv() {
    for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        fits "$python" || continue
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            say "$python has no venv module: apt install $package"
            exit 1
        fi
        say "making .venv with $("$python" --version)"
        rm -rf .venv
        "$python" -m venv .venv
        return
    done
    say "no Python from 3.11 to 3.13 found: apt install python3 python3-venv, or PYTHON=/path/to/python3.11 make ..."
    exit 1
}

# an unfinished sync may have left half a package, which looks installed: begin again
if [ -e .venv/syncing ] || ! fits .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    make_venv
fi
rm -f .venv/synced
: >.venv/syncing
say "installing what requirements.lock says"
awk '/^uv==/ { take = 1 } take { print } take && !/\\$/ { exit }' requirements.lock |
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r /dev/stdin
.venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
rm .venv/syncing
: >.venv/synced
