#!/bin/sh
# Five kinds of attention, three seeds each: trains them and prints the table of Docs/training.md.
#
#   Examples/Recipes/variants/run.sh FOLDER        about 20 minutes on two cores
#
# The loss is the mean over the last 50 steps, in nats a token: no text comes twice, so each batch is
# new to the model that it is shown to. The batches of a seed are the same for all kinds, so a kind is
# compared with MHA seed by seed. A run that was stopped goes on.
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
  function deviation(sum, squares, n,   v) { v = (squares - sum * sum / n) / (n - 1); return v > 0 ? sqrt(v) : 0 }
  {
    kind = $1; seed = ++n[kind]; loss[kind] += $2; square[kind] += $2 * $2; time[kind] += $3
    if (seed == 1) order[++kinds] = kind
    if (kinds == 1) first[seed] = $2
    more = $2 - first[seed]; difference[kind] += more; squares[kind] += more * more
  }
  END {
    print "attention,loss,deviation,loss - mha,deviation,seconds a step"
    for (i = 1; i <= kinds; i++) {
      k = order[i]
      printf "%s,%.4f,%.4f,%.4f,%.4f,%.3f\n", k, loss[k] / n[k], deviation(loss[k], square[k], n[k]),
        difference[k] / n[k], deviation(difference[k], squares[k], n[k]), time[k] / n[k]
    }
  }'
