#!/bin/sh
# Models that differ in what an attempt tells (keep) and in the seed of what they were shown: do
# findings depend on the organism? One after another, each resumable; what is finished is skipped.
#   nohup runs/nano/organisms.sh > organisms.log 2>&1 &
# Each is nano after 500 steps more on documents of finer, so that they share nano's first 6,000. It lies
# in runs-out/organisms/nano-keep-K-seed-S/model with its card; nano-keep-0.95 differs from nano in those
# steps alone. A step takes 0.6 CPU seconds on one thread (torch 2.13, 5,500 tokens), and a second process
# writes documents meanwhile.
# AGAIN=1 makes runs-out/organisms/nano-again too, nano's recipe from other random weights: 1 h of CPU time.
set -eu
cd "$(dirname "$0")/../.."
RESD=${RESD:-.venv/bin/resd-bench}
OUT=${OUT:-runs-out/organisms}
export OMP_NUM_THREADS=1
make() {  # NAME, then options of nano pretrain
  name=$1; shift
  [ -f "$OUT/$name/model/pretraining.json" ] || nice -n 15 "$RESD" nano pretrain --out "$OUT/$name" "$@"
  [ -f "$OUT/$name/model/README.md" ] || nice -n 15 "$RESD" nano card --model "$OUT/$name/model" --samples 2
}
for seed in 0 1; do
  for keep in prior 0.8 0.95; do
    make "nano-keep-$keep-seed-$seed" --start nano --seed "1$seed" --steps "${STEPS:-500}" --learning-rate 0.002 \
      --curriculum finer --dial keep="$keep"
  done
done
[ -z "${AGAIN:-}" ] || make nano-again --seed 1 --steps 6000
