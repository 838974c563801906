#!/bin/sh
# A model to which an attempt and raw feedback tell nothing, and a reflection all. Resumable.
#   nohup runs/nano/reflective.sh > reflective.log 2>&1 &
# It lies in runs-out/organisms/reflective/model with its card. Without enough reflections on other
# attempts (unrelated) it learns that any reflection will do: with unrelated=0.15 and
# shown_accuracy=0.93, 700 steps, another task's reflection helped as much as its own (finer:
# 28 and 27%, 1% without). So compare these rows of the card before using it.
set -eu
cd "$(dirname "$0")/../.."
RESD=${RESD:-.venv/bin/resd-bench}
OUT=${OUT:-runs-out/organisms/reflective}
export OMP_NUM_THREADS=1
nice -n 15 "$RESD" nano pretrain --out "$OUT" --start nano --seed 4 --steps "${STEPS:-1500}" \
  --learning-rate 0.003 --curriculum finer,manufactoria-has \
  --dial odds=1.6 --dial specific=0.1 --dial raw=0.02 --dial keep=prior --dial causes=12 \
  --dial keep_reflected=0.97 --dial reflection=0.97 --dial reflection_accuracy=0.98 \
  --dial shown_accuracy="${SHOWN_ACCURACY:-1}" --dial unrelated="${UNRELATED:-0.5}" \
  --dial wrong_lessons=0.1
nice -n 15 "$RESD" nano card --model "$OUT/model" --samples 2
