# Source this file, do not run it: `. scripts/setup.sh`.
#
# Afterwards the working directory is the project's root, `.venv` there holds the project (editable)
# with the versions of constraints.txt, and $VENV_PYTHON is its interpreter. The first run takes
# minutes; later runs compare one hash and go on.
#
# Needs Python >= 3.11 (another interpreter: PYTHON=/path/to/python) and a package index.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV_PYTHON="$PWD/.venv/bin/python"

_say() { printf '[setup] %s\n' "$*" >&2; }
_die() {
    printf '[setup] error: %s\n' "$*" >&2
    exit 1
}

# Starts the interpreter and does not trust its name: a version manager's shim may exist and fail.
# Debian's own Python comes without ensurepip, and then cannot make an environment.
_usable() {
    "$1" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

_find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        _usable "$PYTHON" || _die "PYTHON=$PYTHON is not a working Python >= 3.11 with venv"
        printf '%s' "$PYTHON"
        return
    fi
    while IFS= read -r candidate; do
        if _usable "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done < <(
        type -ap python3 python3.13 python3.12 python3.11 python3.14 python || true
        printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3
    )
    _die "found no Python >= 3.11 with venv (Debian: apt install python3-venv);" \
        "install one, or name one: PYTHON=/path/to/python $0"
}

# The path is part of the stamp because scripts in a venv, and the editable install, contain it.
_stamp() {
    "$VENV_PYTHON" - "$PWD" <<'PY'
import hashlib, pathlib, sys
digest = hashlib.sha256(f"{sys.argv[1]} {sys.version}".encode())
for name in ("pyproject.toml", "constraints.txt", "scripts/setup.sh"):
    digest.update(pathlib.Path(name).read_bytes())
print(digest.hexdigest())
PY
}

_install() {
    local python
    if ! { _usable "$VENV_PYTHON" && "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; }; then
        python="$(_find_python)"
        _say "creating .venv with $("$python" --version) ($python)"
        "$python" -m venv --clear .venv || _die "$python cannot make a virtual environment"
    fi
    _say "installing varpro and its tools into .venv (minutes the first time, then never again)"
    "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable '.[dev,docs,scale,ode,bayes,interactive,formats]' || _die "the installation failed, see above"
    _stamp >.venv/varpro-stamp
    _say "ready"
}

if ! { [ -f .venv/varpro-stamp ] && _usable "$VENV_PYTHON" &&
    [ "$(_stamp)" = "$(cat .venv/varpro-stamp)" ]; }; then
    _install
fi
