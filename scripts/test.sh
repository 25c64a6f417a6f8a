#!/usr/bin/env bash
# Lint, types and every test; without the slow ones: bash scripts/test.sh -m "not slow"
# Arguments go to pytest. Usage: bash scripts/test.sh [PYTEST ARGUMENTS]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

fashion_mnist=/usr/share/datasets/fashion-mnist
if [ ! -d "$fashion_mnist" ] && command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        echo "installing Debian's dataset-fashion-mnist, which the tests read"
        (apt-get -qq update && apt-get -qq -y install dataset-fashion-mnist) >/dev/null ||
            echo "it could not be installed: the tests will have torchvision download the data"
    else
        echo "not root: torchvision downloads Fashion-MNIST for the tests, unless you install" \
            "Debian's dataset-fashion-mnist"
    fi
fi

if ! command -v chromium chromium-browser google-chrome >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing Debian's chromium, in which tests/browser opens the report"
        (apt-get -qq update && apt-get -qq -y install chromium) >/dev/null ||
            echo "it could not be installed: tests/browser will fail until there is a chromium"
    else
        echo "no chromium: tests/browser will fail until you install it (apt-get install chromium)"
    fi
fi

ruff check .
mypy
workers=$(python -c "from lossbench.sweeps.slots import cores; print(cores())")
# loadfile: the tests of a file share its slow fixtures; no reorder: the long files, in tests/cli,
# begin first
pytest -n "$workers" --dist loadfile --no-loadscope-reorder "$@"
