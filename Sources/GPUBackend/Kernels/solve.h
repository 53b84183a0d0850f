// S X = B for a symmetric positive definite S, by one group. Compiled for float and for double.
//
// In:  REAL, REAL_EPSILON and NAMED(name), the element type and the suffix that goes with it.
// Out: NAMED(solve), which every item of a WIDE group calls.
//
// The lines and the order of every sum are those of the reference (Tensors, SymmetricSolve):
//   0. rows and columns are scaled by powers of two until the diagonal lies in 1 ..< 4;
//   1. Cholesky; element (i, j) receives its terms in the order t = 0, 1, ...; every pivot must be
//      above 4 n epsilon;
//   2. if one is not: Gaussian elimination with partial pivoting, by one item alone (it is rare);
//   3. if a pivot is that small there too, the status says so, and the host throws.
// status: 0 or the worst so far (1 pivoted, 2 singular); then of the first singular system its
// number, its pivot and the bits of the pivot's value.

DEVFN REAL NAMED(balancing_scale)(REAL diagonal) {
  if (!(diagonal > 0) || diagonal - diagonal != 0) return 1;
  int e = ilogb((double)diagonal);
  return (REAL)ldexp(1.0, -((e - (e & 1)) / 2));
}

DEVFN REAL NAMED(magnitude)(REAL x) { return x < 0 ? -x : x; }

// Line 2, on the scaled matrix and right side.
DEVFN void NAMED(eliminate)(GLOBAL REAL *a, GLOBAL REAL *x, int n, int m, REAL threshold, int stop,
                            int system, GLOBAL int *status) {
  if (status[0] < 1) status[0] = 1;
  for (int column = 0; column < n; column++) {
    int best = column;
    for (int i = column + 1; i < n; i++)
      if (NAMED(magnitude)(a[i * n + column]) > NAMED(magnitude)(a[best * n + column])) best = i;
    REAL pivot = a[best * n + column];
    if (stop && !(NAMED(magnitude)(pivot) > threshold)) {
      if (status[0] < 2) {
        status[0] = 2;
        status[1] = system;
        status[2] = column;
        status[3] = (int)FLOAT_TO_BITS((float)pivot);
      }
      return;
    }
    if (best != column) {
      for (int j = 0; j < n; j++) {
        REAL t = a[best * n + j];
        a[best * n + j] = a[column * n + j];
        a[column * n + j] = t;
      }
      for (int j = 0; j < m; j++) {
        REAL t = x[best * m + j];
        x[best * m + j] = x[column * m + j];
        x[column * m + j] = t;
      }
    }
    for (int i = column + 1; i < n; i++) {
      REAL factor = DIVIDE(a[i * n + column], a[column * n + column]);
      for (int j = column; j < n; j++)
        a[i * n + j] = FMA(-factor, a[column * n + j], a[i * n + j]);
      for (int j = 0; j < m; j++) x[i * m + j] = FMA(-factor, x[column * m + j], x[i * m + j]);
    }
  }
  for (int i = n - 1; i >= 0; i--)
    for (int j = 0; j < m; j++) {
      REAL sum = x[i * m + j];
      for (int t = i + 1; t < n; t++) sum = FMA(-a[i * n + t], x[t * m + j], sum);
      x[i * m + j] = DIVIDE(sum, a[i * n + i]);
    }
}

// x holds B (n, m) and becomes X; s (n, n) gets the ridge; factor (n, n) and scales (n) are
// scratch.
DEVFN void NAMED(solve)(GLOBAL REAL *s, GLOBAL REAL *x, GLOBAL REAL *factor, GLOBAL REAL *scales,
                        int n, int m, double ridge, int stop, int system, GLOBAL int *status) {
  int id = LOCAL_ID, failed = -1;
  REAL threshold = 4 * (REAL)n * REAL_EPSILON;
  BARRIER();
  if (ridge > 0 && id == 0) {
    double mean = 0;
    for (int i = 0; i < n; i++) mean += (double)s[i * n + i];
    mean = mean / (double)n;
    for (int i = 0; i < n; i++) s[i * n + i] += (REAL)(ridge * mean);
  }
  BARRIER();

  // 0. S' = D S D, B' = D B
  for (int i = id; i < n; i += WIDE) scales[i] = NAMED(balancing_scale)(s[i * n + i]);
  BARRIER();
  for (int i = id; i < n * n; i += WIDE) factor[i] = s[i] * (scales[i / n] * scales[i % n]);
  for (int i = id; i < n * m; i += WIDE) x[i] *= scales[i / m];
  BARRIER();

  // 1. The lower factor, column by column; all items read the same pivot.
  for (int j = 0; j < n; j++) {
    REAL pivot = factor[j * n + j];
    if (failed < 0 && !(pivot > threshold)) failed = j;
    REAL root = ROOT(failed < 0 ? pivot : (REAL)1);
    if (failed < 0)
      for (int i = j + 1 + id; i < n; i += WIDE)
        factor[i * n + j] = DIVIDE(factor[i * n + j], root);
    BARRIER();
    if (failed < 0) {
      if (id == 0) factor[j * n + j] = root;
      for (int i = j + 1 + id; i < n; i += WIDE)
        for (int c = j + 1; c <= i; c++)
          factor[i * n + c] = FMA(-factor[c * n + j], factor[i * n + j], factor[i * n + c]);
    }
    BARRIER();
  }

  if (failed >= 0)
    for (int i = id; i < n * n; i += WIDE) factor[i] = s[i] * (scales[i / n] * scales[i % n]);
  BARRIER();
  if (failed >= 0) {
    if (id == 0) NAMED(eliminate)(factor, x, n, m, threshold, stop, system, status);
  } else {
    for (int c = id; c < m; c += WIDE) {
      for (int i = 0; i < n; i++) {
        REAL sum = x[i * m + c];
        for (int t = 0; t < i; t++) sum = FMA(-factor[i * n + t], x[t * m + c], sum);
        x[i * m + c] = DIVIDE(sum, factor[i * n + i]);
      }
      for (int i = n - 1; i >= 0; i--) {
        REAL sum = x[i * m + c];
        for (int t = n - 1; t > i; t--) sum = FMA(-factor[t * n + i], x[t * m + c], sum);
        x[i * m + c] = DIVIDE(sum, factor[i * n + i]);
      }
    }
  }
  BARRIER();
  for (int i = id; i < n * m; i += WIDE) x[i] *= scales[i / m];
  BARRIER();
}
