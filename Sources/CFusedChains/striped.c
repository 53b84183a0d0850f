// Compiles striped_template.inc once per instruction set, and dispatches.

#include "CFusedChains.h"
#include "levels.h"

// No product and sum may be fused unless the text says fma, at any level.
#pragma STDC FP_CONTRACT OFF

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights are read as they lie in the file, which is little-endian"
#endif

// Chains of a pair of rows: part of the definition.
#define STRIPES 16
// Rows of W that are read side by side.
#define BLOCK 6

// ---- Level 0: the compiler's baseline -----------------------------------------------------------
#define LEVEL plain
#define TARGET
#define LANES 4
#define X_ROWS 1
#define W_ROWS(x) 1
#define TILE_VECTORS 4
#include "striped_template.inc"

#if HAVE_LEVELS
// ---- Level 1: AVX2 with FMA and F16C, 16 registers ----------------------------------------------
#define LEVEL avx2
#define TARGET TARGET_AVX2
#define LANES 8
#define X_ROWS 2
#define W_ROWS(x) (6 / (x))
#define TILE_VECTORS 2
#include "striped_template.inc"

// ---- Level 2: AVX-512, 32 registers -------------------------------------------------------------
#define LEVEL avx512
#define TARGET TARGET_AVX512
#define LANES 16
#define X_ROWS 4
#define W_ROWS(x) 6
#define TILE_VECTORS 4
#include "striped_template.inc"
#endif

// ---- The public functions: the same call at the level in use ------------------------------------

#if HAVE_LEVELS
#define DISPATCH(name, ...)                                                                     \
  switch (chains_level()) {                                                                     \
    case 2: name##_striped_avx512(__VA_ARGS__); return;                                         \
    case 1: name##_striped_avx2(__VA_ARGS__); return;                                           \
    default: name##_striped_plain(__VA_ARGS__); return;                                         \
  }
#else
#define DISPATCH(name, ...) name##_striped_plain(__VA_ARGS__);
#endif

void chains_striped_products(ptrdiff_t n, ptrdiff_t rows, ptrdiff_t width, const float *x,
                             const void *w, int format, float *out, ptrdiff_t out_row) {
  DISPATCH(products, n, rows, width, x, w, format, out, out_row)
}

void chains_panel_products(ptrdiff_t n, ptrdiff_t rows, ptrdiff_t width, const float *x,
                           const void *w, int format, float *out, ptrdiff_t out_row) {
  DISPATCH(panel_products, n, rows, width, x, w, format, out, out_row)
}

void chains_widen(ptrdiff_t n, const void *w, int format, float *out) {
  DISPATCH(widen_all, n, w, format, out)
}
