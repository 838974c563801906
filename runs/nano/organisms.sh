#!/bin/sh
# Models that differ in what an attempt tells (keep) and in the seed of their pre-training: do
# findings depend on the organism? One after another, each resumable; what is finished is skipped.
#   nohup runs/nano/organisms.sh > organisms.log 2>&1 &
# A step takes 0.6 CPU seconds on one thread (torch 2.13, 5,500 tokens), so that 6,000 steps take an hour of
# CPU time, and a second process writes documents meanwhile. The card takes a few minutes more.
# They lie in runs-out/organisms/keep-K-seed-S/model, which is what --model takes. keep 0.95 with
# seed 0 is nano itself. STEPS=700 START=nano makes cheaper ones, which share the start.
set -eu
cd "$(dirname "$0")/../.."
RESD=${RESD:-.venv/bin/resd-bench}
STEPS=${STEPS:-6000}
START=${START:-}
export OMP_NUM_THREADS=1
for seed in 0 1; do
  for keep in prior 0.8 0.95; do
    [ "$keep-$seed-$START" = "0.95-0-" ] && continue
    out=runs-out/organisms/keep-$keep-seed-$seed${START:+-from-$START}
    [ -f "$out/model/pretraining.json" ] && continue
    nice -n 15 "$RESD" nano pretrain --out "$out" --seed "$seed" --steps "$STEPS" \
      --dial keep="$keep" ${START:+--start "$START" --learning-rate 0.002}
    nice -n 15 "$RESD" nano card --model "$out/model" --samples 2
  done
done
