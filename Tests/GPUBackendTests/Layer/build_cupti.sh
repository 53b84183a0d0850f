#!/usr/bin/env bash
# The counter below CUDA's driver: build_cupti.sh WHEELS FOLDER makes FOLDER/count_cupti.so
#
# WHEELS is the folder `nvidia` of the wheels nvidia-cuda-cupti and nvidia-cuda-runtime. It is linked with
# CUPTI itself, and looks for it where the loader does and beside itself.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"${CC:-gcc}" -std=c11 -O1 -Wall -Wextra -Werror -shared -fPIC \
  -isystem "$here" -isystem "$1/cuda_cupti/include" -isystem "$1/cuda_runtime/include" \
  -o "$2/count_cupti.so" "$here/count_cupti.c" "$1/cuda_cupti/lib/libcupti.so.12" \
  "-Wl,-rpath,\$ORIGIN"
