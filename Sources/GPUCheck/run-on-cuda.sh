#!/usr/bin/env bash
# The GPU backend on a machine with an NVIDIA driver and without Swift.
#
#   run-on-cuda.sh pack FOLDER    here: builds gpu-check so that it needs libc and libstdc++ alone,
#                                 compiles the kernels, and puts both into FOLDER (43 MB)
#   FOLDER/run-on-cuda.sh run     there: device and driver, every check and its verdict, times and
#                                 the fraction of a plain copy's bandwidth; then the decodes again
#                                 with CUPTI counting their copies. Exit status as gpu-check's: 0,
#                                 1, or 2 without a device; 1 too where CUPTI found other numbers.
#
# Packing needs what README.md installs, g++ and libgfortran-12-dev, and NVIDIA's compiler, its headers and
# its counter: pip install --no-deps --target .nvrtc nvidia-cuda-nvrtc-cu12==12.9.86
# nvidia-cuda-runtime-cu12==12.9.79 nvidia-cuda-cupti-cu12==12.9.79. LRQK_NVRTC names another NVRTC.
# Without CUPTI's wheel the folder has no counter, and `run` says so.
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
  if [ -e .nvrtc/nvidia/cuda_cupti ]; then
    Tests/GPUBackendTests/Layer/build_cupti.sh .nvrtc/nvidia "$out"
    cp .nvrtc/nvidia/cuda_cupti/lib/libcupti.so.12 "$out/"
  fi
  cp "$here/run-on-cuda.sh" "$out/"
  du -sh "$out"
  ;;
run)
  # PTX for compute_80 runs on every device from Ampere on; machine code of the device itself is
  # taken where it is here.
  images=$here/images/compute_80
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .) || capability=
  [ -n "$capability" ] && [ -d "$here/images/sm_$capability" ] && images=$here/images/sm_$capability
  if [ -n "$capability" ]; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  elif [ -e /proc/driver/nvidia/version ]; then
    head -1 /proc/driver/nvidia/version
  fi
  echo "kernels: $images"
  export LRQK_CUDA_IMAGES=$images
  status=0
  "$here/gpu-check" cuda --bench || status=$?
  [ "$status" -le 1 ] || exit "$status"

  if [ ! -e "$here/count_cupti.so" ]; then
    echo "CUPTI: not packed, so there is no second count"
    exit "$status"
  fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  CUDA_INJECTION64_PATH=$here/count_cupti.so "$here/gpu-check" cuda --decode \
    >"$work/out" 2>"$work/err" || { cat "$work/out" "$work/err"; exit 1; }
  ours=$(sed -n 's/^all copies: //p' "$work/out")
  theirs=$(sed -n 's/^cupti: //p' "$work/err")
  echo "backend: $ours"
  echo "CUPTI:   ${theirs:-nothing; $(cat "$work/err")}"
  [ "$theirs" = "$ours other 0" ] || { echo "the two accounts differ"; exit 1; }
  echo "equal to the byte, and no other way was used"
  exit "$status"
  ;;
*)
  echo "usage: run-on-cuda.sh pack FOLDER | run" >&2
  exit 64
  ;;
esac
