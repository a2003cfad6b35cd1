#!/usr/bin/env bash
# Creates .venv with everything the project needs, from a bare Debian machine with Python 3.11 or later.
# Installs missing packages with apt-get where possible, otherwise names them. PYTHON chooses the Python.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
source scripts/debian.sh

# The `if` runs the candidate, because pyenv has shims for versions that are not installed.
is_supported_python() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null
}

find_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        is_supported_python "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 or 3.12"
        echo "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3 /usr/bin/python3; do
        if is_supported_python "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

# True when the shared library of this Python can be loaded: Triton's python stub links it, and Debian's
# python3 is linked statically, so the library may be absent.
has_shared_libpython() {
    "$1" - <<'PY'
import ctypes, pathlib, sys, sysconfig

name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
folders = (sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib")
if any(folder and pathlib.Path(folder, name).exists() for folder in folders):
    sys.exit(0)
try:
    ctypes.CDLL(name)
except OSError:
    sys.exit(1)
PY
}

python="$(find_python)"
if [[ -z "$python" ]]; then
    install_debian_package "no Python 3.11 or 3.12 found" python3.11 python3.12
    python="$(find_python)"
    [[ -n "$python" ]] || die "no Python 3.11 or 3.12 found; install one, or set PYTHON to it"
fi
version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    install_debian_package "Python $version cannot make virtual environments" "python$version-venv" python3-venv
fi
if ! has_shared_libpython "$python"; then
    install_debian_package "libpython$version.so.1.0 is missing, which Triton's python backend links" "libpython$version"
    has_shared_libpython "$python" || die "libpython$version.so.1.0 is still missing; build this Python with --enable-shared"
fi

# A venv of another Python, or one whose creation was interrupted, is created again.
if ! "$VENV/bin/python" -c "import sys, pip; sys.exit(sys.version_info[:2] != (${version/./, }))" 2>/dev/null; then
    say "making $VENV with Python $version"
    "$python" -m venv --clear "$VENV"
fi

build="$(bash scripts/torch_build.sh)"
if [[ "$build" != pypi ]] && ! "$VENV/bin/python" -c "import torch" 2>/dev/null; then
    say "installing torch's build $build, which suits this machine (TRITON_VIDEO_TORCH=pypi takes PyPI's)"
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-input --no-deps \
        --timeout 15 --retries 0 --index-url "https://download.pytorch.org/whl/$build" \
        "torch==$(sed -n 's/^torch==//p' constraints.txt)+$build" \
        || say "that index cannot be used; PyPI's build is taken"
fi

say "installing what pyproject.toml and constraints.txt name (the first time takes some minutes)"
"$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-input \
    -c constraints.txt -e '.[all,dev]'
say "done: $VENV/bin/triton-video"
