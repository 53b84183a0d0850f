// What every text that is compiled for several instruction sets needs: names, lists of lanes.

#ifndef CFUSEDCHAINS_LEVELS_H
#define CFUSEDCHAINS_LEVELS_H

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)

// f(0, h), f(1, h), ... for every lane of a vector: the index lists of shuffles.
#define EACH_2(f, h) f(0, h), f(1, h)
#define EACH_4(f, h) EACH_2(f, h), f(2, h), f(3, h)
#define EACH_8(f, h) EACH_4(f, h), f(4, h), f(5, h), f(6, h), f(7, h)
#define EACH_16(f, h)                                                                           \
  EACH_8(f, h), f(8, h), f(9, h), f(10, h), f(11, h), f(12, h), f(13, h), f(14, h), f(15, h)
#define EACH__(lanes, f, h) EACH_##lanes(f, h)
#define EACH_(lanes, f, h) EACH__(lanes, f, h)
#define EACH(f, h) EACH_(LANES, f, h)

// Transposes LANES vectors of LANES lanes in registers: for h = 8, 4, 2, 1 vectors x and x + h
// exchange the lanes whose bit h differs from their own, that is, row bits and lane bits swap
// places.
#define KEEP(l, h) ((l) & (h) ? LANES + (l) - (h) : (l))
#define GIVE(l, h) ((l) & (h) ? LANES + (l) : (l) + (h))
#define EXCHANGE(V, tile, h)                                                                    \
  if (h < LANES) {                                                                              \
    UNROLL for (int x = 0; x < LANES; x++) {                                                    \
      if (x & h) continue;                                                                      \
      V a = tile[x], b = tile[(x + h) % LANES];                                                 \
      tile[x] = __builtin_shufflevector(a, b, EACH(KEEP, ((h) & (LANES - 1))));                 \
      tile[(x + h) % LANES] = __builtin_shufflevector(a, b, EACH(GIVE, ((h) & (LANES - 1))));   \
    }                                                                                           \
  }
#define TRANSPOSE(V, tile)                                                                      \
  EXCHANGE(V, tile, 8) EXCHANGE(V, tile, 4) EXCHANGE(V, tile, 2) EXCHANGE(V, tile, 1)

#define UNROLL _Pragma("clang loop unroll(full)")

#if defined(__x86_64__)
#define HAVE_LEVELS 1
#else
#define HAVE_LEVELS 0
#endif

// The instructions that levels 1 and 2 may use; chains_best_level asks the machine for them.
#define TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#define TARGET_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,f16c")))

#endif
