// Around the method: linear codes, RoPE, and attention over LRKV's factors.
//
// In:  rows of the model. Out: rows of the model. Every dot product is one fused chain in index
//      order.

// out[i, j] = chain over t < d of x[i / x_share, t] * matrix[i / m_share, t, j]; matrices (d, r).
// Row i of `out` starts at out_start + i * out_stride. q_hat = q W_Q, k_hat = k W_K, A_K = K W_K.
// Grid: (r / GROUP rounded up, rows).
KERNEL(GROUP) linear_codes(GLOBAL const float *x, int x_share, GLOBAL const float *matrix,
                           int m_share, int width, int rank, GLOBAL float *out, int out_start,
                           int out_stride) {
  int i = GROUP_ID(1), j = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (j < rank) {
    GLOBAL const float *row = x + (size_t)(i / x_share) * width;
    GLOBAL const float *m = matrix + (size_t)(i / m_share) * width * rank + j;
    float sum = 0.0f;
    for (int t = 0; t < width; t++) sum = FMA(row[t], m[(size_t)t * rank], sum);
    out[(size_t)out_start + (size_t)i * out_stride + j] = sum;
  }
}

// x (n, H, d): pair (i, i + d/2) of every head rotates by its position's angle. cosines, sines (n,
// d/2). Grid: (d/2 / GROUP rounded up, n * H).
KERNEL(GROUP) rope(GLOBAL const float *x, GLOBAL const float *cosines, GLOBAL const float *sines,
                   int heads, int width, GLOBAL float *y) {
  int row = GROUP_ID(1), i = GROUP_ID(0) * GROUP + LOCAL_ID, half_width = width / 2;
  if (i < half_width) {
    float c = cosines[(size_t)(row / heads) * half_width + i];
    float s = sines[(size_t)(row / heads) * half_width + i];
    float a = x[(size_t)row * width + i], b = x[(size_t)row * width + half_width + i];
    y[(size_t)row * width + i] = a * c - b * s;
    y[(size_t)row * width + half_width + i] = b * c + a * s;
  }
}

// LRKV: scores[h, t] = (q_h · K[t] + x_h · C_K[t, h]) * scale, with x_h = q_h U_Kᵀ of r numbers.
// K (l, d), codes C_K (l, H, r). Grid: (l / GROUP rounded up, H).
KERNEL(GROUP) lrkv_scores(GLOBAL const float *queries, GLOBAL const float *mixed_queries,
                          GLOBAL const float *keys, GLOBAL const float *codes, int tokens,
                          int heads, int width, int rank, float scale, GLOBAL float *scores) {
  int h = GROUP_ID(1), t = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (t < tokens) {
    float shared_part = 0.0f, residual = 0.0f;
    for (int j = 0; j < width; j++)
      shared_part = FMA(keys[(size_t)t * width + j], queries[(size_t)h * width + j], shared_part);
    for (int j = 0; j < rank; j++)
      residual = FMA(codes[((size_t)t * heads + h) * rank + j], mixed_queries[(size_t)h * rank + j],
                     residual);
    scores[(size_t)h * tokens + t] = (shared_part + residual) * scale;
  }
}

// mixed[h, j] = chain over t of weights[h, t] * codes[t, h, j]. Grid: (r / GROUP rounded up, H).
KERNEL(GROUP) lrkv_mix(GLOBAL const float *weights, GLOBAL const float *codes, int tokens,
                       int heads, int rank, GLOBAL float *mixed) {
  int h = GROUP_ID(1), j = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (j < rank) {
    float sum = 0.0f;
    for (int t = 0; t < tokens; t++)
      sum = FMA(weights[(size_t)h * tokens + t], codes[((size_t)t * heads + h) * rank + j], sum);
    mixed[(size_t)h * rank + j] = sum;
  }
}

// out[h, j] = (chain over t of weights[h, t] * V[t, j]) + chain over i of mixed[h, i] * U_V[h, i,
// j]. Grid: (d / GROUP rounded up, H).
KERNEL(GROUP) lrkv_values(GLOBAL const float *weights, GLOBAL const float *values,
                          GLOBAL const float *mixed, GLOBAL const float *factors, int tokens,
                          int width, int rank, GLOBAL float *out) {
  int h = GROUP_ID(1), j = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (j < width) {
    float shared_part = 0.0f, residual = 0.0f;
    for (int t = 0; t < tokens; t++)
      shared_part =
          FMA(weights[(size_t)h * tokens + t], values[(size_t)t * width + j], shared_part);
    for (int i = 0; i < rank; i++)
      residual = FMA(mixed[(size_t)h * rank + i], factors[((size_t)h * rank + i) * width + j],
                     residual);
    out[(size_t)h * width + j] = shared_part + residual;
  }
}
