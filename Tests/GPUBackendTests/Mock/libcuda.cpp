// A CUDA driver without a GPU: the kernels, compiled by a C++ compiler, one thread after the other.
//
// In:  the calls of CUDADevice.swift. Out: the same answers as from a driver, with memory of the host.
//
// It is no proof that the backend runs on a GPU. It shows what can be shown without one: that the CUDA
// side of the kernels' text has the CPU's bits, that every argument arrives where the kernel reads it,
// and that grids, copies and counts are right. Between barriers the threads run one after the other, in
// another order every time, so that most missing barriers show as wrong bits. What it cannot show: the
// memory model, PTX, and time.
//
// It loads what CUDA_INJECTION64_PATH names, as a driver does, and tells libcupti.cpp of each copy.
//
// build.sh builds both as one library.
//
// A thread of a group is a stack of its own. It runs until __syncthreads() or its end; then the next
// one does. Switching by _setjmp costs some nanoseconds; ucontext only makes the first jump.

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <map>
#include <string>
#include <utility>

// ---- What the kernels' text takes for granted -----------------------------------------------------
#define __CUDACC__
#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline, unused))
#define __launch_bounds__(...)
#define __restrict__
#define __shared__ static

struct Index {
  unsigned int x, y, z;
};
static Index threadIdx, blockIdx;
static void __syncthreads();

static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline double __dsqrt_rn(double x) { return sqrt(x); }
static inline float __int_as_float(int i) {
  float x;
  memcpy(&x, &i, sizeof x);
  return x;
}
static inline int __float_as_int(float x) {
  int i;
  memcpy(&i, &x, sizeof i);
  return i;
}
static inline int atomicAdd(int *p, int n) {
  int old = *p;
  *p += n;
  return old;
}

namespace single_program {
#include "single.h"
}
namespace double_program {
#include "double.h"
}

// ---- Threads that take turns ----------------------------------------------------------------------
static const int most = 256;
static ucontext_t first_jump[most], beginning;
static jmp_buf threads[most], scheduler;
static bool started[most], finished[most];
static char *stacks;
static std::function<void()> body;
static unsigned int random_state = 1;

static void thread_main() {
  for (;;) {
    body();
    finished[threadIdx.x] = true;
    if (!_setjmp(threads[threadIdx.x])) _longjmp(scheduler, 1);
  }
}

static void __syncthreads() {
  if (!_setjmp(threads[threadIdx.x])) _longjmp(scheduler, 1);
}

static void run_group(int size) {
  if (!stacks) stacks = (char *)malloc((size_t)most << 16);
  for (int i = 0; i < size; i++) finished[i] = false;
  for (bool all = false; !all;) {  // one round from barrier to barrier
    all = true;
    // Another order every round: what depends on it lacks a barrier, and its bits will differ.
    random_state = random_state * 1664525u + 1013904223u;
    unsigned int stride = (random_state >> 8) | 1, offset = random_state >> 16;
    for (int n = 0; n < size; n++) {
      int i = (int)((n * stride + offset) % (unsigned int)size);  // size is a power of two
      if (finished[i]) continue;
      threadIdx.x = (unsigned int)i;
      if (!_setjmp(scheduler)) {
        if (started[i]) _longjmp(threads[i], 1);
        started[i] = true;
        getcontext(&first_jump[i]);
        first_jump[i].uc_stack.ss_sp = stacks + ((size_t)i << 16);
        first_jump[i].uc_stack.ss_size = 1 << 16;
        first_jump[i].uc_link = &beginning;
        makecontext(&first_jump[i], thread_main, 0);
        setcontext(&first_jump[i]);
      }
      all = all && finished[threadIdx.x];
    }
  }
}

// ---- Kernels by name, called with an array of pointers to their arguments -------------------------
using Launch = std::function<void(void **)>;

template <class... A, size_t... I>
static Launch launch(void (*kernel)(A...), std::index_sequence<I...>) {
  return [kernel](void **p) { kernel(*(A *)p[I]...); };
}
template <class... A>
static Launch launch(void (*kernel)(A...)) {
  return launch(kernel, std::index_sequence_for<A...>());
}

#define SINGLE(name) {#name, launch(single_program::name)}
#define DOUBLE(name) {#name, launch(double_program::name)}
static std::map<std::string, Launch> kernels = {
    SINGLE(proxy_scores), SINGLE(code_scores), SINGLE(attention_scores), SINGLE(top_k),
    SINGLE(count_up),
    SINGLE(needed_tokens), SINGLE(plan_residency), SINGLE(attended_slots), SINGLE(fill_floats),
    SINGLE(fill_ints), SINGLE(copy_floats), SINGLE(scatter_rows), SINGLE(place_prompt_rows),
    SINGLE(place_ring_rows), SINGLE(append_rows), SINGLE(collect_ring), SINGLE(attention_softmax),
    SINGLE(attention_values), SINGLE(linear_codes), SINGLE(rope), SINGLE(lrkv_scores),
    SINGLE(lrkv_mix), SINGLE(lrkv_values), DOUBLE(omega_products), DOUBLE(begin_codes),
    DOUBLE(alternate_codes), DOUBLE(update_basis), DOUBLE(append_codes), DOUBLE(row_product),
    DOUBLE(add_doubles), DOUBLE(narrow), DOUBLE(gram_basis), DOUBLE(gram_map), DOUBLE(gram_replace),
    DOUBLE(rms_norm)};

// ---- The driver -----------------------------------------------------------------------------------
extern "C" {
void mock_copied(bool is_write, size_t bytes);  // libcupti.cpp

int cuInit(unsigned int) {
  static bool once = false;
  const char *path = getenv("CUDA_INJECTION64_PATH");
  if (once || !path) return 0;
  once = true;
  void *library = dlopen(path, RTLD_NOW);
  int (*initialize)(void) = nullptr;
  if (library) *(void **)&initialize = dlsym(library, "InitializeInjection");
  if (!initialize || initialize() != 1) fprintf(stderr, "mock driver: %s does not start\n", path);
  return 0;
}
int cuDriverGetVersion(int *version) { return *version = 12090, 0; }
int cuGetErrorName(int, const char **name) { return *name = "MOCK_ERROR", 0; }
int cuGetErrorString(int, const char **text) { return *text = "an error of the mock driver", 0; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int) { return *device = 0, 0; }
int cuDeviceGetName(char *name, int room, int) {
  strncpy(name, "mock driver, no GPU", (size_t)room);
  return 0;
}
int cuDeviceGetAttribute(int *value, int what, int) { return *value = what == 75 ? 9 : 0, 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = (size_t)1 << 34, 0; }
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &kernels, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxSetCurrent(void *) { return 0; }
int cuCtxSynchronize() { return 0; }
int cuModuleLoadDataEx(void **module, const void *, unsigned int, int *, void **) {
  return *module = &kernels, 0;
}
int cuModuleUnload(void *) { return 0; }
int cuModuleGetFunction(void **function, void *, const char *name) {
  auto found = kernels.find(name);
  if (found == kernels.end()) return 500;
  return *function = &found->second, 0;
}
int cuMemAlloc_v2(unsigned long long *memory, size_t bytes) {
  void *p = malloc(bytes);
  memset(p, 0xA5, bytes);  // no code may rely on zeros
  return *memory = (unsigned long long)(uintptr_t)p, 0;
}
int cuMemFree_v2(unsigned long long memory) { return free((void *)(uintptr_t)memory), 0; }
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t bytes) {
  mock_copied(true, bytes);
  return memcpy((void *)(uintptr_t)to, from, bytes), 0;
}
int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t bytes) {
  mock_copied(false, bytes);
  return memcpy(to, (void *)(uintptr_t)from, bytes), 0;
}
int cuLaunchKernel(void *function, unsigned int grid_x, unsigned int grid_y, unsigned int,
                   unsigned int block_x, unsigned int, unsigned int, unsigned int, void *,
                   void **parameters, void **) {
  body = [&] { (*(Launch *)function)(parameters); };
  for (blockIdx.y = 0; blockIdx.y < grid_y; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < grid_x; blockIdx.x++) run_group((int)block_x);
  return 0;
}
}
