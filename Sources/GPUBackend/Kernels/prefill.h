// Stage 2: the prompt's factors, in d by d space.
//
// In:  the rows of the prompt, once, for the sums; then only d by d and r by d matrices, in double.
// Out: bases B and maps W of every group, as LRQK's GramSide.swift has them, bit for bit.
//
// One kernel a formula; the host strings them together (DevicePrefill.swift) and looks at the
// change between sweeps. Matrices of all groups lie behind each other; one group of items per group
// of heads.

// out (p, q) = AᵀB over `rows` rows, A (rows, p), B (rows, q): chains in float over blocks of
// `block` rows, blocks added up in double. Grid: (p q / GROUP rounded up).
KERNEL(GROUP) row_product(GLOBAL const float *a, int p, GLOBAL const float *b, int q, int rows,
                          int block, GLOBAL double *out, int out_start) {
  int e = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (e < p * q) {
    int i = e / q, j = e % q;
    double total = 0;
    for (int first = 0; first < rows; first += block) {
      int end = least(first + block, rows);
      float sum = 0.0f;
      for (int t = first; t < end; t++)
        sum = FMA(a[(size_t)t * p + i], b[(size_t)t * q + j], sum);
      total += (double)sum;
    }
    out[(size_t)out_start + e] = total;
  }
}

// a[a_start + i] += b[b_start + i]. Grid: (count / GROUP rounded up).
KERNEL(GROUP) add_doubles(GLOBAL double *a, int a_start, GLOBAL const double *b, int b_start,
                          int count) {
  int i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < count) a[(size_t)a_start + i] = a[(size_t)a_start + i] + b[(size_t)b_start + i];
}

// (groups, rows, columns) in double becomes float, each matrix transposed if asked for.
// Grid: (rows columns / GROUP rounded up, groups).
KERNEL(GROUP) narrow(GLOBAL const double *in, int rows, int columns, int transpose,
                     GLOBAL float *out) {
  int e = GROUP_ID(0) * GROUP + LOCAL_ID;
  size_t start = (size_t)GROUP_ID(1) * rows * columns;
  if (e < rows * columns)
    out[start + (transpose ? e % columns * rows + e / columns : e)] = (float)in[start + e];
}

// B = S⁻¹ C. grams (groups, r, r), crosses and bases (groups, r, d); work (groups, 2 r r + r).
// Grid: (groups).
KERNEL(WIDE) gram_basis(GLOBAL const double *grams, GLOBAL const double *crosses, int rank,
                        int width, GLOBAL double *bases, GLOBAL double *work,
                        double ridge, int stop, int system, GLOBAL int *status) {
  int g = GROUP_ID(0), id = LOCAL_ID, square = rank * rank;
  GLOBAL double *matrix = work + (size_t)g * (2 * square + rank);
  GLOBAL double *B = bases + (size_t)g * rank * width;
  for (int e = id; e < square; e += WIDE) matrix[e] = grams[(size_t)g * square + e];
  for (int e = id; e < rank * width; e += WIDE) B[e] = crosses[(size_t)g * rank * width + e];
  solve_f64(matrix, B, matrix + square, matrix + 2 * square, rank, width, ridge, stop, system,
            status + 4 * g);
}

// Wᵀ = (S + lambda B Bᵀ)⁻¹ (C + lambda B): S and C of the other side, B of this one. Grid:
// (groups).
KERNEL(WIDE) gram_map(GLOBAL const double *grams, GLOBAL const double *crosses,
                      GLOBAL const double *bases, double lambda, int rank, int width,
                      GLOBAL double *maps, GLOBAL double *work, double ridge, int stop, int system,
                      GLOBAL int *status) {
  int g = GROUP_ID(0), id = LOCAL_ID, square = rank * rank;
  GLOBAL double *matrix = work + (size_t)g * (2 * square + rank);
  GLOBAL const double *B = bases + (size_t)g * rank * width;
  GLOBAL double *map = maps + (size_t)g * rank * width;
  for (int e = id; e < square; e += WIDE) {
    double outer = 0;
    for (int t = 0; t < width; t++)
      outer = FMA(B[(size_t)(e / rank) * width + t], B[(size_t)(e % rank) * width + t], outer);
    matrix[e] = grams[(size_t)g * square + e] + lambda * outer;
  }
  for (int e = id; e < rank * width; e += WIDE)
    map[e] = crosses[(size_t)g * rank * width + e] + lambda * B[e];
  solve_f64(matrix, map, matrix + square, matrix + 2 * square, rank, width, ridge, stop, system,
            status + 4 * g);
}

// The codes A' = X W in d by d space: C' = Wᵀ G and S' = C' W; data_grams (groups / share, d, d).
// changes[g] = ‖A − A'‖², from the old map where there is one, else from the old S and C.
// products: (groups, r, d) scratch. Grid: (groups).
KERNEL(WIDE) gram_replace(GLOBAL const double *maps, GLOBAL const double *old_maps, int has_map,
                          GLOBAL const double *data_grams, int share, int rank, int width,
                          GLOBAL const double *old_grams, GLOBAL const double *old_crosses,
                          GLOBAL double *grams, GLOBAL double *crosses, GLOBAL double *products,
                          GLOBAL double *changes) {
  int g = GROUP_ID(0), id = LOCAL_ID, square = rank * rank, size = rank * width;
  GLOBAL const double *map = maps + (size_t)g * size;
  GLOBAL const double *old = old_maps + (size_t)g * size;
  GLOBAL const double *G = data_grams + (size_t)(g / share) * width * width;
  GLOBAL double *cross = crosses + (size_t)g * size;
  GLOBAL double *product = products + (size_t)g * size;
  for (int e = id; e < size; e += WIDE) {
    double sum = 0, moved = 0;
    for (int t = 0; t < width; t++) {
      double there = G[(size_t)t * width + e % width];
      double new_map = map[e / width * width + t];
      sum = FMA(new_map, there, sum);
      if (has_map) moved = FMA(new_map - old[e / width * width + t], there, moved);
    }
    cross[e] = sum;
    product[e] = moved;
  }
  BARRIER();
  for (int e = id; e < square; e += WIDE) {
    double sum = 0;
    for (int t = 0; t < width; t++)
      sum = FMA(cross[(size_t)(e / rank) * width + t], map[(size_t)(e % rank) * width + t], sum);
    grams[(size_t)g * square + e] = sum;
  }
  BARRIER();
  if (id == 0) {
    double change = 0;
    if (has_map) {
      for (int e = 0; e < size; e++) change += product[e] * (map[e] - old[e]);
    } else {
      double before = 0, after = 0, both = 0;
      for (int i = 0; i < rank; i++) before += old_grams[(size_t)g * square + i * rank + i];
      for (int i = 0; i < rank; i++) after += grams[(size_t)g * square + i * rank + i];
      for (int e = 0; e < size; e++) both += old_crosses[(size_t)g * size + e] * map[e];
      change = before - 2 * both + after;
    }
    changes[g] = change < 0 ? 0 : change;  // NaN stays NaN
  }
}

// y = w x / √(mean x² + epsilon) of every row of x (n, D); the mean is a sum in double, in index
// order. Grid: (n).
KERNEL(WIDE) rms_norm(GLOBAL const float *x, GLOBAL const float *weights, int width, double epsilon,
                      GLOBAL float *y) {
  SHARED float scale[1];
  int id = LOCAL_ID;
  size_t row = (size_t)GROUP_ID(0) * width;
  if (id == 0) {
    double squares = 0;
    for (int i = 0; i < width; i++) squares += (double)x[row + i] * (double)x[row + i];
    scale[0] = (float)DIVIDE(1.0, ROOT(DIVIDE(squares, (double)width) + epsilon));
  }
  BARRIER();
  for (int i = id; i < width; i += WIDE) y[row + i] = weights[i] * (x[row + i] * scale[0]);
}
