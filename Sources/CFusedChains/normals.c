// Compiles normals_template.inc once per instruction set, and dispatches.

#include "CFusedChains.h"
#include "levels.h"

// Products and sums round one by one.
#pragma STDC FP_CONTRACT OFF

#define LEVEL plain
#define TARGET
#define LANES 2
#include "normals_template.inc"
#undef LEVEL
#undef TARGET

#if HAVE_LEVELS
#define LEVEL avx2
#define TARGET TARGET_AVX2
#define LANES 4
#include "normals_template.inc"
#undef LEVEL
#undef TARGET

#define LEVEL avx512
#define TARGET TARGET_AVX512
#define LANES 8
#include "normals_template.inc"
#undef LEVEL
#undef TARGET

#define DISPATCH(T, ...)                                                                        \
  switch (chains_level()) {                                                                     \
    case 2: T##_normals_avx512(__VA_ARGS__); return;                                            \
    case 1: T##_normals_avx2(__VA_ARGS__); return;                                              \
    default: T##_normals_plain(__VA_ARGS__); return;                                            \
  }
#else
#define DISPATCH(T, ...) T##_normals_plain(__VA_ARGS__);
#endif

void chains_normals_f32(uint64_t start, uint64_t offset, ptrdiff_t count, float *out) {
  DISPATCH(f32, start, offset, count, out)
}

void chains_normals_f64(uint64_t start, uint64_t offset, ptrdiff_t count, double *out) {
  DISPATCH(f64, start, offset, count, out)
}
