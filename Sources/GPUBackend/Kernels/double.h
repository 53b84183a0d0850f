// The program of devices that have doubles: the alternating solver, and prefill.
#define LRQK_DOUBLE
#include "prelude.h"

#define REAL float
#define REAL_EPSILON 1.1920928955078125e-7f
#define NAMED(name) name##_f32
#include "solve.h"
#undef REAL
#undef REAL_EPSILON
#undef NAMED

#define REAL double
#define REAL_EPSILON 2.220446049250313080847e-16
#define NAMED(name) name##_f64
#include "solve.h"
#undef REAL
#undef REAL_EPSILON
#undef NAMED

#include "codes.h"
#include "prefill.h"
