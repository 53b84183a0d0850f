// The words that CUDA's compiler has for its headers, without the compiler (its wheel has 40 MB).
//
// CUPTI's header includes vector types that are written with them; nothing that is used here is.

#ifndef LRQK_HOST_DEFINES_H
#define LRQK_HOST_DEFINES_H
#define __host__
#define __device__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __cudart_builtin__
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __align__(n) __attribute__((aligned(n)))
#endif
