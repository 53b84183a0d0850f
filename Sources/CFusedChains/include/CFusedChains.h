// Fused chains: the arithmetic of this package's reference order.
//
// A chain is one dot product computed as one sequence of fused multiply-adds in index order:
//
//     s = 0;  s = fma(x[0], y[0], s);  s = fma(x[1], y[1], s);  ...
//
// Every step rounds once, and the order is part of the definition, so a chain has one result, the
// same on every machine, and a GPU thread that walks the same indices gets the same bits. A chain
// cannot be split over SIMD lanes, but many chains can run side by side, one per lane; that is how
// every function here is fast.
//
// Each function is compiled for up to three levels of instruction set from one text
// (chains_template.inc) and picks the best one when called:
//
//     0  plain     whatever the compiler's baseline offers; on x86-64 fma is then a call into libm
//     1  AVX2      with FMA and F16C, 32-byte vectors (x86-64 only)
//     2  AVX-512   F, VL, DQ, BW, 64-byte vectors (x86-64 only)
//
// Elements are float (suffix _f32) or double (_f64). Sizes and strides count elements. Nothing
// allocates; no function checks its arguments (the Swift side does, in ReferenceOrder.swift).
// Output must not overlap input. NaN results are NaN at every level; the payload and sign of a NaN
// are not part of the contract.

#ifndef CFUSEDCHAINS_H
#define CFUSEDCHAINS_H

#include <stddef.h>
#include <stdint.h>

// The best level that this machine runs: 0, 1 or 2.
int chains_best_level(void);

// The level that calls from this thread use now.
int chains_level(void);

// Makes calls from this thread use `level` (a negative one, or one above the best: the best).
// Returns the level now in use. Results do not depend on it; tests use it to show that.
int chains_set_level(int level);

// Attention of a prompt: keys that are scored together, and elements of scratch memory.
#define CHAINS_ATTENTION_CHUNK 256
static inline ptrdiff_t chains_attention_scratch(ptrdiff_t width, ptrdiff_t columns) {
  return 32 * (CHAINS_ATTENTION_CHUNK + width + columns + 15);  // 32 queries at most side by side
}

#define CHAINS_DECLARE(E, T)                                                                    \
  /* out(i, j) = chain over t = 0 ..< k of A(i, t) * B(t, j), for i < m and j < n.           */ \
  /* A(i, t) is a[i * a_row + t * a_column], so a transposed A needs no copy; B(t, j) is      */ \
  /* b[t * b_row + j] and out(i, j) is out[i * out_row + j]. Every chain starts at 0, or, if  */ \
  /* accumulate is not 0, at the value already in out: a sum over k continued over chunks of  */ \
  /* k has the same bits as the whole, whatever the chunks. May ask the cache for the k        */ \
  /* columns of A that follow.                                                                 */ \
  void chains_matmul_##T(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const E *a, ptrdiff_t a_row,   \
                         ptrdiff_t a_column, const E *b, ptrdiff_t b_row, E *out,               \
                         ptrdiff_t out_row, int accumulate);                                    \
  /* The Gram matrix: out(i, j) = chain over t = 0 ..< k of X(t, i) * X(t, j), for i <= j < n;  */ \
  /* X(t, i) is x[t * n + i] and out(i, j) is out[i * n + j]. What the lower triangle holds    */ \
  /* afterwards is not part of the answer. accumulate is that of matmul. Returns 1 if all      */ \
  /* elements of X are finite, else 0. May ask the cache for the k rows that follow X.         */ \
  int chains_gram_##T(ptrdiff_t k, ptrdiff_t n, const E *x, E *out, int accumulate);           \
  /* out[i] = chain over j = 0 ..< width of rows[i * width + j] * q[j], for i < n.             */ \
  void chains_row_scores_##T(ptrdiff_t n, ptrdiff_t width, const E *rows, const E *q, E *out); \
  /* out[i] = (chain over j = 0 ..< width of rows[slots[i] * width + j] * q[j]) * scale,      */ \
  /* for i < n: one multiplication after the chain.                                           */ \
  void chains_indexed_scores_##T(ptrdiff_t n, ptrdiff_t width, const E *rows,                  \
                                 const int32_t *slots, const E *q, E scale, E *out);            \
  /* out[j] = chain over i = 0 ..< n of weights[i] * rows[slots[i] * width + j], j < width.   */ \
  void chains_indexed_weighted_sum_##T(ptrdiff_t n, ptrdiff_t width, const E *rows,            \
                                       const int32_t *slots, const E *weights, E *out);         \
  /* The same for `heads` queries and weights over the same rows, in one pass: q is           */ \
  /* (heads, width), weights and scores (heads, n), sums (heads, width). Without slots (null) */ \
  /* the rows are 0 ..< n. The bits are those of a call for each head.                         */ \
  void chains_group_scores_##T(ptrdiff_t n, ptrdiff_t width, const E *rows,                     \
                               const int32_t *slots, ptrdiff_t heads, const E *q, E scale,      \
                               E *out);                                                         \
  void chains_group_weighted_sum_##T(ptrdiff_t n, ptrdiff_t width, const E *rows,               \
                                     const int32_t *slots, ptrdiff_t heads, const E *weights,   \
                                     E *out);                                                   \
  /* x[i] = exp(x[i]) in place by a fixed polynomial, within 1 ulp; 0 at and below -87 (float) */ \
  /* or -708 (double), infinity where the type overflows, NaN stays NaN.                      */ \
  void chains_exponentials_##T(ptrdiff_t n, E *x);                                              \
  /* out[i] = z[i] / (1 + exp(-z[i])) * u[i] with that exp: a gate silu(z) times u.           */ \
  void chains_gate_##T(ptrdiff_t n, const E *z, const E *u, E *out);                            \
  /* Causal attention of the tokens first ..< first + count of one head: row i of q is token   */ \
  /* t = first + i, which sees the keys j with t - window < j <= t. For the chunks of keys      */ \
  /* that begin at 0, C, 2 C, ... with C = CHAINS_ATTENTION_CHUNK, in this order:               */ \
  /*                                                                                            */ \
  /*     x(j) = (chain over the width of k(j) and q(i)) * scale, for the keys j that t sees    */ \
  /*     m' = max of m and all x(j);  f = exp(m - m')        m is the lowest number at first   */ \
  /*     e(j) = exp(x(j) - m')                                                                  */ \
  /*     z = ((z * f + e(j)) + e(j + 1)) + ...               z is 0 at first                   */ \
  /*     o(c) = chain over j of e(j) and v(j, c), from o(c) * f on         o(c) is 0 at first   */ \
  /*                                                                                            */ \
  /* and then out(i, c) = o(c) / z for c < columns, in out[i * out_row + c]. q, k and v are     */ \
  /* `width` wide; scale is positive. The scratch holds chains_attention_scratch(width,         */ \
  /* columns) elements.                                                                         */ \
  void chains_causal_attention_##T(ptrdiff_t first, ptrdiff_t count, ptrdiff_t window,          \
                                   ptrdiff_t width, const E *q, const E *k, const E *v,         \
                                   ptrdiff_t columns, E scale, E *out, ptrdiff_t out_row,       \
                                   E *scratch);                                                 \
  /* The lower Cholesky factor of the symmetric matrix a(i, j) = a[i * n + j], in place:      */ \
  /* L(i, j) = (a(i, j) - chain over t = 0 ..< j of L(i, t) * L(j, t)) / L(j, j), where the   */ \
  /* chain starts at a(i, j) and subtracts, and L(j, j) is the root of that pivot. Only the   */ \
  /* lower triangle is read; the upper one is 0 afterwards. Returns -1, or the first j whose  */ \
  /* pivot is not greater than threshold (NaN is not): a is then scratch. The smallest and    */ \
  /* the largest accepted pivot are stored (infinity and 0 if none was).                      */ \
  ptrdiff_t chains_cholesky_##T(ptrdiff_t n, E *a, E threshold, E *smallest, E *largest);       \
  /* Solves L transpose(L) X = B in place, L (n, n) from chains_cholesky, B (n, m):           */ \
  /* Y(i) = (B(i) - chain over t = 0, 1 .. i-1 of L(i, t) * Y(t)) / L(i, i), then             */ \
  /* X(i) = (Y(i) - chain over t = n-1, n-2 .. i+1 of L(t, i) * X(t)) / L(i, i): both chains   */ \
  /* subtract, in the order in which the unknowns become known.                               */ \
  void chains_cholesky_solve_##T(ptrdiff_t n, ptrdiff_t m, const E *l, E *b);

CHAINS_DECLARE(float, f32)
CHAINS_DECLARE(double, f64)

// ---- Striped chains: products with weights as they lie in a file ----
// One chain cannot keep up with memory: every step waits for the one before. A striped chain is 16
// chains, chain j over the elements j, j + 16, j + 32, ... in that order, followed by a tree:
//
//     s[j] = chain over the elements i = j mod 16 of x[i] * w[i], where both rows are padded with
//            zeros to a multiple of 16
//     s[j] = s[j] + s[j + h] for j < h,  for h = 8, 4, 2, 1;  the result is s[0]
//
// The order is part of the definition here too: one result at every level.

// How the elements of w lie: IEEE binary32, IEEE binary16, or the upper half of a binary32. All
// are widened to float exactly. They may start at any byte.
enum { CHAINS_FLOAT32 = 0, CHAINS_FLOAT16 = 1, CHAINS_BFLOAT16 = 2 };

// out[i * out_row + j] = striped chain of row i of x and row j of w, i < n, j < rows; both are
// row-major and `width` wide. Row i of out depends on row i of x and on w, on nothing else.
void chains_striped_products(ptrdiff_t n, ptrdiff_t rows, ptrdiff_t width, const float *x,
                             const void *w, int format, float *out, ptrdiff_t out_row);

// The same product for many rows of x, without stripes: out[i * out_row + j] = chain over t = 0 ..<
// width of x(i, t) * w(j, t). Rows of W are taken CHAINS_PANEL_GROUP at a time.
#define CHAINS_PANEL_GROUP 128
void chains_panel_products(ptrdiff_t n, ptrdiff_t rows, ptrdiff_t width, const float *x,
                           const void *w, int format, float *out, ptrdiff_t out_row);

// out[i] = w[i] as a float, i < n.
void chains_widen(ptrdiff_t n, const void *w, int format, float *out);

// ---- Normal numbers ----

// out[i] = normal offset + i, i < count, of the stream that starts at `start`: RandomNumbers.swift
// (module Tensors) defines them. The floats are the doubles, rounded once.
void chains_normals_f32(uint64_t start, uint64_t offset, ptrdiff_t count, float *out);
void chains_normals_f64(uint64_t start, uint64_t offset, ptrdiff_t count, double *out);

// ---- Integers of few bits ----
// Rows of `width` numbers x = fma(step, code, lowest), code 0 to 2^bits - 1, bits 2, 3, 4 or 8.
// A row is row_words words: first the pairs (lowest, step), then the codes, 32 / bits in a word
// (10 for 3 bits), the first one in the lowest bits. With group = 0 the row has one pair, two
// floats; otherwise every `group` numbers have one, two binary16 in a word, lowest in the lower
// half.

// out[i * width + j] = number j of row slots[i], i < n, j < width.
void chains_unpack(ptrdiff_t n, ptrdiff_t width, int bits, ptrdiff_t group, const uint32_t *words,
                   ptrdiff_t row_words, const int32_t *slots, float *out);

// Rows of `width` integers from -largest to largest, exact as floats: gap * code - largest.
//   bits 3, 4, 8   gap 1, largest 2^(bits - 1) - 1
//   bits 2, 1      gap 2, largest 3 and 1: odd integers
// A row is the least whole number of bytes that has its codes, the first one in the lowest bits.

// out[i * width + j] = integer j of row slots[i], i < n, j < width.
void chains_integers(ptrdiff_t n, ptrdiff_t width, int bits, const uint8_t *bytes,
                     const int32_t *slots, float *out);

// ---- Memory that is read, and nothing else ----

// The exclusive or of words[i], i < n: what a benchmark compares other reads with.
uint64_t chains_read(ptrdiff_t n, const uint64_t *words);

// ---- Rows that are moved, not computed ----
// Scattered rows are slow because each one is waited for; this asks for the next ones ahead.

// Row slots[i] of `to` = row rows[i] of `from`, for i < n; rows are row_bytes long.
void chains_copy_rows(ptrdiff_t n, size_t row_bytes, const void *from, const ptrdiff_t *rows,
                      void *to, const ptrdiff_t *slots);

// Keeps the memory of freed arrays for the next ones (glibc; elsewhere nothing happens).
void chains_keep_freed_memory(void);

#undef CHAINS_DECLARE

#endif
