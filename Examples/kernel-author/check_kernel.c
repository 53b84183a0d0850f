/* Checks two kernels written in C against the library: proxy scores and sparse attention.
 *
 *   cc -O2 -std=c11 -I Sources/CLRQK/include Examples/kernel-author/check_kernel.c \
 *     -L .build/release -lLRQK -Wl,-rpath,"$PWD/.build/release" -lm -o .build/check_kernel
 *   .build/check_kernel [--plant]
 *
 * Replace my_proxy_scores and my_sparse_attention by yours. --plant puts a fault into each, to see it caught.
 * Exit status 0 if both pass, 1 otherwise. The rule is verdict.py's: with X your kernel's result, P the library's
 * and R the oracle's, X passes if max|X - R| <= 2 max|P - R| + 2 max|(R + 0.3 - 0.3) - R|; NaN and infinity are
 * looked for first.
 */
#include <lrqk.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that differ, so that no two axes can be mixed up unseen. */
enum { H = 6, M = 2, S = 300, C = 700, R = 8, D = 48, N = 40 };

static int plant = 0;

/* ---- Your kernels -------------------------------------------------------------------------------------- */

/* A_K (C, R), q_hat (H, R) to scores (H, C). Sums in two halves: another order than the library's. */
static void my_proxy_scores(const float *A_K, const float *q_hat, float *scores) {
  for (int h = 0; h < H; h++)
    for (int t = 0; t < C; t++) {
      const float *a = A_K + t * R, *q = q_hat + h * R;
      float even = 0, odd = 0;
      for (int j = 0; j < R; j += 2) {
        even += a[j] * q[j];
        odd += a[j + 1] * q[j + 1];
      }
      scores[h * C + t] = even + odd;
    }
  /* The fault, off by one: the last candidate is never scored. */
  if (plant) scores[C - 1] = scores[C - 2];
}

/* q (H, D), K and V (M, S, D), slots (H, N) to out (H, D). One pass, with a running maximum. */
static void my_sparse_attention(
    const float *q, const float *K, const float *V, const int32_t *slots, float *out) {
  for (int h = 0; h < H; h++) {
    float maximum = -INFINITY, sum = 0, acc[D] = {0};
    for (int i = 0; i < N; i++) {
      int slot = slots[h * N + i];
      /* The fault, a stale row: the slot holds another token. */
      if (plant && h == H - 1 && i == 0) slot = (slot + 1) % S;
      const float *key = K + (h * M / H * S + slot) * D, *value = V + (h * M / H * S + slot) * D;
      float score = 0;
      for (int j = 0; j < D; j++) score += q[h * D + j] * key[j];
      score /= sqrtf(D);
      float higher = score > maximum ? score : maximum;
      float shrink = expf(maximum - higher), weight = expf(score - higher);
      sum = sum * shrink + weight;
      for (int j = 0; j < D; j++) acc[j] = acc[j] * shrink + weight * value[j];
      maximum = higher;
    }
    for (int j = 0; j < D; j++) out[h * D + j] = acc[j] / sum;
  }
}

/* ---- The oracles, in double ------------------------------------------------------------------------------ */

static void oracle_scores(const float *A_K, const float *q_hat, double *scores) {
  for (int h = 0; h < H; h++)
    for (int t = 0; t < C; t++) {
      double sum = 0;
      for (int j = 0; j < R; j++) sum += (double)A_K[t * R + j] * q_hat[h * R + j];
      scores[h * C + t] = sum;
    }
}

static void oracle_attention(
    const float *q, const float *K, const float *V, const int32_t *slots, double *out) {
  for (int h = 0; h < H; h++) {
    double weights[N], maximum = -INFINITY, sum = 0;
    for (int i = 0; i < N; i++) {
      const float *key = K + (h * M / H * S + slots[h * N + i]) * D;
      weights[i] = 0;
      for (int j = 0; j < D; j++) weights[i] += (double)q[h * D + j] * key[j];
      weights[i] /= sqrt(D);
      if (weights[i] > maximum) maximum = weights[i];
    }
    for (int i = 0; i < N; i++) sum += weights[i] = exp(weights[i] - maximum);
    for (int j = 0; j < D; j++) {
      double acc = 0;
      for (int i = 0; i < N; i++) acc += weights[i] * V[(h * M / H * S + slots[h * N + i]) * D + j];
      out[h * D + j] = acc / sum;
    }
  }
}

/* ---- The verdict ------------------------------------------------------------------------------------------- */

/* True if x (rows, columns) passes against p and r. */
static int verdict(const char *name, const float *x, const float *p, const double *r, int rows, int columns) {
  double error = 0, plain = 0, rounding = 0;
  for (int i = 0; i < rows * columns; i++) {
    if (!isfinite(x[i])) {
      printf("FAILED  %s: %g at (%d, %d), expected %.8g\n", name, x[i], i / columns, i % columns, r[i]);
      return 0;
    }
    /* volatile: the sum is rounded to float each time */
    volatile float shifted = (float)r[i] + 0.3f;
    volatile float back = shifted - 0.3f;
    error = fmax(error, fabs(x[i] - r[i]));
    plain = fmax(plain, fabs(p[i] - r[i]));
    rounding = fmax(rounding, fabs(back - r[i]));
  }
  double limit = 2 * plain + 2 * rounding;
  printf("%s  %s: largest error %.3g, limit %.3g = 2 x %.3g (plain float) + 2 x %.3g (rounding)\n",
         error <= limit ? "passed" : "FAILED", name, error, limit, plain, rounding);
  for (int i = 0; i < rows * columns && error > limit; i++)
    if (fabs(x[i] - r[i]) > limit) {
      printf("        first wrong element at (%d, %d): %.8g, expected %.8g\n", i / columns, i % columns, x[i], r[i]);
      break;
    }
  return error <= limit;
}

static void require(lrqk_status status, const char *message) {
  if (status == LRQK_OK) return;
  printf("%s: %s\n", lrqk_status_name(status), message);
  exit(1);
}

/* About normal: the sum of 12 numbers between -1/2 and 1/2 (xorshift64*). */
static void fill(float *x, int count) {
  static uint64_t state = 88172645463325252u;
  for (int i = 0; i < count; i++) {
    double sum = 0;
    for (int n = 0; n < 12; n++) {
      state ^= state >> 12;
      state ^= state << 25;
      state ^= state >> 27;
      sum += (double)((state * 2685821657736338717u) >> 11) / 9007199254740992.0 - 0.5;
    }
    x[i] = (float)sum;
  }
}

static float A_K[C * R], q_hat[H * R], q[H * D], K[M * S * D], V[M * S * D];
static float own_scores[H * C], plain_scores[H * C], own_out[H * D], plain_out[H * D];
static double true_scores[H * C], true_out[H * D];
static int32_t slots[H * N];

int main(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    if (strcmp(arguments[i], "--plant")) {
      fprintf(stderr, "usage: check_kernel [--plant]\n");
      return 64;
    }
    plant = 1;
  }
  char message[300];
  fill(A_K, C * R);
  fill(q_hat, H * R);
  fill(q, H * D);
  fill(K, M * S * D);
  fill(V, M * S * D);
  for (int h = 0; h < H; h++)
    for (int i = 0; i < N; i++) slots[h * N + i] = 7 * i + h; /* ascending */

  my_proxy_scores(A_K, q_hat, own_scores);
  oracle_scores(A_K, q_hat, true_scores);
  require(lrqk_proxy_scores(H, C, R, A_K, q_hat, plain_scores, message, sizeof message), message);
  int good = verdict("proxy scores", own_scores, plain_scores, true_scores, H, C);

  my_sparse_attention(q, K, V, slots, own_out);
  oracle_attention(q, K, V, slots, true_out);
  require(lrqk_sparse_attention(H, M, S, N, D, q, K, V, slots, plain_out, message, sizeof message), message);
  good &= verdict("sparse attention", own_out, plain_out, true_out, H, D);
  return good ? 0 : 1;
}
