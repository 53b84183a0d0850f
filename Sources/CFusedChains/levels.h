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
