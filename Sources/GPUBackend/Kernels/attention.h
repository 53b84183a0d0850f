// Stage 8: exact attention over the rows at hand, after attention_scores.
//
// In:  scores (H, stride), scaled; values (holders, slots, d); the slots of the attended tokens.
// Out: softmax(scores) V, (H, d).
//
// The passes and their order are the reference's: the largest score (comparisons do not round); the
// exponentials of the differences; their sum, one chain in token order; one division each; the
// weighted sum of the values, for each column one fused chain in token order. The two chains are
// what makes the bits the same everywhere, and what keeps a device from being as fast as it could
// be.

// exp(x) for x <= 0, within 1 unit in the last place; 0 at and below -87; NaN stays NaN. Cephes'
// polynomial; n ln 2 is taken off in two parts, the first of which is exact.
DEVFN float exponential(float x) {
  if (!(x > -87.0f)) return x <= -87.0f ? 0.0f : x;
  float n = RINT(x * 1.44269504f);
  float r = FMA(n, -0.693359375f, x);
  r = FMA(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = FMA(p, r, 1.3981999507e-3f);
  p = FMA(p, r, 8.3334519073e-3f);
  p = FMA(p, r, 4.1665795894e-2f);
  p = FMA(p, r, 1.6666665459e-1f);
  p = FMA(p, r, 5.0000001201e-1f);
  p = FMA(p, r * r, r) + 1.0f;
  return p * BITS_TO_FLOAT(((int)n + 127) << 23);
}

// Softmax of scores[h, 0 ..< count] in place. Grid: (H).
KERNEL(WIDE) attention_softmax(GLOBAL float *scores, int stride, int count) {
  SHARED float part[WIDE];
  SHARED float all[2];
  int h = GROUP_ID(0), id = LOCAL_ID;
  GLOBAL float *x = scores + (size_t)h * stride;
  float largest = -INFINITE;
  for (int i = id; i < count; i += WIDE) largest = x[i] > largest ? x[i] : largest;
  part[id] = largest;
  BARRIER();
  if (id == 0) {
    for (int i = 1; i < WIDE; i++) largest = part[i] > largest ? part[i] : largest;
    all[0] = largest;
    all[1] = 0.0f;
  }
  BARRIER();
  largest = all[0];
  // The exponentials come in tiles through shared memory, where one item adds them up.
  for (int first = 0; first < count; first += WIDE) {
    int i = first + id;
    if (i < count) {
      part[id] = exponential(x[i] - largest);
      x[i] = part[id];
    }
    BARRIER();
    if (id == 0) {
      float sum = all[1];
      int n = least(WIDE, count - first);
      for (int j = 0; j < n; j++) sum += part[j];
      all[1] = sum;
    }
    BARRIER();
  }
  float sum = all[1];
  for (int i = id; i < count; i += WIDE) x[i] = DIVIDE(x[i], sum);
}

// out[h, j] = chain over i < count of weights[h, i] * values[where[h, i], j].
// Grid: (d / GROUP rounded up, H).
KERNEL(GROUP) attention_values(GLOBAL const float *values, int slots, int width, int share,
                               GLOBAL const float *weights, GLOBAL const int *where, int stride,
                               int count, GLOBAL float *out) {
  int h = GROUP_ID(1), j = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (j < width) {
    GLOBAL const float *v = values + (size_t)(h / share) * slots * width + j;
    GLOBAL const float *p = weights + (size_t)h * stride;
    GLOBAL const int *slot = where + (size_t)h * stride;
    float sum = 0.0f;
    for (int i = 0; i < count; i++) sum = FMA(p[i], v[(size_t)slot[i] * width], sum);
    out[(size_t)h * width + j] = sum;
  }
}
