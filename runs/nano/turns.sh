#!/bin/sh
# Models that speak two games of many turns, textworld-coin and guess-number, review an interaction
# turn by turn, and follow what is said of a turn. Untaught they succeed at about 1% (turns) and 0.1%
# (turns-rare) of tasks by construction: see tests/nano/test_turn_documents.py. Resumable.
#   nohup runs/nano/turns.sh > turns.log 2>&1 &
# They lie in runs-out/organisms/turns/model and turns-rare/model, each with its card. Compare the
# first rows of the cards with these rates before any method is run on them.
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
make turns nano 7 "${STEPS:-1500}" 1.0
make turns-rare "$OUT/turns/model" 8 "${RARE_STEPS:-500}" 0.4
