# Sourced by demo.sh and test.sh: makes .venv with lossbench and its tools in it, once.
# Leaves the shell in the project's folder, with .venv/bin first on the PATH.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

newest_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "lossbench needs Python 3.11 or newer (with venv) on the PATH" >&2
    return 1
}

# The stamp is written last: an installation that was interrupted is done again.
stamp=.venv/installed-$(cksum < pyproject.toml | cut -d' ' -f1)
if [ ! -e "$stamp" ]; then
    python=$(newest_python)
    echo "making .venv with $("$python" --version) (torch is large: the first time takes minutes)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --upgrade pip
    .venv/bin/python -m pip install --quiet --editable '.[dev]'
    touch "$stamp"
else
    echo "using the environment in $PWD/.venv"
fi
export PATH="$PWD/.venv/bin:$PATH"
