#!/usr/bin/env bash
# The GPU backend on a machine with an NVIDIA driver and without Swift.
#
#   run-on-cuda.sh pack FOLDER    here: builds gpu-check so that it needs libc and libstdc++ alone,
#                                 compiles the kernels, and puts both into FOLDER (43 MB)
#   FOLDER/run-on-cuda.sh run     there: runs every check and the timings; exit status as gpu-check's
#
# Packing needs what README.md installs, g++ and libgfortran-12-dev, and NVRTC: pip install --no-deps --target .nvrtc
# nvidia-cuda-nvrtc-cu12==12.9.86, or LRQK_NVRTC with the library's path.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case "${1:-}" in
pack)
  [ $# -eq 2 ] || { echo "usage: run-on-cuda.sh pack FOLDER" >&2; exit 64; }
  mkdir -p "$2"
  out=$(cd "$2" && pwd)
  cd "$here/../.."
  nvrtc=${LRQK_NVRTC:-$PWD/.nvrtc/nvidia/cuda_nvrtc/lib/libnvrtc.so.12}
  # OpenBLAS, LAPACKE and Fortran's runtime as archives: a pkg-config file of our own comes first.
  static=$PWD/.build-static-libraries
  libraries=/usr/lib/$(uname -m)-linux-gnu
  mkdir -p "$static/pc"
  ln -sf "$libraries/openblas-pthread/libopenblas.a" "$libraries/liblapacke.a" \
    "$(gcc -print-file-name=libgfortran.a)" "$(gcc -print-file-name=libquadmath.a)" "$static/"
  printf 'Name: openblas\nDescription: static\nVersion: 0\nLibs: -L%s -llapacke -lopenblas -lgfortran -lquadmath -lm -lpthread\nCflags: -I%s\n' \
    "$static" "/usr/include/$(uname -m)-linux-gnu/openblas-pthread" >"$static/pc/openblas.pc"
  PKG_CONFIG_PATH=$static/pc swift build -c release --traits CUDA --static-swift-stdlib \
    --product gpu-check --scratch-path .build-cuda-static
  cp "$(swift build -c release --traits CUDA --scratch-path .build-cuda-static --show-bin-path)/gpu-check" "$out/"
  strip "$out/gpu-check"
  python3 Tests/GPUBackendTests/Vendor/compile_cuda.py "$nvrtc" "$out/images"
  cp "$here/run-on-cuda.sh" "$out/"
  du -sh "$out"
  ;;
run)
  # PTX for compute_80 runs on every device from Ampere on; machine code of the device itself is
  # taken where it is here.
  images=$here/images/compute_80
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .) || capability=
  [ -n "$capability" ] && [ -d "$here/images/sm_$capability" ] && images=$here/images/sm_$capability
  [ -n "$capability" ] && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  echo "kernels: $images"
  LRQK_CUDA_IMAGES=$images exec "$here/gpu-check" cuda --bench
  ;;
*)
  echo "usage: run-on-cuda.sh pack FOLDER | run" >&2
  exit 64
  ;;
esac
