#!/usr/bin/env bash
# The mock driver: build.sh WHEELS FOLDER makes FOLDER/libcuda.so.1, which is FOLDER/libcupti.so.12 as well
#
# WHEELS is the folder `nvidia` of the wheels nvidia-cuda-cupti and nvidia-cuda-runtime.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"${CXX:-g++}" -std=c++17 -O2 -ffp-contract=off -Wall -Werror -shared -fPIC \
  -I "$here/../../../Sources/GPUBackend/Kernels" -isystem "$here/../Layer" \
  -isystem "$1/cuda_cupti/include" -isystem "$1/cuda_runtime/include" \
  -o "$2/libcuda.so.1" "$here/libcuda.cpp" "$here/libcupti.cpp"
ln -sf libcuda.so.1 "$2/libcupti.so.12"
