#!/usr/bin/env bash
# Two 300-step decodes under an independent counter: run.sh PATH-OF-GPU-CHECK
#
# Builds the layer, runs gpu-check with it, and compares calls and bytes with the backend's own
# account. Needs gcc or clang, opencl-c-headers and ocl-icd 2.3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${CC:-cc}" -std=c11 -O1 -Wall -Werror -shared -fPIC -o "$work/count.so" "$here/count.c"
OPENCL_LAYERS="$work/count.so" "$1" opencl --decode >"$work/out" 2>"$work/err" || {
  cat "$work/out" "$work/err"
  exit 1
}
cat "$work/out"
ours=$(sed -n 's/^all copies: //p' "$work/out")
theirs=$(sed -n 's/^layer: //p' "$work/err")
echo "backend: $ours"
echo "layer:   $theirs"
[ -n "$theirs" ] || { echo "the layer was not loaded: ocl-icd 2.3 or later is needed"; exit 1; }
[ "$theirs" = "$ours other 0" ] || { echo "the two accounts differ"; exit 1; }
echo "equal to the byte, and no other way was used"
