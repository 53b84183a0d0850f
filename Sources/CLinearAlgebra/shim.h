// The two system libraries under the tensor layer: OpenBLAS (cblas) and LAPACKE.
// Debian: apt-get install libopenblas-dev liblapacke-dev
#include <cblas.h>
#include <lapacke.h>
