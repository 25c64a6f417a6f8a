#!/usr/bin/env bash
# The main job from nothing: install, run a small study (5 losses x 5 seeds), compare, name the report.
# Run again, it finds everything done. Usage: bash scripts/demo.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

echo "== the sweep: experiments/digits_quickstart.yaml"
lossbench sweep experiment=digits_quickstart
echo "== the comparison"
lossbench compare study=digits_quickstart
echo "== done"
echo "the report:  $PWD/runs/digits_quickstart/comparison/report.html"
echo "TensorBoard: .venv/bin/lossbench board"
