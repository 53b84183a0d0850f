// Stages 3 and 4: codes for a new token by the alternating solver, and the bases after it.
//
// In:  q (H, d) and k (M, d) of the new token, the bases (groups, r, d), A_K, Omega.
// Out: q_hat (H, r), k_hat (groups, r), moved bases.
//
// A group of heads that shares codes is one group of items; `share` query heads belong to it, and
// `groups_per_head` of them to a key/value head. The formulas stand at the head of LRQK's
// DecodeSolver.swift and BasisUpdate.swift; every sum here has the order it has there. Sums of
// squares are in double there and so here, which is why these kernels need a device with doubles.

// A_OmegaᵀA_Omega, (H, r, r), and q K_Omegaᵀ A_Omega, (H, r). Omega: the head's k chosen tokens,
// then the tokens from ring_first on, `count` in all; exact[h, i] = q · K[omega i].
// Grid: ((r r + r) / GROUP rounded up, H).
KERNEL(GROUP) omega_products(GLOBAL const float *codes, int room, int rank, int share,
                             GLOBAL const int *chosen, int k, int ring_first, int count,
                             GLOBAL const float *exact, int stride, GLOBAL float *grams,
                             GLOBAL float *crosses) {
  int h = GROUP_ID(1), e = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (e < rank * rank + rank) {
    GLOBAL const float *A = codes + (size_t)(h / share) * room * rank;
    int i = e / rank, j = e % rank;
    float sum = 0.0f;
    for (int n = 0; n < count; n++) {
      int token = n < k ? chosen[(size_t)h * k + n] : ring_first + n - k;
      GLOBAL const float *row = A + (size_t)token * rank;
      sum = FMA(i < rank ? row[i] : exact[(size_t)h * stride + n], row[j], sum);
    }
    if (i < rank) grams[(size_t)h * rank * rank + e] = sum;
    else crosses[(size_t)h * rank + j] = sum;
  }
}

// The chain over `width` of a · b.
DEVFN float chain(GLOBAL const float *a, GLOBAL const float *b, int width) {
  float sum = 0.0f;
  for (int t = 0; t < width; t++) sum = FMA(a[t], b[t], sum);
  return sum;
}

// Line 0 of the solver, and what does not change later. On return grams and crosses are the query
// systems B_Q B_Qᵀ + lambda_2 A_OmegaᵀA_Omega and their targets; key_systems (groups, r, r) and
// key_targets (groups, r) are the key's; selves (H) holds q kᵀ. work: (groups, 3 r r + 4 r).
// Grid: (groups).
KERNEL(WIDE) begin_codes(GLOBAL const float *q, GLOBAL const float *k, GLOBAL const float *bases_q,
                         GLOBAL const float *bases_k, int share, int groups_per_head, int rank,
                         int width, float lambda2, GLOBAL float *grams, GLOBAL float *crosses,
                         GLOBAL float *key_systems, GLOBAL float *key_targets, GLOBAL float *selves,
                         GLOBAL float *key_codes, GLOBAL float *work, double ridge, int stop,
                         GLOBAL int *status) {
  int g = GROUP_ID(0), id = LOCAL_ID, square = rank * rank;
  GLOBAL const float *B_Q = bases_q + (size_t)g * rank * width;
  GLOBAL const float *B_K = bases_k + (size_t)g * rank * width;
  GLOBAL const float *key = k + (size_t)(g / groups_per_head) * width;
  GLOBAL float *matrix = work + (size_t)g * (3 * square + 4 * rank);
  GLOBAL float *key_code = key_codes + (size_t)g * rank;
  for (int e = id; e < square; e += WIDE) {
    float gram = chain(B_Q + (size_t)(e / rank) * width, B_Q + (size_t)(e % rank) * width, width);
    for (int h = g * share; h < (g + 1) * share; h++) {
      GLOBAL float *omega = grams + (size_t)h * square + e;
      *omega = gram + lambda2 * *omega;
    }
    float key_gram =
        chain(B_K + (size_t)(e / rank) * width, B_K + (size_t)(e % rank) * width, width);
    key_systems[(size_t)g * square + e] = key_gram;
    matrix[e] = key_gram;
  }
  for (int e = id; e < rank; e += WIDE) {
    for (int h = g * share; h < (g + 1) * share; h++) {
      GLOBAL float *omega = crosses + (size_t)h * rank + e;
      *omega = chain(q + (size_t)h * width, B_Q + (size_t)e * width, width) + lambda2 * *omega;
    }
    key_code[e] = chain(key, B_K + (size_t)e * width, width);
    key_targets[(size_t)g * rank + e] = key_code[e];
  }
  for (int h = g * share + id; h < (g + 1) * share; h += WIDE)
    selves[h] = chain(q + (size_t)h * width, key, width);
  solve_f32(matrix, key_code, matrix + square, matrix + 2 * square, rank, 1, ridge, stop, 0,
            status + 4 * g);
}

// Lines 1 and 2, once: every q_hat of the group, then k_hat. changes[g] = ‖k_hat − k_hat'‖².
// Grid: (groups).
KERNEL(WIDE) alternate_codes(GLOBAL const float *query_systems, GLOBAL const float *query_targets,
                             GLOBAL const float *key_systems, GLOBAL const float *key_targets,
                             GLOBAL const float *selves, int share, int rank, float lambda1,
                             GLOBAL float *query_codes, GLOBAL float *key_codes, GLOBAL float *work,
                             GLOBAL double *changes, double ridge, int stop, GLOBAL int *status) {
  int g = GROUP_ID(0), id = LOCAL_ID, square = rank * rank;
  GLOBAL float *matrix = work + (size_t)g * (3 * square + 4 * rank);
  GLOBAL float *factor = matrix + square;
  GLOBAL float *sum = factor + square;
  GLOBAL float *scales = sum + square;
  GLOBAL float *target = scales + rank;
  GLOBAL float *old = key_codes + (size_t)g * rank;
  for (int e = id; e < square; e += WIDE) sum[e] = key_systems[(size_t)g * square + e];
  for (int e = id; e < rank; e += WIDE) target[e] = key_targets[(size_t)g * rank + e];
  for (int h = g * share; h < (g + 1) * share; h++) {
    GLOBAL float *q_hat = query_codes + (size_t)h * rank;
    float weight = lambda1 * selves[h];
    BARRIER();
    for (int e = id; e < square; e += WIDE)
      matrix[e] = query_systems[(size_t)h * square + e] +
                  lambda1 * FMA(old[e / rank], old[e % rank], 0.0f);
    for (int e = id; e < rank; e += WIDE)
      q_hat[e] = query_targets[(size_t)h * rank + e] + weight * old[e];
    solve_f32(matrix, q_hat, factor, scales, rank, 1, ridge, stop, 1, status + 4 * g);
    for (int e = id; e < square; e += WIDE)
      sum[e] = sum[e] + lambda1 * FMA(q_hat[e / rank], q_hat[e % rank], 0.0f);
    for (int e = id; e < rank; e += WIDE) target[e] = target[e] + weight * q_hat[e];
  }
  solve_f32(sum, target, factor, scales, rank, 1, ridge, stop, 2, status + 4 * g);
  if (id == 0) {
    double change = 0;
    for (int e = 0; e < rank; e++) {
      float step = target[e] - old[e];
      change += (double)step * (double)step;
    }
    changes[g] = change;
  }
  BARRIER();
  for (int e = id; e < rank; e += WIDE) old[e] = target[e];
}

// B' = B − factor eta g of every group: one gradient step on 1/2 ‖x_hat B − x‖² with exact line
// search. codes: (groups n, r); the rows x of group g start at row g n / row_share; work: per group
// (2 n + r) d. Grid: (groups).
KERNEL(WIDE) update_basis(GLOBAL float *bases, GLOBAL const float *codes, GLOBAL const float *rows,
                          int n, int row_share, int rank, int width, float factor,
                          GLOBAL float *work) {
  SHARED float eta[1];
  int g = GROUP_ID(0), id = LOCAL_ID;
  GLOBAL float *B = bases + (size_t)g * rank * width;
  GLOBAL const float *x_hat = codes + (size_t)g * n * rank;
  GLOBAL const float *x = rows + (size_t)(g * n / row_share) * width;
  GLOBAL float *residual = work + (size_t)g * (2 * n + rank) * width;
  GLOBAL float *along = residual + (size_t)n * width;
  GLOBAL float *gradient = along + (size_t)n * width;
  for (int e = id; e < n * width; e += WIDE) {
    float sum = 0.0f;
    for (int t = 0; t < rank; t++)
      sum = FMA(x_hat[e / width * rank + t], B[(size_t)t * width + e % width], sum);
    residual[e] = sum - x[e];
  }
  BARRIER();
  for (int e = id; e < rank * width; e += WIDE) {
    float sum = 0.0f;
    for (int t = 0; t < n; t++)
      sum = FMA(x_hat[t * rank + e / width], residual[t * width + e % width], sum);
    gradient[e] = sum;
  }
  BARRIER();
  for (int e = id; e < n * width; e += WIDE) {
    float sum = 0.0f;
    for (int t = 0; t < rank; t++)
      sum = FMA(x_hat[e / width * rank + t], gradient[t * width + e % width], sum);
    along[e] = sum;
  }
  BARRIER();
  if (id == 0) {
    double steep = 0, distant = 0;
    for (int e = 0; e < rank * width; e++) steep += (double)gradient[e] * (double)gradient[e];
    for (int e = 0; e < n * width; e++) distant += (double)along[e] * (double)along[e];
    eta[0] = DIVIDE((float)steep, (float)distant + 1e-6f);
  }
  BARRIER();
  float step = -factor * eta[0];
  for (int e = id; e < rank * width; e += WIDE) B[e] = B[e] + step * gradient[e];
}

// k_hat becomes the code of token `token` in A_K (groups, room, r). Grid: (r / GROUP rounded up,
// groups).
KERNEL(GROUP) append_codes(GLOBAL const float *key_codes, int rank, GLOBAL float *codes, int room,
                           int token) {
  int g = GROUP_ID(1), j = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (j < rank) codes[((size_t)g * room + token) * rank + j] = key_codes[(size_t)g * rank + j];
}
