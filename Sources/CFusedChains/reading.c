// Reads memory and does next to nothing with it: what a benchmark compares other reads with.

#include "CFusedChains.h"
#include "levels.h"

// 64 bytes: one AVX-512 register, two of AVX2, four of the baseline.
typedef uint64_t block __attribute__((vector_size(64), aligned(8)));
#define BLOCK_WORDS 8
// Eight places are read in turn, because a processor fetches ahead for several at the same time:
// 10 to 25 % more than one place alone.
#define PLACES 8

#define DEFINE_READ(LEVEL, TARGET)                                                              \
  static TARGET uint64_t read_##LEVEL(ptrdiff_t n, const uint64_t *words) {                     \
    ptrdiff_t part = n / PLACES / BLOCK_WORDS * BLOCK_WORDS;                                    \
    block seen[PLACES] = {{0}};                                                                 \
    for (ptrdiff_t i = 0; i < part; i += BLOCK_WORDS) {                                         \
      UNROLL for (int p = 0; p < PLACES; p++) seen[p] ^= *(const block *)(words + p * part + i); \
    }                                                                                           \
    uint64_t parity = 0;                                                                        \
    for (int p = 0; p < PLACES; p++)                                                            \
      for (int j = 0; j < BLOCK_WORDS; j++) parity ^= seen[p][j];                               \
    for (ptrdiff_t i = PLACES * part; i < n; i++) parity ^= words[i];                           \
    return parity;                                                                              \
  }

DEFINE_READ(plain, )
#if HAVE_LEVELS
DEFINE_READ(avx2, TARGET_AVX2)
DEFINE_READ(avx512, TARGET_AVX512)
#endif

uint64_t chains_read(ptrdiff_t n, const uint64_t *words) {
#if HAVE_LEVELS
  switch (chains_level()) {
    case 2: return read_avx512(n, words);
    case 1: return read_avx2(n, words);
  }
#endif
  return read_plain(n, words);
}
