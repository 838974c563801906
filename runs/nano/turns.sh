#!/bin/sh
# Models that speak two games of many turns, textworld-coin and guess-number, review an interaction
# turn by turn, and follow what is said of a turn. One model learns the games; from it come two that
# succeed less often. Their rates were measured before any method was run on them. Resumable.
#   nohup runs/nano/turns.sh > turns.log 2>&1 &
# They lie in runs-out/organisms/turns/model and turns-rare/model, each with its card.
set -eu
cd "$(dirname "$0")/../.."
RESD=${RESD:-.venv/bin/resd-bench}
OUT=${OUT:-runs-out/organisms}
export OMP_NUM_THREADS=1
make() {
  nice -n 15 "$RESD" nano pretrain --out "$OUT/$1" --start "$2" --seed "$3" --steps "$4" \
    --learning-rate 0.003 --curriculum textworld-coin,guess-number --dial turns=0.4 --dial odds="$5"
  nice -n 15 "$RESD" nano card --model "$OUT/$1/model" --samples 2
}
make turns-start nano 7 "${STEPS:-1500}" 1.0
make turns "$OUT/turns-start/model" 9 "${LESS_STEPS:-500}" 0.6
make turns-rare "$OUT/turns-start/model" 8 "${LESS_STEPS:-500}" 0.15
