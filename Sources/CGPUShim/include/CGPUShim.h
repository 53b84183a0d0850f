// The few functions of OpenCL, of CUDA's driver and of NVRTC that the GPU backend calls.
//
// In:  a library's name, or its path.
// Out: a struct of function pointers, filled from that library while the program runs, or one line
//      that says why not.
//
// No vendor header is needed to build this, and no driver to start what was built with it. The
// declarations are our own, so they have to be checked against the vendors': that is what
// Tests/GPUBackendTests/Vendor/prototypes.c does. It defines LRQK_VENDOR_TYPES and names the
// vendors' types in place of the opaque ones below; everything else here is compared as it stands.

#ifndef CGPUSHIM_H
#define CGPUSHIM_H

#include <stddef.h>
#include <stdint.h>

#ifndef LRQK_VENDOR_TYPES
typedef struct lrqk_cl_platform_object *lrqk_cl_platform;
typedef struct lrqk_cl_device_object *lrqk_cl_device;
typedef struct lrqk_cl_context_object *lrqk_cl_context;
typedef struct lrqk_cl_queue_object *lrqk_cl_queue;
typedef struct lrqk_cl_program_object *lrqk_cl_program;
typedef struct lrqk_cl_kernel_object *lrqk_cl_kernel;
typedef struct lrqk_cl_memory_object *lrqk_cl_memory;
typedef struct lrqk_cl_event_object *lrqk_cl_event;
typedef int32_t lrqk_cu_result;
typedef int32_t lrqk_cu_attribute;
typedef int32_t lrqk_cu_jit_option;
typedef struct lrqk_cu_context_object *lrqk_cu_context;
typedef struct lrqk_cu_module_object *lrqk_cu_module;
typedef struct lrqk_cu_function_object *lrqk_cu_function;
typedef struct lrqk_cu_stream_object *lrqk_cu_stream;
typedef int32_t lrqk_nvrtc_result;
typedef struct lrqk_nvrtc_program_object *lrqk_nvrtc_program;
#endif

// ---- OpenCL 1.2 ---------------------------------------------------------------------------------

typedef struct {
  int32_t (*get_platform_ids)(uint32_t room, lrqk_cl_platform *platforms, uint32_t *count);
  int32_t (*get_platform_info)(lrqk_cl_platform platform, uint32_t what, size_t room, void *value,
                               size_t *size);
  int32_t (*get_device_ids)(lrqk_cl_platform platform, uint64_t kinds, uint32_t room,
                            lrqk_cl_device *devices, uint32_t *count);
  int32_t (*get_device_info)(lrqk_cl_device device, uint32_t what, size_t room, void *value,
                             size_t *size);
  lrqk_cl_context (*create_context)(const intptr_t *properties, uint32_t count,
                                    const lrqk_cl_device *devices,
                                    void (*notify)(const char *, const void *, size_t, void *),
                                    void *user, int32_t *error);
  int32_t (*release_context)(lrqk_cl_context context);
  lrqk_cl_queue (*create_command_queue)(lrqk_cl_context context, lrqk_cl_device device,
                                        uint64_t properties, int32_t *error);
  int32_t (*release_command_queue)(lrqk_cl_queue queue);
  lrqk_cl_program (*create_program_with_source)(lrqk_cl_context context, uint32_t count,
                                                const char **texts, const size_t *lengths,
                                                int32_t *error);
  int32_t (*build_program)(lrqk_cl_program program, uint32_t count, const lrqk_cl_device *devices,
                           const char *options, void (*notify)(lrqk_cl_program, void *),
                           void *user);
  int32_t (*get_program_build_info)(lrqk_cl_program program, lrqk_cl_device device, uint32_t what,
                                    size_t room, void *value, size_t *size);
  int32_t (*release_program)(lrqk_cl_program program);
  lrqk_cl_kernel (*create_kernel)(lrqk_cl_program program, const char *name, int32_t *error);
  int32_t (*release_kernel)(lrqk_cl_kernel kernel);
  int32_t (*set_kernel_arg)(lrqk_cl_kernel kernel, uint32_t index, size_t size, const void *value);
  lrqk_cl_memory (*create_buffer)(lrqk_cl_context context, uint64_t flags, size_t bytes, void *host,
                                  int32_t *error);
  int32_t (*release_mem_object)(lrqk_cl_memory memory);
  int32_t (*enqueue_write_buffer)(lrqk_cl_queue queue, lrqk_cl_memory memory, uint32_t blocking,
                                  size_t offset, size_t bytes, const void *from, uint32_t waits,
                                  const lrqk_cl_event *wait_list, lrqk_cl_event *event);
  int32_t (*enqueue_read_buffer)(lrqk_cl_queue queue, lrqk_cl_memory memory, uint32_t blocking,
                                 size_t offset, size_t bytes, void *to, uint32_t waits,
                                 const lrqk_cl_event *wait_list, lrqk_cl_event *event);
  int32_t (*enqueue_nd_range_kernel)(lrqk_cl_queue queue, lrqk_cl_kernel kernel,
                                     uint32_t dimensions, const size_t *offset,
                                     const size_t *global, const size_t *local, uint32_t waits,
                                     const lrqk_cl_event *wait_list, lrqk_cl_event *event);
  int32_t (*finish)(lrqk_cl_queue queue);
} lrqk_cl_api;

// ---- CUDA's driver ------------------------------------------------------------------------------

typedef struct {
  lrqk_cu_result (*init)(unsigned int flags);
  lrqk_cu_result (*driver_get_version)(int *version);
  lrqk_cu_result (*get_error_name)(lrqk_cu_result error, const char **name);
  lrqk_cu_result (*get_error_string)(lrqk_cu_result error, const char **text);
  lrqk_cu_result (*device_get_count)(int *count);
  lrqk_cu_result (*device_get)(int *device, int ordinal);
  lrqk_cu_result (*device_get_name)(char *name, int room, int device);
  lrqk_cu_result (*device_get_attribute)(int *value, lrqk_cu_attribute what, int device);
  lrqk_cu_result (*device_total_mem)(size_t *bytes, int device);
  lrqk_cu_result (*primary_context_retain)(lrqk_cu_context *context, int device);
  lrqk_cu_result (*primary_context_release)(int device);
  lrqk_cu_result (*context_set_current)(lrqk_cu_context context);
  lrqk_cu_result (*context_synchronize)(void);
  lrqk_cu_result (*module_load_data_ex)(lrqk_cu_module *module, const void *image,
                                        unsigned int count, lrqk_cu_jit_option *options,
                                        void **values);
  lrqk_cu_result (*module_unload)(lrqk_cu_module module);
  lrqk_cu_result (*module_get_function)(lrqk_cu_function *function, lrqk_cu_module module,
                                        const char *name);
  lrqk_cu_result (*mem_alloc)(unsigned long long *memory, size_t bytes);
  lrqk_cu_result (*mem_free)(unsigned long long memory);
  lrqk_cu_result (*memcpy_host_to_device)(unsigned long long to, const void *from, size_t bytes);
  lrqk_cu_result (*memcpy_device_to_host)(void *to, unsigned long long from, size_t bytes);
  lrqk_cu_result (*launch_kernel)(lrqk_cu_function function, unsigned int grid_x,
                                  unsigned int grid_y, unsigned int grid_z, unsigned int block_x,
                                  unsigned int block_y, unsigned int block_z,
                                  unsigned int shared_bytes, lrqk_cu_stream stream,
                                  void **parameters, void **extra);
} lrqk_cu_api;

// ---- NVRTC, CUDA's compiler as a library --------------------------------------------------------

typedef struct {
  lrqk_nvrtc_result (*version)(int *major, int *minor);
  const char *(*get_error_string)(lrqk_nvrtc_result error);
  lrqk_nvrtc_result (*create_program)(lrqk_nvrtc_program *program, const char *source,
                                      const char *name, int headers, const char *const *texts,
                                      const char *const *names);
  lrqk_nvrtc_result (*compile_program)(lrqk_nvrtc_program program, int count,
                                       const char *const *options);
  lrqk_nvrtc_result (*get_program_log_size)(lrqk_nvrtc_program program, size_t *bytes);
  lrqk_nvrtc_result (*get_program_log)(lrqk_nvrtc_program program, char *log);
  lrqk_nvrtc_result (*get_ptx_size)(lrqk_nvrtc_program program, size_t *bytes);
  lrqk_nvrtc_result (*get_ptx)(lrqk_nvrtc_program program, char *ptx);
  lrqk_nvrtc_result (*get_cubin_size)(lrqk_nvrtc_program program, size_t *bytes);
  lrqk_nvrtc_result (*get_cubin)(lrqk_nvrtc_program program, char *cubin);
  lrqk_nvrtc_result (*destroy_program)(lrqk_nvrtc_program *program);
} lrqk_nvrtc_api;

// Each opens `library` and fills *api; 0 if all is there, else -1 and one line in `message`.
int lrqk_cl_load(lrqk_cl_api *api, const char *library, char *message, size_t room);
int lrqk_cu_load(lrqk_cu_api *api, const char *library, char *message, size_t room);
int lrqk_nvrtc_load(lrqk_nvrtc_api *api, const char *library, char *message, size_t room);

#endif
