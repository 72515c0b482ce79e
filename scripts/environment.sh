# Sourced by the scripts here: makes .venv with the pinned versions on first use, and after a change of them.
# Sets $root and $venv. Usage: ensure_environment [test]

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"

find_python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python 3.11, 3.12 or 3.13 found on the PATH" >&2
    return 1
}

# The stamp of an installation holds the files that it was made from, so a comparison tells whether it is current.
is_current() {
    cat "$root/pyproject.toml" "$root/constraints.txt" | cmp -s - "$venv/.stamp-$1"
}

ensure_environment() {
    local extra=${1:-}
    if is_current test || { [ -z "$extra" ] && is_current run; }; then
        return
    fi
    echo "installing into $venv (once; a few minutes)" >&2
    if [ ! -x "$venv/bin/python" ]; then
        local python
        python=$(find_python)
        "$python" -m venv "$venv"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/constraints.txt" --editable "$root${extra:+[$extra]}" >&2
    cat "$root/pyproject.toml" "$root/constraints.txt" >"$venv/.stamp-${extra:-run}"
}
