// Compiles codes_template.inc once per instruction set, and dispatches.

#include "CFusedChains.h"
#include "levels.h"

// No product and sum may be fused unless the text says fma, at any level.
#pragma STDC FP_CONTRACT OFF

// A finite binary16 as a float: the exponent lacks 127 - 15 once the bits have moved, and a product
// with 2^112 repairs that, exactly.
static inline float half_value(uint32_t bits) {
  uint32_t size = (bits & 0x7FFF) << 13;
  float value;
  __builtin_memcpy(&value, &size, sizeof value);
  value *= 0x1p112f;
  return bits & 0x8000 ? -value : value;
}

#define LEVEL plain
#define TARGET
#include "codes_template.inc"

#if HAVE_LEVELS
#define LEVEL avx2
#define TARGET TARGET_AVX2
#include "codes_template.inc"

#define LEVEL avx512
#define TARGET TARGET_AVX512
#include "codes_template.inc"
#endif

void chains_unpack(ptrdiff_t n, ptrdiff_t width, int bits, ptrdiff_t group, const uint32_t *words,
                   ptrdiff_t row_words, const int32_t *slots, float *out) {
#if HAVE_LEVELS
  switch (chains_level()) {
    case 2: unpack_codes_avx512(n, width, bits, group, words, row_words, slots, out); return;
    case 1: unpack_codes_avx2(n, width, bits, group, words, row_words, slots, out); return;
  }
#endif
  unpack_codes_plain(n, width, bits, group, words, row_words, slots, out);
}

void chains_integers(ptrdiff_t n, ptrdiff_t width, int bits, const uint8_t *bytes,
                     const int32_t *slots, float *out) {
#if HAVE_LEVELS
  switch (chains_level()) {
    case 2: unpack_integers_codes_avx512(n, width, bits, bytes, slots, out); return;
    case 1: unpack_integers_codes_avx2(n, width, bits, bytes, slots, out); return;
  }
#endif
  unpack_integers_codes_plain(n, width, bits, bytes, slots, out);
}
