// Our declarations (CGPUShim.h) beside the vendors' headers: every function, every parameter.
//
// In:  CL/cl.h (opencl-c-headers), cuda.h (wheel nvidia-cuda-runtime) and nvrtc.h (wheel
//      nvidia-cuda-nvrtc). Out: nothing; a difference does not compile.

#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <cuda.h>
#include <nvrtc.h>

#define LRQK_VENDOR_TYPES
#define lrqk_cl_platform cl_platform_id
#define lrqk_cl_device cl_device_id
#define lrqk_cl_context cl_context
#define lrqk_cl_queue cl_command_queue
#define lrqk_cl_program cl_program
#define lrqk_cl_kernel cl_kernel
#define lrqk_cl_memory cl_mem
#define lrqk_cl_event cl_event
#define lrqk_cu_result CUresult
#define lrqk_cu_attribute CUdevice_attribute
#define lrqk_cu_jit_option CUjit_option
#define lrqk_cu_context CUcontext
#define lrqk_cu_module CUmodule
#define lrqk_cu_function CUfunction
#define lrqk_cu_stream CUstream
#define lrqk_nvrtc_result nvrtcResult
#define lrqk_nvrtc_program nvrtcProgram
#include "CGPUShim.h"

#define SAME(api, field, function)                                                     \
  _Static_assert(__builtin_types_compatible_p(__typeof__(&function),                   \
                                              __typeof__(((api *)0)->field)),          \
                 #function)

SAME(lrqk_cl_api, get_platform_ids, clGetPlatformIDs);
SAME(lrqk_cl_api, get_platform_info, clGetPlatformInfo);
SAME(lrqk_cl_api, get_device_ids, clGetDeviceIDs);
SAME(lrqk_cl_api, get_device_info, clGetDeviceInfo);
SAME(lrqk_cl_api, create_context, clCreateContext);
SAME(lrqk_cl_api, release_context, clReleaseContext);
SAME(lrqk_cl_api, create_command_queue, clCreateCommandQueue);
SAME(lrqk_cl_api, release_command_queue, clReleaseCommandQueue);
SAME(lrqk_cl_api, create_program_with_source, clCreateProgramWithSource);
SAME(lrqk_cl_api, build_program, clBuildProgram);
SAME(lrqk_cl_api, get_program_build_info, clGetProgramBuildInfo);
SAME(lrqk_cl_api, release_program, clReleaseProgram);
SAME(lrqk_cl_api, create_kernel, clCreateKernel);
SAME(lrqk_cl_api, release_kernel, clReleaseKernel);
SAME(lrqk_cl_api, set_kernel_arg, clSetKernelArg);
SAME(lrqk_cl_api, create_buffer, clCreateBuffer);
SAME(lrqk_cl_api, release_mem_object, clReleaseMemObject);
SAME(lrqk_cl_api, enqueue_write_buffer, clEnqueueWriteBuffer);
SAME(lrqk_cl_api, enqueue_read_buffer, clEnqueueReadBuffer);
SAME(lrqk_cl_api, enqueue_nd_range_kernel, clEnqueueNDRangeKernel);
SAME(lrqk_cl_api, finish, clFinish);

// cuda.h renames what has a second version, as the loader does by hand.
SAME(lrqk_cu_api, init, cuInit);
SAME(lrqk_cu_api, driver_get_version, cuDriverGetVersion);
SAME(lrqk_cu_api, get_error_name, cuGetErrorName);
SAME(lrqk_cu_api, get_error_string, cuGetErrorString);
SAME(lrqk_cu_api, device_get_count, cuDeviceGetCount);
SAME(lrqk_cu_api, device_get, cuDeviceGet);
SAME(lrqk_cu_api, device_get_name, cuDeviceGetName);
SAME(lrqk_cu_api, device_get_attribute, cuDeviceGetAttribute);
SAME(lrqk_cu_api, device_total_mem, cuDeviceTotalMem_v2);
SAME(lrqk_cu_api, primary_context_retain, cuDevicePrimaryCtxRetain);
SAME(lrqk_cu_api, primary_context_release, cuDevicePrimaryCtxRelease_v2);
SAME(lrqk_cu_api, context_set_current, cuCtxSetCurrent);
SAME(lrqk_cu_api, context_synchronize, cuCtxSynchronize);
SAME(lrqk_cu_api, module_load_data_ex, cuModuleLoadDataEx);
SAME(lrqk_cu_api, module_unload, cuModuleUnload);
SAME(lrqk_cu_api, module_get_function, cuModuleGetFunction);
SAME(lrqk_cu_api, mem_alloc, cuMemAlloc_v2);
SAME(lrqk_cu_api, mem_free, cuMemFree_v2);
SAME(lrqk_cu_api, memcpy_host_to_device, cuMemcpyHtoD_v2);
SAME(lrqk_cu_api, memcpy_device_to_host, cuMemcpyDtoH_v2);
SAME(lrqk_cu_api, launch_kernel, cuLaunchKernel);

SAME(lrqk_nvrtc_api, version, nvrtcVersion);
SAME(lrqk_nvrtc_api, get_error_string, nvrtcGetErrorString);
SAME(lrqk_nvrtc_api, create_program, nvrtcCreateProgram);
SAME(lrqk_nvrtc_api, compile_program, nvrtcCompileProgram);
SAME(lrqk_nvrtc_api, get_program_log_size, nvrtcGetProgramLogSize);
SAME(lrqk_nvrtc_api, get_program_log, nvrtcGetProgramLog);
SAME(lrqk_nvrtc_api, get_ptx_size, nvrtcGetPTXSize);
SAME(lrqk_nvrtc_api, get_ptx, nvrtcGetPTX);
SAME(lrqk_nvrtc_api, get_cubin_size, nvrtcGetCUBINSize);
SAME(lrqk_nvrtc_api, get_cubin, nvrtcGetCUBIN);
SAME(lrqk_nvrtc_api, destroy_program, nvrtcDestroyProgram);
