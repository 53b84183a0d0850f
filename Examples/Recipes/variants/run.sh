#!/bin/sh
# Five kinds of attention, three seeds each: trains them and prints the table of Docs/training.md.
#
#   Examples/Recipes/variants/run.sh FOLDER        about 20 minutes on two cores
#
# The loss is the mean over the last 50 steps, in nats a token: no text comes twice, so each batch is
# new to the model that it is shown to. A run that was stopped goes on.
set -eu
here=$(dirname "$0")
out=${1:?"a folder for the runs"}
for seed in 1 2 3; do
  for kind in mha gqa mqa mla lrkv; do
    [ -d "$out/$kind-$seed/model" ] ||
      lrqk train --recipe "$here/$kind.json" --seed "$seed" --output "$out/$kind-$seed" \
        --report-every 200
  done
done
for kind in mha gqa mqa mla lrkv; do
  for seed in 1 2 3; do
    tail -n 50 "$out/$kind-$seed/log.csv" |
      awk -F, -v kind="$kind" '{loss += $5; time += $10} END {print kind, loss / NR, time / NR}'
  done
done | awk '
  {n[$1]++; loss[$1] += $2; square[$1] += $2 * $2; time[$1] += $3; if (n[$1] == 1) order[++kinds] = $1}
  END {
    print "attention,loss,deviation,seconds a step"
    for (i = 1; i <= kinds; i++) {
      k = order[i]; mean = loss[k] / n[k]
      printf "%s,%.4f,%.4f,%.3f\n", k, mean, sqrt((square[k] - n[k] * mean * mean) / (n[k] - 1)), time[k] / n[k]
    }
  }'
