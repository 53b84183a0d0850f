// One language out of two: OpenCL C 1.2 and CUDA C++ (through NVRTC).
//
// In:  a compiler that defines __OPENCL_VERSION__ or __CUDACC__.
// Out: the words that every kernel of this folder is written in.
//
// A kernel is one work-group (CUDA: block) of a fixed number of items (threads), GROUP or WIDE, and
// a grid of groups in one or two dimensions. The arithmetic is the package's reference order: FMA
// is one fused multiply-add, and a product and a sum that the text does not fuse stay two roundings
// (FP_CONTRACT OFF here, --fmad=false for NVRTC). Division and square root round correctly: in CUDA
// by name, in OpenCL as the device says (the host asks for it where the device offers it).
//
// Rules that both languages can keep:
//   SHARED arrays stand at the top of a kernel and have a constant size;
//   a pointer to one says SHARED_PTR;
//   parameters are pointers, int, float and double; offsets are computed as size_t;
//   every item of a group reaches every BARRIER: no return and no break before one.

#if defined(__OPENCL_VERSION__)
#pragma OPENCL FP_CONTRACT OFF
#ifdef LRQK_DOUBLE
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#define KERNEL(size) __kernel __attribute__((reqd_work_group_size(size, 1, 1))) void
#define GLOBAL __global
#define SHARED __local
#define SHARED_PTR __local
#define DEVFN static inline
#define GROUP_ID(d) ((int)get_group_id(d))
#define LOCAL_ID ((int)get_local_id(0))
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#define FMA(a, b, c) fma((a), (b), (c))
#define DIVIDE(a, b) ((a) / (b))
#define ROOT(x) sqrt(x)
#define RINT(x) rint(x)
#define BITS_TO_FLOAT(i) as_float((int)(i))
#define FLOAT_TO_BITS(x) as_uint(x)
#define COUNT_ONE(p) atomic_inc(p)
#elif defined(__CUDACC__)
#define KERNEL(size) extern "C" __global__ __launch_bounds__(size, 1) void
#define GLOBAL
#define SHARED __shared__
#define SHARED_PTR
#define DEVFN static __device__ __forceinline__
#define GROUP_ID(d) ((int)((d) == 0 ? blockIdx.x : blockIdx.y))
#define LOCAL_ID ((int)threadIdx.x)
#define BARRIER() __syncthreads()
DEVFN float FMA(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVFN double FMA(double a, double b, double c) { return __fma_rn(a, b, c); }
DEVFN float DIVIDE(float a, float b) { return __fdiv_rn(a, b); }
DEVFN double DIVIDE(double a, double b) { return __ddiv_rn(a, b); }
DEVFN float ROOT(float x) { return __fsqrt_rn(x); }
DEVFN double ROOT(double x) { return __dsqrt_rn(x); }
#define RINT(x) rintf(x)
#define BITS_TO_FLOAT(i) __int_as_float((int)(i))
#define FLOAT_TO_BITS(x) ((unsigned int)__float_as_int(x))
#define COUNT_ONE(p) atomicAdd((p), 1)
#else
#error "these kernels are OpenCL C or CUDA C++"
#endif

#define INFINITE BITS_TO_FLOAT(0x7f800000)

// Items of a group: where groups share out columns or tokens, and where one group does a whole
// head.
#define GROUP 64
#define WIDE 256

// How many of `count` things come before item `id` when each takes `CHUNK(count)` in a row.
#define CHUNK(count) (((count) + WIDE - 1) / WIDE)

DEVFN int least(int a, int b) { return a < b ? a : b; }

// The place of `token` in an ascending list of `count`, or -1.
DEVFN int place_of(GLOBAL const int *list, int count, int token) {
  int low = 0, high = count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (list[middle] < token) low = middle + 1;
    else high = middle;
  }
  return low < count && list[low] == token ? low : -1;
}

// The sum of counts[0 ..< id]; every item has written its own before. WIDE additions, no tricks.
DEVFN int sum_before(SHARED_PTR const int *counts, int id) {
  int sum = 0;
  for (int i = 0; i < id; i++) sum += counts[i];
  return sum;
}
