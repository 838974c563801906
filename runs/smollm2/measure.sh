#!/bin/sh
# Everything that is measured with SmolLM2-135M-Instruct, one after another. What is there is
# skipped and what was interrupted is resumed, so the same command goes on.
#   nohup runs/smollm2/measure.sh > smollm2.log 2>&1 &
# First calibration: each tier without and with context, and how often what the model writes can be
# parsed. Then the methods, their page, whether their successes are about the topic, and what they
# forgot of IFEval. TASKS and TOLD: tasks without and with context.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
TASKS=${TASKS:-64}
TOLD=${TOLD:-32}
export OMP_NUM_THREADS=1
kept=results/smollm2
mkdir -p "$kept/calibration" "$kept/forgetting"

measure() {  # measure NAME COMMAND...: the output of a command in NAME.md
  name=$1
  shift
  [ -f "$kept/$name.md" ] && return
  "$@" > "$kept/$name.part"
  mv "$kept/$name.part" "$kept/$name.md"
}

for env in ifeval-one finer-few python-functions-line textworld-coin-listed; do
  measure "calibration/$env" "$PYTHON" benchmarks/contexts.py "$env" --dialect plain --tasks "$TASKS" \
    --told "$TOLD" --max-new-tokens 96 --writer-temperature 0.5
done
measure calibration/parse-rates "$PYTHON" benchmarks/parse_rates.py ifeval-one finer-few --tasks 14
"$PYTHON" -m resd_bench sweep runs/smollm2/table2.yaml --jobs 1 --keep results/smollm2 --answers
"$PYTHON" -m resd_bench reproduce table2 --tier smollm2 --no-run --out results/smollm2
for run in runs-out/smollm2/*/ifeval-one/*/seed-*; do
  variant=${run#runs-out/smollm2/}
  name=forgetting/${variant%%/*}-${run##*/}
  measure "$name" "$PYTHON" -m resd_bench eval "$run" --env ifeval --split test --samples 1 \
    --max-new-tokens 192 --out "$kept/$name.jsonl"
  [ ! -f "$kept/$name.jsonl" ] || gzip -9n "$kept/$name.jsonl"
done
"$PYTHON" benchmarks/topics.py results/smollm2/ifeval-one > results/smollm2/topics.md
