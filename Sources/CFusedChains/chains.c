// Compiles chains_template.inc once per element type and instruction set, and dispatches.

#include "CFusedChains.h"
#include "levels.h"

#include <stdatomic.h>
#if defined(__linux__)
#include <malloc.h>
#endif

// No product and sum may be fused unless the text says fma, at any level.
#pragma STDC FP_CONTRACT OFF

// ---- Level 0: the compiler's baseline -----------------------------------------------------------
#define LEVEL plain
#define TARGET
#define TILE_ROWS 4
#define HEADS 4

#define E float
#define I int32_t
#define TYPE f32
#define LANES 4
#include "chains_template.inc"
#define E double
#define I int64_t
#define TYPE f64
#define LANES 2
#include "chains_template.inc"

#undef LEVEL
#undef TARGET
#undef TILE_ROWS
#undef HEADS

#if HAVE_LEVELS
// ---- Level 1: AVX2 with FMA ---------------------------------------------------------------------
#define LEVEL avx2
#define TARGET TARGET_AVX2
#define TILE_ROWS 6
#define HEADS 4

#define E float
#define I int32_t
#define TYPE f32
#define LANES 8
#include "chains_template.inc"
#define E double
#define I int64_t
#define TYPE f64
#define LANES 4
#include "chains_template.inc"

#undef LEVEL
#undef TARGET
#undef TILE_ROWS
#undef HEADS

// ---- Level 2: AVX-512 ---------------------------------------------------------------------------
#define LEVEL avx512
#define TARGET TARGET_AVX512
#define TILE_ROWS 8
#define HEADS 8

#define E float
#define I int32_t
#define TYPE f32
#define LANES 16
#include "chains_template.inc"
#define E double
#define I int64_t
#define TYPE f64
#define LANES 8
#include "chains_template.inc"

#undef LEVEL
#undef TARGET
#undef TILE_ROWS
#undef HEADS
#endif

// ---- Which level runs ---------------------------------------------------------------------------

int chains_best_level(void) {
#if HAVE_LEVELS
  static _Atomic int known = -1;
  int best = atomic_load_explicit(&known, memory_order_relaxed);
  if (best < 0) {
    // These also ask whether the operating system saves the wide registers.
    __builtin_cpu_init();
    best = 0;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
      best = 1;
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        best = 2;
    }
    atomic_store_explicit(&known, best, memory_order_relaxed);
  }
  return best;
#else
  return 0;
#endif
}

static _Thread_local int forced_level = -1;

int chains_level(void) {
  int best = chains_best_level();
  return forced_level < 0 || forced_level > best ? best : forced_level;
}

int chains_set_level(int level) {
  forced_level = level;
  return chains_level();
}

// ---- The public functions: the same call at the level in use ------------------------------------

#if HAVE_LEVELS
#define DISPATCH(name, T, ...)                                                                  \
  switch (chains_level()) {                                                                     \
    case 2: return name##_##T##_avx512(__VA_ARGS__);                                            \
    case 1: return name##_##T##_avx2(__VA_ARGS__);                                              \
    default: return name##_##T##_plain(__VA_ARGS__);                                            \
  }
#else
#define DISPATCH(name, T, ...) return name##_##T##_plain(__VA_ARGS__);
#endif

#define CHAINS_DEFINE(E, T)                                                                     \
  void chains_matmul_##T(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const E *a, ptrdiff_t a_row,   \
                         ptrdiff_t a_column, const E *b, ptrdiff_t b_row, E *out,               \
                         ptrdiff_t out_row, int accumulate) {                                   \
    DISPATCH(matmul, T, m, n, k, a, a_row, a_column, b, b_row, out, out_row, accumulate)        \
  }                                                                                             \
  int chains_gram_##T(ptrdiff_t k, ptrdiff_t n, const E *x, E *out, int accumulate) {           \
    DISPATCH(gram, T, k, n, x, out, accumulate)                                                 \
  }                                                                                             \
  void chains_row_scores_##T(ptrdiff_t n, ptrdiff_t width, const E *rows, const E *q, E *out) { \
    DISPATCH(row_scores, T, n, width, rows, q, out)                                             \
  }                                                                                             \
  void chains_indexed_scores_##T(ptrdiff_t n, ptrdiff_t width, const E *rows,                  \
                                 const int32_t *slots, const E *q, E scale, E *out) {           \
    DISPATCH(indexed_scores, T, n, width, rows, slots, q, scale, out)                           \
  }                                                                                             \
  void chains_indexed_weighted_sum_##T(ptrdiff_t n, ptrdiff_t width, const E *rows,            \
                                       const int32_t *slots, const E *weights, E *out) {        \
    DISPATCH(indexed_weighted_sum, T, n, width, rows, slots, weights, out)                      \
  }                                                                                             \
  void chains_group_scores_##T(ptrdiff_t n, ptrdiff_t width, const E *rows,                     \
                               const int32_t *slots, ptrdiff_t heads, const E *q, E scale,      \
                               E *out) {                                                        \
    DISPATCH(group_scores, T, n, width, rows, slots, heads, q, scale, out)                      \
  }                                                                                             \
  void chains_group_weighted_sum_##T(ptrdiff_t n, ptrdiff_t width, const E *rows,               \
                                     const int32_t *slots, ptrdiff_t heads, const E *weights,   \
                                     E *out) {                                                  \
    DISPATCH(group_weighted_sum, T, n, width, rows, slots, heads, weights, out)                 \
  }                                                                                             \
  void chains_exponentials_##T(ptrdiff_t n, E *x) { DISPATCH(exponentials, T, n, x) }           \
  void chains_gate_##T(ptrdiff_t n, const E *z, const E *u, E *out) {                           \
    DISPATCH(gate, T, n, z, u, out)                                                             \
  }                                                                                             \
  void chains_causal_attention_##T(ptrdiff_t first, ptrdiff_t count, ptrdiff_t window,          \
                                   ptrdiff_t width, const E *q, const E *k, const E *v,         \
                                   ptrdiff_t columns, E scale, E *out, ptrdiff_t out_row,       \
                                   E *scratch) {                                                \
    DISPATCH(causal_attention, T, first, count, window, width, q, k, v, columns, scale, out,    \
             out_row, scratch)                                                                  \
  }                                                                                             \
  ptrdiff_t chains_cholesky_##T(ptrdiff_t n, E *a, E threshold, E *smallest, E *largest) {      \
    DISPATCH(cholesky, T, n, a, threshold, smallest, largest)                                   \
  }                                                                                             \
  void chains_cholesky_solve_##T(ptrdiff_t n, ptrdiff_t m, const E *l, E *b) {                  \
    DISPATCH(cholesky_solve, T, n, m, l, b)                                                     \
  }

CHAINS_DEFINE(float, f32)
CHAINS_DEFINE(double, f64)

// ---- Rows that are moved, not computed ----------------------------------------------------------

void chains_copy_rows(ptrdiff_t n, size_t row_bytes, const void *from, const ptrdiff_t *rows,
                      void *to, const ptrdiff_t *slots) {
  const ptrdiff_t ahead = 8;
  const char *source = from;
  char *target = to;
  for (ptrdiff_t i = 0; i < n; i++) {
    if (i + ahead < n)
      for (size_t byte = 0; byte < row_bytes; byte += 64) {
        __builtin_prefetch(source + (size_t)rows[i + ahead] * row_bytes + byte, 0);
        __builtin_prefetch(target + (size_t)slots[i + ahead] * row_bytes + byte, 1);
      }
    __builtin_memcpy(target + (size_t)slots[i] * row_bytes, source + (size_t)rows[i] * row_bytes,
                     row_bytes);
  }
}

void chains_keep_freed_memory(void) {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_ARENA_MAX, 1);  // the arenas of other threads give memory back whatever the threshold
#endif
}
