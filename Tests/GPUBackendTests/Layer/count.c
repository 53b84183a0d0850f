// An OpenCL layer that counts: bytes and calls of everything that can carry data across.
//
// In:  a process whose OPENCL_LAYERS names the shared object built from this file (ocl-icd 2.3).
// Out: when the process ends, three lines on standard error: writes, reads, and everything else that
//      could have moved data, which the backend must not use.
//
// The loader hands us its table of functions and takes ours: calls of the application arrive here
// first. Nothing of the backend is in this file, so its numbers are a second witness.

#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl_layer.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct _cl_icd_dispatch ours;
static const struct _cl_icd_dispatch *next;
static atomic_ullong write_calls, write_bytes, read_calls, read_bytes, other_calls;

static cl_int CL_API_CALL write_buffer(cl_command_queue queue, cl_mem memory, cl_bool blocking,
                                       size_t offset, size_t bytes, const void *from, cl_uint waits,
                                       const cl_event *list, cl_event *event) {
  write_calls++;
  write_bytes += bytes;
  return next->clEnqueueWriteBuffer(queue, memory, blocking, offset, bytes, from, waits, list, event);
}

static cl_int CL_API_CALL read_buffer(cl_command_queue queue, cl_mem memory, cl_bool blocking,
                                      size_t offset, size_t bytes, void *to, cl_uint waits,
                                      const cl_event *list, cl_event *event) {
  read_calls++;
  read_bytes += bytes;
  return next->clEnqueueReadBuffer(queue, memory, blocking, offset, bytes, to, waits, list, event);
}

static cl_mem CL_API_CALL create_buffer(cl_context context, cl_mem_flags flags, size_t bytes,
                                        void *host, cl_int *error) {
  if (host || (flags & (CL_MEM_USE_HOST_PTR | CL_MEM_ALLOC_HOST_PTR | CL_MEM_COPY_HOST_PTR)))
    other_calls++;
  return next->clCreateBuffer(context, flags, bytes, host, error);
}

static void *CL_API_CALL map_buffer(cl_command_queue queue, cl_mem memory, cl_bool blocking,
                                    cl_map_flags flags, size_t offset, size_t bytes, cl_uint waits,
                                    const cl_event *list, cl_event *event, cl_int *error) {
  other_calls++;
  return next->clEnqueueMapBuffer(queue, memory, blocking, flags, offset, bytes, waits, list, event,
                                  error);
}

static cl_int CL_API_CALL copy_buffer(cl_command_queue queue, cl_mem from, cl_mem to, size_t start,
                                      size_t offset, size_t bytes, cl_uint waits,
                                      const cl_event *list, cl_event *event) {
  other_calls++;
  return next->clEnqueueCopyBuffer(queue, from, to, start, offset, bytes, waits, list, event);
}

static cl_int CL_API_CALL fill_buffer(cl_command_queue queue, cl_mem memory, const void *pattern,
                                      size_t size, size_t offset, size_t bytes, cl_uint waits,
                                      const cl_event *list, cl_event *event) {
  other_calls++;
  return next->clEnqueueFillBuffer(queue, memory, pattern, size, offset, bytes, waits, list, event);
}

static cl_int CL_API_CALL write_rect(cl_command_queue q, cl_mem m, cl_bool b, const size_t *o,
                                     const size_t *h, const size_t *r, size_t a, size_t c, size_t d,
                                     size_t e, const void *p, cl_uint n, const cl_event *l,
                                     cl_event *v) {
  other_calls++;
  return next->clEnqueueWriteBufferRect(q, m, b, o, h, r, a, c, d, e, p, n, l, v);
}

static cl_int CL_API_CALL read_rect(cl_command_queue q, cl_mem m, cl_bool b, const size_t *o,
                                    const size_t *h, const size_t *r, size_t a, size_t c, size_t d,
                                    size_t e, void *p, cl_uint n, const cl_event *l, cl_event *v) {
  other_calls++;
  return next->clEnqueueReadBufferRect(q, m, b, o, h, r, a, c, d, e, p, n, l, v);
}

static void *CL_API_CALL svm_alloc(cl_context context, cl_svm_mem_flags flags, size_t bytes,
                                   cl_uint alignment) {
  other_calls++;
  return next->clSVMAlloc(context, flags, bytes, alignment);
}

CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info what, size_t room, void *value,
                                               size_t *size) {
  const char *name = "count";
  cl_layer_api_version version = CL_LAYER_API_VERSION_100;
  const void *answer = what == CL_LAYER_API_VERSION ? (const void *)&version : name;
  size_t length = what == CL_LAYER_API_VERSION ? sizeof version : strlen(name) + 1;
  if (value && room < length) return CL_INVALID_VALUE;
  if (value) memcpy(value, answer, length);
  if (size) *size = length;
  return CL_SUCCESS;
}

CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint count, const struct _cl_icd_dispatch *target,
                                            cl_uint *count_out,
                                            const struct _cl_icd_dispatch **table) {
  if (!target || !count_out || !table || count < sizeof ours / sizeof(void *))
    return CL_INVALID_VALUE;
  next = target;
  ours.clEnqueueWriteBuffer = write_buffer;
  ours.clEnqueueReadBuffer = read_buffer;
  ours.clCreateBuffer = create_buffer;
  ours.clEnqueueMapBuffer = map_buffer;
  ours.clEnqueueCopyBuffer = copy_buffer;
  ours.clEnqueueFillBuffer = fill_buffer;
  ours.clEnqueueWriteBufferRect = write_rect;
  ours.clEnqueueReadBufferRect = read_rect;
  ours.clSVMAlloc = svm_alloc;
  *table = &ours;
  *count_out = sizeof ours / sizeof(void *);
  return CL_SUCCESS;
}

__attribute__((destructor)) static void report(void) {
  fprintf(stderr, "layer: written %llu %llu read %llu %llu other %llu\n",
          (unsigned long long)write_calls, (unsigned long long)write_bytes,
          (unsigned long long)read_calls, (unsigned long long)read_bytes,
          (unsigned long long)other_calls);
}
