// Opens a library while the program runs and looks up each function by name.

#include "CGPUShim.h"

#include <dlfcn.h>
#include <stdio.h>

struct entry {
  const char *name;
  void **place;
};

static int load(const char *library, const struct entry *entries, size_t count, char *message,
                size_t room) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *why = dlerror();
    snprintf(message, room, "%s", why ? why : "the library cannot be opened");
    return -1;
  }
  for (size_t i = 0; i < count; i++) {
    *entries[i].place = dlsym(handle, entries[i].name);
    if (!*entries[i].place) {
      snprintf(message, room, "%s has no function %s", library, entries[i].name);
      return -1;
    }
  }
  return 0;  // the library stays open as long as the process lives
}

#define ENTRY(field, name) {name, (void **)&api->field}
#define LOAD(entries) load(library, entries, sizeof entries / sizeof *entries, message, room)

int lrqk_cl_load(lrqk_cl_api *api, const char *library, char *message, size_t room) {
  const struct entry entries[] = {
      ENTRY(get_platform_ids, "clGetPlatformIDs"),
      ENTRY(get_platform_info, "clGetPlatformInfo"),
      ENTRY(get_device_ids, "clGetDeviceIDs"),
      ENTRY(get_device_info, "clGetDeviceInfo"),
      ENTRY(create_context, "clCreateContext"),
      ENTRY(release_context, "clReleaseContext"),
      ENTRY(create_command_queue, "clCreateCommandQueue"),
      ENTRY(release_command_queue, "clReleaseCommandQueue"),
      ENTRY(create_program_with_source, "clCreateProgramWithSource"),
      ENTRY(build_program, "clBuildProgram"),
      ENTRY(get_program_build_info, "clGetProgramBuildInfo"),
      ENTRY(release_program, "clReleaseProgram"),
      ENTRY(create_kernel, "clCreateKernel"),
      ENTRY(release_kernel, "clReleaseKernel"),
      ENTRY(set_kernel_arg, "clSetKernelArg"),
      ENTRY(create_buffer, "clCreateBuffer"),
      ENTRY(release_mem_object, "clReleaseMemObject"),
      ENTRY(enqueue_write_buffer, "clEnqueueWriteBuffer"),
      ENTRY(enqueue_read_buffer, "clEnqueueReadBuffer"),
      ENTRY(enqueue_nd_range_kernel, "clEnqueueNDRangeKernel"),
      ENTRY(finish, "clFinish"),
  };
  return LOAD(entries);
}

// The headers of CUDA rename several functions to their second version; here that is done by hand.
int lrqk_cu_load(lrqk_cu_api *api, const char *library, char *message, size_t room) {
  const struct entry entries[] = {
      ENTRY(init, "cuInit"),
      ENTRY(driver_get_version, "cuDriverGetVersion"),
      ENTRY(get_error_name, "cuGetErrorName"),
      ENTRY(get_error_string, "cuGetErrorString"),
      ENTRY(device_get_count, "cuDeviceGetCount"),
      ENTRY(device_get, "cuDeviceGet"),
      ENTRY(device_get_name, "cuDeviceGetName"),
      ENTRY(device_get_attribute, "cuDeviceGetAttribute"),
      ENTRY(device_total_mem, "cuDeviceTotalMem_v2"),
      ENTRY(primary_context_retain, "cuDevicePrimaryCtxRetain"),
      ENTRY(primary_context_release, "cuDevicePrimaryCtxRelease_v2"),
      ENTRY(context_set_current, "cuCtxSetCurrent"),
      ENTRY(context_synchronize, "cuCtxSynchronize"),
      ENTRY(module_load_data_ex, "cuModuleLoadDataEx"),
      ENTRY(module_unload, "cuModuleUnload"),
      ENTRY(module_get_function, "cuModuleGetFunction"),
      ENTRY(mem_alloc, "cuMemAlloc_v2"),
      ENTRY(mem_free, "cuMemFree_v2"),
      ENTRY(memcpy_host_to_device, "cuMemcpyHtoD_v2"),
      ENTRY(memcpy_device_to_host, "cuMemcpyDtoH_v2"),
      ENTRY(launch_kernel, "cuLaunchKernel"),
  };
  return LOAD(entries);
}

int lrqk_nvrtc_load(lrqk_nvrtc_api *api, const char *library, char *message, size_t room) {
  const struct entry entries[] = {
      ENTRY(version, "nvrtcVersion"),
      ENTRY(get_error_string, "nvrtcGetErrorString"),
      ENTRY(create_program, "nvrtcCreateProgram"),
      ENTRY(compile_program, "nvrtcCompileProgram"),
      ENTRY(get_program_log_size, "nvrtcGetProgramLogSize"),
      ENTRY(get_program_log, "nvrtcGetProgramLog"),
      ENTRY(get_ptx_size, "nvrtcGetPTXSize"),
      ENTRY(get_ptx, "nvrtcGetPTX"),
      ENTRY(get_cubin_size, "nvrtcGetCUBINSize"),
      ENTRY(get_cubin, "nvrtcGetCUBIN"),
      ENTRY(destroy_program, "nvrtcDestroyProgram"),
  };
  return LOAD(entries);
}
