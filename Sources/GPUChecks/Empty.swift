// GPUChecks holds something only in a build with the trait OpenCL, CUDA or GPU.
