/* Everything of lrqk.h from C, for valgrind: right calls, wrong calls, closed handles, eight threads.
 *
 * In:  libLRQK.so.
 * Out: one line a part, a line for everything that is not as expected; exit status 1 if there was one.
 *
 * .ci/library compiles and runs this. What the numbers are is KernelTests.swift's and check_library.py's
 * business; here the sums are of small integers, so that they are exact, or the answer is plain.
 */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lrqk.h"

static int failures = 0;
static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;

#define EXPECT(holds, ...)                             \
  do {                                                 \
    if (!(holds)) {                                    \
      pthread_mutex_lock(&printing);                   \
      failures++;                                      \
      printf("line %d: %s: ", __LINE__, #holds);       \
      printf(__VA_ARGS__);                             \
      printf("\n");                                    \
      pthread_mutex_unlock(&printing);                 \
    }                                                  \
  } while (0)

/* Numbers between -1 and 1 (xorshift64*). */
static float number(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (float)((*state * 2685821657736338717u) >> 40) / 8388608.0f - 1.0f;
}

static void fill(float *x, int64_t count, uint64_t seed) {
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (int64_t i = 0; i < count; i++) x[i] = number(&state);
}

/* ---- Part 1: every plain function, rightly and wrongly --------------------------------------------------- */

enum { MOST_SIZES = 5, MOST_POINTERS = 10, BEHIND = 64 };

/* kinds: one letter a pointer. f float input, x float input that may be infinite, g float input moved as it is,
 * i int32 input; F float, I int32, L int64 output, N float output or NULL. */
typedef struct kernel {
  const char *name;
  lrqk_status (*run)(const int64_t *s, void *const *p, char *message, size_t size);
  const char *kinds;
  int64_t sizes[MOST_SIZES];
  int64_t elements[MOST_POINTERS]; /* of each array */
} kernel;

#define KERNEL(name, ...)                                                                          \
  static lrqk_status run_##name(const int64_t *s, void *const *p, char *message, size_t size) { \
    return lrqk_##name(__VA_ARGS__, message, size);                                                \
  }

KERNEL(sweep_rowwise, s[0], s[1], s[2], s[3], p[0], p[1], p[2], p[3], 1, 1, p[4], p[5], p[6], p[7], p[8], p[9])
KERNEL(sweep_gram, s[0], s[1], p[0], p[1], p[2], p[3], 1, 1, p[4], p[5], p[6], p[7])
KERNEL(decode_codes, s[0], s[1], s[2], s[3], p[0], p[1], p[2], p[3], p[4], p[5], 2, 1, 1, p[6], p[7], p[8], p[9])
KERNEL(proxy_scores, s[0], s[1], s[2], p[0], p[1], p[2])
KERNEL(top_k, s[0], s[1], s[2], p[0], p[1], p[2])
KERNEL(plan, s[0], s[1], p[0], p[1], p[2], p[3], p[4], p[5])
KERNEL(gather, s[0], s[1], s[2], s[3], p[0], p[1], p[2], p[3], p[4], p[5])
KERNEL(sparse_attention, s[0], s[1], s[2], s[3], s[4], p[0], p[1], p[2], p[3], p[4])
KERNEL(dense_attention, s[0], s[1], s[2], s[3], p[0], p[1], p[2], p[3])
KERNEL(rope, s[0], s[1], s[2], 10000, p[0], p[1], p[2])
KERNEL(rms_norm, s[0], s[1], p[0], p[1], 1e-5, p[2])
KERNEL(lrkv_attention, s[0], s[1], s[2], s[3], p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7])

static const kernel kernels[] = {
    {"sweep_rowwise", run_sweep_rowwise, "ffffFFFFFF", {9, 8, 5, 3}, {45, 40, 27, 24, 15, 15, 15, 15, 27, 24}},
    {"sweep_gram", run_sweep_gram, "ffffFFFF", {5, 3}, {25, 25, 15, 15, 15, 15, 15, 15}},
    {"decode_codes", run_decode_codes, "ffffffFFFF", {2, 7, 5, 3}, {10, 5, 15, 15, 42, 70, 6, 3, 15, 15}},
    {"proxy_scores", run_proxy_scores, "ffF", {2, 7, 3}, {21, 6, 14}},
    {"top_k", run_top_k, "xIN", {2, 7, 3}, {14, 6, 2}},
    {"plan", run_plan, "iiLIII", {7, 4}, {7, 4, 1, 4, 4, 7}},
    {"gather", run_gather, "ggiiFF", {9, 5, 3, 7}, {45, 45, 3, 3, 35, 35}},
    {"sparse_attention", run_sparse_attention, "fffiF", {4, 2, 7, 3, 5}, {20, 70, 70, 12, 20}},
    {"dense_attention", run_dense_attention, "fffF", {4, 2, 7, 5}, {20, 70, 70, 20}},
    {"rope", run_rope, "fiF", {3, 2, 6}, {36, 3, 36}},
    {"rms_norm", run_rms_norm, "ffF", {3, 7}, {21, 7, 21}},
    {"lrkv_attention", run_lrkv_attention, "fffffffF", {2, 7, 5, 3}, {10, 35, 35, 42, 42, 30, 30, 10}},
};

/* The arrays of a call. Inputs end where their sizes say, so that valgrind sees a read behind them; behind an
 * output there are BEHIND bytes that no call may write. */
typedef struct arguments {
  int64_t sizes[MOST_SIZES];
  void *pointers[MOST_POINTERS];
  unsigned char *memory[MOST_POINTERS];
} arguments;

static const unsigned char SENTINEL = 0xA5;

/* Bytes of array i that its sizes ask for, and those that it has. */
static size_t needed_bytes(const kernel *k, int i) {
  return (size_t)k->elements[i] * (k->kinds[i] == 'L' ? 8 : 4);
}
static size_t bytes(const kernel *k, int i) {
  return needed_bytes(k, i) + (strchr("FNIL", k->kinds[i]) ? BEHIND : 0);
}

static arguments make(const kernel *k) {
  arguments a;
  memset(&a, 0, sizeof a);
  memcpy(a.sizes, k->sizes, sizeof a.sizes);
  for (int i = 0; k->kinds[i]; i++) {
    a.memory[i] = malloc(bytes(k, i));
    memset(a.memory[i], SENTINEL, bytes(k, i));
    a.pointers[i] = a.memory[i];
    if (strchr("fxg", k->kinds[i])) fill(a.pointers[i], k->elements[i], (uint64_t)i + 3);
    /* 0, 1, 2, ...: an ascending list of tokens, distinct residents, slots within bounds */
    if (k->kinds[i] == 'i')
      for (int32_t n = 0; n < k->elements[i]; n++) ((int32_t *)a.pointers[i])[n] = n;
  }
  /* Gram matrices are positive definite: 5 on the diagonal, less than 1 beside it. */
  if (!strcmp(k->name, "sweep_gram"))
    for (int side = 0; side < 2; side++) {
      float *G = a.pointers[side];
      for (int i = 0; i < 5; i++)
        for (int j = 0; j <= i; j++) G[i * 5 + j] = G[j * 5 + i] = i == j ? 5.0f : 0.5f * G[i * 5 + j];
    }
  /* Slots of four heads, three each. */
  if (!strcmp(k->name, "sparse_attention"))
    for (int n = 0; n < 12; n++) ((int32_t *)a.pointers[3])[n] = n % 7;
  return a;
}

static void release(const kernel *k, arguments *a) {
  for (int i = 0; k->kinds[i]; i++) free(a->memory[i]);
}

/* True if no byte of an output has changed; with `past`, no byte behind its last element. */
static int untouched(const kernel *k, const arguments *a, int past) {
  for (int i = 0; k->kinds[i]; i++) {
    if (!strchr("FNIL", k->kinds[i])) continue;
    for (size_t b = past ? needed_bytes(k, i) : 0; b < bytes(k, i); b++)
      if (a->memory[i][b] != SENTINEL) return 0;
  }
  return 1;
}

static void refused(const kernel *k, const arguments *a, lrqk_status wanted, const char *why) {
  char message[200] = "unset";
  lrqk_status status = k->run(a->sizes, a->pointers, message, sizeof message);
  EXPECT(status == wanted, "%s, %s: %s, not %s (%s)", k->name, why, lrqk_status_name(status),
         lrqk_status_name(wanted), message);
  EXPECT(message[0] && strcmp(message, "unset"), "%s, %s: no message", k->name, why);
  EXPECT(!strchr(message, '\n'), "%s, %s: more than one line", k->name, why);
  EXPECT(untouched(k, a, 0), "%s, %s: an output was written", k->name, why);
  EXPECT(k->run(a->sizes, a->pointers, NULL, 0) == wanted, "%s, %s, without a message", k->name, why);
  char tiny[1] = {'x'};
  EXPECT(k->run(a->sizes, a->pointers, tiny, 1) == wanted && tiny[0] == 0, "%s, %s", k->name, why);
}

static void check_kernel(const kernel *k) {
  arguments a = make(k);
  for (int i = 0; k->kinds[i]; i++) {
    void *pointer = a.pointers[i];
    char why[40];
    snprintf(why, sizeof why, "pointer %d NULL", i);
    if (k->kinds[i] != 'N') {
      a.pointers[i] = NULL;
      refused(k, &a, LRQK_ERROR_NULL, why);
    }
    snprintf(why, sizeof why, "pointer %d not aligned", i);
    a.pointers[i] = (char *)pointer + 1;
    refused(k, &a, LRQK_ERROR_NULL, why);
    a.pointers[i] = pointer;
    for (int n = 0; n < 2 && strchr("fx", k->kinds[i]); n++) {
      if (n == 1 && k->kinds[i] == 'x') continue; /* scores may be infinite */
      float *x = pointer, kept = x[2];
      snprintf(why, sizeof why, "input %d not finite", i);
      x[2] = n ? -INFINITY : NAN;
      refused(k, &a, LRQK_ERROR_NON_FINITE, why);
      x[2] = kept;
    }
  }
  static const int64_t wrong[] = {0, -1, INT64_MIN, INT64_MAX, (int64_t)1 << 62};
  for (int i = 0; i < MOST_SIZES && k->sizes[i]; i++)
    for (size_t n = 0; n < sizeof wrong / sizeof *wrong; n++) {
      if (wrong[n] == 0 && !strcmp(k->name, "gather") && i == 2) continue; /* no rows is fine */
      char why[40];
      snprintf(why, sizeof why, "size %d = %lld", i, (long long)wrong[n]);
      a.sizes[i] = wrong[n];
      refused(k, &a, LRQK_ERROR_SIZE, why);
      a.sizes[i] = k->sizes[i];
    }
  char message[200] = "unset";
  lrqk_status status = k->run(a.sizes, a.pointers, message, sizeof message);
  EXPECT(status == LRQK_OK && !message[0], "%s: %s", k->name, message);
  EXPECT(untouched(k, &a, 1), "%s wrote behind an output", k->name);
  for (int i = 0; k->kinds[i]; i++)
    if (k->kinds[i] == 'N') {
      a.pointers[i] = NULL;
      EXPECT(k->run(a.sizes, a.pointers, NULL, 0) == LRQK_OK, "%s without pointer %d", k->name, i);
    }
  release(k, &a);
}

/* ---- Part 2: plain answers ------------------------------------------------------------------------------- */

static void check_answers(void) {
  char message[200];
  /* Sums of small integers are exact. */
  const float A_K[] = {1, 2, 3, 4, -5, 6}, q_hat[] = {10, 1};
  float scores[3];
  EXPECT(!lrqk_proxy_scores(1, 3, 2, A_K, q_hat, scores, message, sizeof message), "%s", message);
  EXPECT(scores[0] == 12 && scores[1] == 34 && scores[2] == -44, "%g %g %g", scores[0], scores[1], scores[2]);
  /* A tie at the cut goes to the lower index, and its gap is 0. */
  const float tied[] = {2, 7, 5, 5, 1};
  int32_t best[2];
  float gap;
  EXPECT(!lrqk_top_k(1, 5, 2, tied, best, &gap, message, sizeof message), "%s", message);
  EXPECT(best[0] == 1 && best[1] == 2 && gap == 0, "%d %d %g", best[0], best[1], gap);
  /* 4 stays in slot 1; 2 and 9 take the lowest free slots, 0 and 2. */
  const int32_t resident[] = {7, 4, -1, -1}, needed[] = {2, 4, 9};
  int64_t count;
  int32_t missed[3], slots[3], after[4];
  EXPECT(!lrqk_plan(4, 3, resident, needed, &count, missed, slots, after, message, sizeof message), "%s", message);
  EXPECT(count == 2 && missed[0] == 2 && missed[1] == 9 && missed[2] == -1, "%d", (int)count);
  EXPECT(slots[0] == 0 && slots[1] == 2 && slots[2] == -1, "%d %d", slots[0], slots[1]);
  EXPECT(after[0] == 2 && after[1] == 4 && after[2] == 9 && after[3] == -1, "%d %d", after[0], after[3]);
  /* In place, as an alias. */
  float x[] = {3, 4, 5, 6}, weight[] = {1, 1, 1, 1}, apart[4];
  const int32_t zero = 0;
  EXPECT(!lrqk_rms_norm(1, 4, x, weight, 1e-6, apart, NULL, 0), "apart");
  EXPECT(!lrqk_rms_norm(1, 4, x, weight, 1e-6, x, NULL, 0), "in place");
  EXPECT(!memcmp(x, apart, sizeof x), "an alias changes a result");
  EXPECT(!lrqk_rope(1, 1, 4, 10000, x, &zero, apart, NULL, 0), "rope");
  EXPECT(!memcmp(x, apart, sizeof x), "position 0 turns nothing");
  /* One row attended to is that row. */
  const float K[] = {1, 2, 3, 4}, V[] = {5, 6, 7, 8};
  const int32_t one = 1;
  float out[2];
  EXPECT(!lrqk_sparse_attention(1, 1, 2, 1, 2, x, K, V, &one, out, NULL, 0), "attention");
  EXPECT(out[0] == 7 && out[1] == 8, "%g %g", out[0], out[1]);
  /* Arguments that are wrong together. */
  const int32_t two[] = {3, 3}, falling[] = {5, 2}, below[] = {-2, 0};
  float device[4] = {0}, device2[4] = {0};
  EXPECT(lrqk_plan(2, 2, two, missed, &count, missed, slots, after, message, 200) == LRQK_ERROR_PARAMETER, "twice");
  EXPECT(lrqk_plan(2, 2, below, needed, &count, missed, slots, after, message, 200) == LRQK_ERROR_PARAMETER, "-2");
  EXPECT(lrqk_plan(2, 2, resident, falling, &count, missed, slots, after, message, 200) == LRQK_ERROR_PARAMETER, "falling");
  EXPECT(lrqk_plan(2, 3, resident + 2, needed, &count, missed, slots, after, message, 200) == LRQK_ERROR_SIZE, "k > S");
  EXPECT(lrqk_gather(2, 2, 2, 2, K, V, resident, slots, device, device2, message, 200) == LRQK_ERROR_PARAMETER, "token 7");
  EXPECT(lrqk_gather(2, 2, 1, 2, K, V, &zero, &zero, device, device, message, 200) == LRQK_ERROR_PARAMETER, "overlap");
  EXPECT(lrqk_sparse_attention(1, 1, 2, 1, 2, x, K, V, resident, out, message, 200) == LRQK_ERROR_PARAMETER, "slot 7");
  EXPECT(lrqk_sparse_attention(3, 2, 1, 1, 2, x, K, V, &zero, out, message, 200) == LRQK_ERROR_SIZE, "3 heads over 2");
  EXPECT(lrqk_rope(1, 1, 3, 10000, x, &zero, apart, message, 200) == LRQK_ERROR_SIZE, "odd width");
  EXPECT(lrqk_rope(1, 1, 4, NAN, x, &zero, apart, message, 200) == LRQK_ERROR_PARAMETER, "base");
  EXPECT(lrqk_rms_norm(1, 4, x, weight, 0, x, message, 200) == LRQK_ERROR_PARAMETER, "eps");
  EXPECT(lrqk_top_k(1, 5, 6, tied, best, NULL, message, 200) == LRQK_ERROR_SIZE, "k > c");
  const float zeros[8] = {0};
  float r[6][8];
  EXPECT(lrqk_sweep_rowwise(2, 2, 2, 1, zeros, zeros, zeros, zeros, 1, 1, r[0], r[1], r[2], r[3], r[4], r[5],
                            message, 200) == LRQK_ERROR_BREAKDOWN, "singular");
  EXPECT(strstr(message, "singular"), "%s", message);
  EXPECT(!strcmp(lrqk_status_name((lrqk_status)99), "unknown status"), "99");
  EXPECT(!strcmp(lrqk_status_name(LRQK_ERROR_CLOSED), "closed handle"), "closed");
  EXPECT(!strcmp(lrqk_direction_name(-1), "unknown") && !strcmp(lrqk_reason_name(3), "miss"), "names");
  EXPECT(!strcmp(lrqk_version(), LRQK_VERSION), "header %s, library %s", LRQK_VERSION, lrqk_version());
  EXPECT(!strncmp(lrqk_openblas(), "OpenBLAS ", 9) && lrqk_openblas() == lrqk_openblas(), "%s", lrqk_openblas());
}

/* ---- Part 3: a cache, rightly and wrongly ---------------------------------------------------------------- */

enum { H = 4, M = 2, D = 8, RANK = 3, SELECTED = 6, RECENT = 4, PROMPT = 30, STEPS = 12, TOKENS = PROMPT + STEPS };

typedef struct rows {
  float Q[H * PROMPT * D], K[M * PROMPT * D], V[M * PROMPT * D];
  float q[STEPS][H * D], k[STEPS][M * D], v[STEPS][M * D];
} rows;

static void fill_rows(rows *r, uint64_t seed) {
  fill(r->Q, H * PROMPT * D, seed);
  fill(r->K, M * PROMPT * D, seed + 1);
  fill(r->V, M * PROMPT * D, seed + 2);
  fill(&r->q[0][0], STEPS * H * D, seed + 3);
  fill(&r->k[0][0], STEPS * M * D, seed + 4);
  fill(&r->v[0][0], STEPS * M * D, seed + 5);
}

static lrqk_options options_of(lrqk_preset preset) {
  lrqk_options o;
  EXPECT(!lrqk_options_init(&o, sizeof o, preset), "preset %d", (int)preset);
  o.query_heads = H;
  o.key_value_heads = M;
  o.width = D;
  o.rank = RANK;
  o.selected = SELECTED;
  o.recent = RECENT;
  return o;
}

/* What a run leaves: attention of every step, sets, and the sum of the ledger. */
typedef struct run {
  float attention[STEPS][H * D];
  int32_t selected[STEPS][H][SELECTED];
  lrqk_total total;
} run;

/* The same run as one cache, checked at every call. */
static void answer_prompt(lrqk_preset preset, const rows *r, run *out) {
  lrqk_options o = options_of(preset);
  lrqk_cache cache = 0;
  char message[300] = "";
  EXPECT(!lrqk_cache_create(&o, &cache, message, sizeof message), "%s", message);
  lrqk_status status = lrqk_cache_prefill(cache, PROMPT, r->Q, r->K, r->V);
  lrqk_cache_message(cache, message, sizeof message);
  EXPECT(!status, "prefill: %s", message);
  for (int t = 0; t < STEPS; t++) {
    status = lrqk_cache_decode(cache, r->q[t], r->k[t], r->v[t], out->attention[t]);
    lrqk_cache_message(cache, message, sizeof message);
    EXPECT(!status, "step %d: %s", t, message);
    for (int h = 0; h < H; h++) {
      int64_t count = 0;
      EXPECT(!lrqk_cache_selected(cache, h, SELECTED, out->selected[t][h], &count), "step %d", t);
      EXPECT(count == SELECTED, "%d selected", (int)count);
    }
  }
  EXPECT(!lrqk_cache_ledger_total(cache, 0, 0, -1, &out->total, sizeof out->total), "ledger");
  EXPECT(!lrqk_cache_free(cache), "free");
}

static void check_cache(void) {
  static rows r;
  fill_rows(&r, 5);
  lrqk_options o = options_of(LRQK_PRESET_RECOMMENDED);
  lrqk_cache cache = 0;
  char message[300] = "";
  EXPECT(!lrqk_cache_create(&o, &cache, message, sizeof message), "%s", message);

  /* An open cache cannot be found by counting. */
  for (lrqk_cache guess = 0; guess < 1000; guess++) EXPECT(lrqk_cache_free(guess) == LRQK_ERROR_CLOSED, "guessed");

  /* Too early. */
  float attention[H * D], small[H * D];
  int64_t count, hits[H], missed[H];
  double gaps[H];
  int32_t tokens[TOKENS];
  lrqk_cache_info info;
  EXPECT(lrqk_cache_decode(cache, r.q[0], r.k[0], r.v[0], attention) == LRQK_ERROR_STATE, "early");
  EXPECT(lrqk_cache_gaps(cache, H, gaps) == LRQK_ERROR_STATE, "early");
  EXPECT(lrqk_cache_key_codes(cache, 0, PROMPT, RANK, r.Q) == LRQK_ERROR_STATE, "early");

  /* A prompt in two chunks. The heads of a chunk lie behind each other. */
  static float Q[H * PROMPT * D], K[M * PROMPT * D], V[M * PROMPT * D];
  int first = 0;
  for (int chunk = 0; chunk < 2; chunk++) {
    int n = chunk ? PROMPT - first : 11;
    for (int h = 0; h < H; h++) memcpy(Q + h * n * D, r.Q + (h * PROMPT + first) * D, sizeof(float) * n * D);
    for (int h = 0; h < M; h++) memcpy(K + h * n * D, r.K + (h * PROMPT + first) * D, sizeof(float) * n * D);
    for (int h = 0; h < M; h++) memcpy(V + h * n * D, r.V + (h * PROMPT + first) * D, sizeof(float) * n * D);
    EXPECT(lrqk_cache_extend_prompt(cache, n, NULL, K, V) == LRQK_ERROR_NULL, "Q NULL");
    EXPECT(lrqk_cache_extend_prompt(cache, 0, Q, K, V) == LRQK_ERROR_SIZE, "no tokens");
    EXPECT(lrqk_cache_extend_prompt(cache, INT64_MAX, Q, K, V) == LRQK_ERROR_SIZE, "too many tokens");
    EXPECT(lrqk_cache_extend_prompt_from(cache, n, Q, K, V, Q, K) == LRQK_ERROR_PARAMETER, "not given");
    float kept = V[1];
    V[1] = INFINITY;
    EXPECT(lrqk_cache_extend_prompt(cache, n, Q, K, V) == LRQK_ERROR_NON_FINITE, "V infinite");
    V[1] = kept;
    EXPECT(!lrqk_cache_extend_prompt(cache, n, Q, K, V), "chunk %d", chunk);
    first += n;
  }
  EXPECT(!lrqk_cache_complete_prompt(cache), "complete");
  EXPECT(lrqk_cache_complete_prompt(cache) == LRQK_ERROR_STATE, "complete twice");
  EXPECT(lrqk_cache_extend_prompt(cache, 1, Q, K, V) == LRQK_ERROR_STATE, "grow");
  EXPECT(!lrqk_cache_message(cache, message, sizeof message) && strstr(message, "complete"), "%s", message);
  EXPECT(lrqk_cache_message(cache, NULL, 0) == LRQK_ERROR_NULL, "no buffer");

  /* The same bits as a prompt in one piece. */
  static run whole;
  answer_prompt(LRQK_PRESET_RECOMMENDED, &r, &whole);
  for (int t = 0; t < STEPS; t++) {
    EXPECT(lrqk_cache_decode(cache, r.q[t], NULL, r.v[t], attention) == LRQK_ERROR_NULL, "k NULL");
    EXPECT(lrqk_cache_decode(cache, r.q[t], r.k[t], r.v[t], NULL) == LRQK_ERROR_NULL, "attention NULL");
    memcpy(small, r.q[t], sizeof small);
    small[3] = NAN;
    EXPECT(lrqk_cache_decode(cache, small, r.k[t], r.v[t], attention) == LRQK_ERROR_NON_FINITE, "q NaN");
    EXPECT(!lrqk_cache_decode(cache, r.q[t], r.k[t], r.v[t], attention), "step %d", t);
    EXPECT(!memcmp(attention, whole.attention[t], sizeof attention), "chunks change step %d", t);
  }

  /* Everything that can be read. */
  EXPECT(!lrqk_cache_get_info(cache, &info, sizeof info), "info");
  EXPECT(info.tokens == TOKENS && info.steps == STEPS && info.phase == LRQK_PHASE_SPARSE, "info");
  EXPECT(info.codes == M && info.holders == M && info.recent_count == RECENT, "info");
  EXPECT(info.recent_first == TOKENS - RECENT, "recent from %d", (int)info.recent_first);
  EXPECT(lrqk_cache_get_info(cache, &info, 8) == LRQK_ERROR_SIZE, "old struct");
  EXPECT(lrqk_cache_get_info(cache, NULL, sizeof info) == LRQK_ERROR_NULL, "NULL");
  EXPECT(!lrqk_cache_attended(cache, 1, TOKENS, tokens, &count) && count == SELECTED + RECENT, "attended");
  EXPECT(lrqk_cache_attended(cache, H, TOKENS, tokens, &count) == LRQK_ERROR_SIZE, "head 4");
  EXPECT(lrqk_cache_attended(cache, -1, TOKENS, tokens, &count) == LRQK_ERROR_SIZE, "head -1");
  EXPECT(lrqk_cache_attended(cache, 1, TOKENS, NULL, &count) == LRQK_ERROR_NULL, "tokens NULL");
  EXPECT(lrqk_cache_attended(cache, 1, TOKENS, tokens, NULL) == LRQK_ERROR_NULL, "count NULL");
  EXPECT(lrqk_cache_attended(cache, 1, 1, tokens, &count) == LRQK_ERROR_SIZE, "no room");
  EXPECT(!lrqk_cache_hits(cache, M, hits, missed) && hits[0] + missed[0] >= SELECTED, "hits");
  EXPECT(lrqk_cache_hits(cache, H, hits, missed) == LRQK_ERROR_SIZE, "holders");
  EXPECT(!lrqk_cache_gaps(cache, H, gaps) && gaps[0] >= 0, "gaps");
  EXPECT(lrqk_cache_gaps(cache, M, gaps) == LRQK_ERROR_SIZE, "heads");
  static float A_K[TOKENS * RANK];
  float x[H * RANK * D], y[H * RANK * D];
  EXPECT(!lrqk_cache_key_codes(cache, 1, TOKENS, RANK, A_K), "A_K");
  EXPECT(lrqk_cache_key_codes(cache, 1, TOKENS - 1, RANK, A_K) == LRQK_ERROR_SIZE, "tokens");
  EXPECT(lrqk_cache_key_codes(cache, M, TOKENS, RANK, A_K) == LRQK_ERROR_SIZE, "index");
  EXPECT(!lrqk_cache_step_codes(cache, 1, H / M, RANK, x, y), "step codes");
  EXPECT(!lrqk_cache_bases(cache, 0, RANK, D, x, y), "bases");
  EXPECT(!lrqk_cache_maps(cache, 0, D, RANK, x, y), "maps");
  EXPECT(lrqk_cache_maps(cache, 0, RANK, D, x, y) == LRQK_ERROR_SIZE, "turned round");
  EXPECT(lrqk_cache_maps(cache, 0, D, RANK, NULL, y) == LRQK_ERROR_NULL, "NULL");
  lrqk_bytes bytes;
  EXPECT(!lrqk_cache_bytes(cache, &bytes, sizeof bytes), "bytes");
  EXPECT(bytes.full == (int64_t)M * TOKENS * D * 2 * 4, "full %d", (int)bytes.full);
  EXPECT(bytes.resident <= bytes.peak && bytes.resident > 0, "resident");

  /* The ledger: totals are sums of events. */
  lrqk_total total, sum = {0, 0, 0};
  EXPECT(!lrqk_cache_ledger_events(cache, 0, 0, NULL, sizeof(lrqk_event), &count), "events");
  lrqk_event *events = malloc((size_t)count * sizeof *events);
  EXPECT(!lrqk_cache_ledger_events(cache, 0, count, events, sizeof *events, &count), "events");
  for (int64_t i = 0; i < count; i++) {
    sum.events++;
    sum.rows += events[i].rows;
    sum.bytes += events[i].bytes;
    lrqk_event one;
    EXPECT(!lrqk_cache_ledger_events(cache, i, 1, &one, sizeof one, &count), "event");
    EXPECT(!memcmp(&one, events + i, sizeof one), "event %d", (int)i);
  }
  free(events);
  EXPECT(!lrqk_cache_ledger_total(cache, 0, 0, -1, &total, sizeof total), "total");
  EXPECT(!memcmp(&total, &sum, sizeof sum) && !memcmp(&total, &whole.total, sizeof sum), "total");
  EXPECT(!lrqk_cache_ledger_total(cache, LRQK_DEVICE_TO_HOST, LRQK_REASON_PROMPT_OFFLOAD, 0, &total, sizeof total), "offload");
  EXPECT(total.rows == M * PROMPT && total.bytes == M * PROMPT * D * 8, "offload %d", (int)total.rows);
  EXPECT(lrqk_cache_ledger_total(cache, 3, 0, -1, &total, sizeof total) == LRQK_ERROR_PARAMETER, "direction 3");
  EXPECT(lrqk_cache_ledger_total(cache, 0, -1, -1, &total, sizeof total) == LRQK_ERROR_PARAMETER, "reason -1");
  EXPECT(lrqk_cache_ledger_total(cache, 0, 0, -2, &total, sizeof total) == LRQK_ERROR_SIZE, "step -2");

  /* Closed and foreign handles: every function answers, none crashes. */
  EXPECT(!lrqk_cache_free(cache), "free");
  const lrqk_cache others[] = {cache, 0, 1, cache + 1, (lrqk_cache)(uintptr_t)&r, UINT64_MAX};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    lrqk_cache c = others[i];
    const lrqk_status answers[] = {
        lrqk_cache_free(c), lrqk_cache_message(c, message, 300), lrqk_cache_prefill(c, PROMPT, r.Q, r.K, r.V),
        lrqk_cache_extend_prompt(c, PROMPT, r.Q, r.K, r.V),
        lrqk_cache_extend_prompt_from(c, PROMPT, r.Q, r.K, r.V, r.Q, r.K), lrqk_cache_complete_prompt(c),
        lrqk_cache_decode(c, r.q[0], r.k[0], r.v[0], attention), lrqk_cache_get_info(c, &info, sizeof info),
        lrqk_cache_selected(c, 0, TOKENS, tokens, &count), lrqk_cache_attended(c, 0, TOKENS, tokens, &count),
        lrqk_cache_hits(c, M, hits, missed), lrqk_cache_gaps(c, H, gaps),
        lrqk_cache_key_codes(c, 0, TOKENS, RANK, A_K), lrqk_cache_step_codes(c, 0, 2, RANK, x, y),
        lrqk_cache_bases(c, 0, RANK, D, x, y), lrqk_cache_maps(c, 0, D, RANK, x, y),
        lrqk_cache_bytes(c, &bytes, sizeof bytes), lrqk_cache_ledger_total(c, 0, 0, -1, &total, sizeof total),
        lrqk_cache_ledger_events(c, 0, 0, NULL, sizeof(lrqk_event), &count)};
    for (size_t n = 0; n < sizeof answers / sizeof *answers; n++)
      EXPECT(answers[n] == LRQK_ERROR_CLOSED, "handle %d, function %d: %d", (int)i, (int)n, (int)answers[n]);
  }

  /* Options that make no sense. */
  cache = 7;
  EXPECT(lrqk_cache_create(NULL, &cache, message, 300) == LRQK_ERROR_NULL, "options NULL");
  EXPECT(lrqk_cache_create(&o, NULL, message, 300) == LRQK_ERROR_NULL, "cache NULL");
  EXPECT(lrqk_options_init(NULL, sizeof o, LRQK_PRESET_PAPER) == LRQK_ERROR_NULL, "NULL");
  EXPECT(lrqk_options_init(&o, 8, LRQK_PRESET_PAPER) == LRQK_ERROR_SIZE, "old struct");
  EXPECT(lrqk_options_init(&o, sizeof o, (lrqk_preset)9) == LRQK_ERROR_PARAMETER, "preset 9");
  for (size_t byte = 0; byte < sizeof o; byte++) {
    /* A wild byte anywhere: some status, and a cache only if it is OK. */
    lrqk_options wild = options_of(LRQK_PRESET_PAPER);
    ((unsigned char *)&wild)[byte] ^= 0x91;
    cache = 0;
    lrqk_status status = lrqk_cache_create(&wild, &cache, message, 300);
    EXPECT((status == LRQK_OK) == (cache != 0) && (status == LRQK_OK) == !message[0], "byte %d", (int)byte);
    if (cache) EXPECT(!lrqk_cache_free(cache), "free");
  }

  /* A capacity that is too small breaks a cache; it says so and can still be closed. */
  o = options_of(LRQK_PRESET_PAPER);
  o.device_capacity = 5000;
  EXPECT(!lrqk_cache_create(&o, &cache, message, 300), "%s", message);
  EXPECT(lrqk_cache_prefill(cache, PROMPT, r.Q, r.K, r.V) == LRQK_ERROR_MEMORY, "capacity");
  EXPECT(lrqk_cache_decode(cache, r.q[0], r.k[0], r.v[0], attention) == LRQK_ERROR_STATE, "broken");
  EXPECT(!lrqk_cache_bytes(cache, &bytes, sizeof bytes) && bytes.peak <= 5000, "bytes of a broken cache");
  EXPECT(!lrqk_cache_free(cache), "free");

  /* A whole answer in one call. */
  o = options_of(LRQK_PRESET_PAPER);
  static float longQ[H * TOKENS * D], longK[M * TOKENS * D];
  fill(longQ, H * TOKENS * D, 1);
  fill(longK, M * TOKENS * D, 2);
  static float out[STEPS * H * D];
  static int32_t selected[STEPS * H * SELECTED];
  static int64_t misses[STEPS * H];
  EXPECT(!lrqk_decode_steps(&o, PROMPT, STEPS, longQ, longK, longK, selected, misses, out, message, 300), "%s", message);
  EXPECT(lrqk_decode_steps(&o, PROMPT, 0, longQ, longK, longK, selected, misses, out, message, 300) == LRQK_ERROR_SIZE, "T");
  EXPECT(lrqk_decode_steps(&o, PROMPT, STEPS, longQ, longK, longK, NULL, misses, out, message, 300) == LRQK_ERROR_NULL, "NULL");
}

/* ---- Part 4: eight threads ------------------------------------------------------------------------------- */

enum { THREADS = 8 };

static rows shared_rows;
static run expected[2];
static lrqk_cache shared_cache;
static lrqk_cache doomed;

static void *worker(void *argument) {
  int me = *(int *)argument;
  lrqk_preset preset = me % 2 ? LRQK_PRESET_RECOMMENDED : LRQK_PRESET_PAPER;
  run *own = calloc(1, sizeof *own);
  for (int round = 0; round < 2; round++) {
    /* A cache of its own, the bits of one thread alone. */
    answer_prompt(preset, &shared_rows, own);
    EXPECT(!memcmp(own, &expected[me % 2], sizeof *own), "thread %d, round %d", me, round);
    /* One function for all, on inputs that all share. */
    float scores[PROMPT * H];
    EXPECT(!lrqk_proxy_scores(H, PROMPT, D, shared_rows.K, shared_rows.q[0], scores, NULL, 0), "thread %d", me);
    for (int i = 0; i < 20; i++) {
      float again[PROMPT * H];
      EXPECT(!lrqk_proxy_scores(H, PROMPT, D, shared_rows.K, shared_rows.q[0], again, NULL, 0), "thread %d", me);
      EXPECT(!memcmp(scores, again, sizeof scores), "thread %d", me);
      /* One cache that all read. */
      int32_t tokens[SELECTED];
      int64_t count;
      EXPECT(!lrqk_cache_selected(shared_cache, me % H, SELECTED, tokens, &count), "thread %d", me);
      /* And one that another thread closes meanwhile. */
      lrqk_status status = lrqk_cache_selected(doomed, 0, SELECTED, tokens, &count);
      EXPECT(status == LRQK_OK || status == LRQK_ERROR_CLOSED, "thread %d: %d", me, (int)status);
      if (i == 10 && me == 0 && round == 0) EXPECT(!lrqk_cache_free(doomed), "close");
    }
  }
  free(own);
  return NULL;
}

static void check_threads(void) {
  fill_rows(&shared_rows, 17);
  answer_prompt(LRQK_PRESET_PAPER, &shared_rows, &expected[0]);
  answer_prompt(LRQK_PRESET_RECOMMENDED, &shared_rows, &expected[1]);
  lrqk_options o = options_of(LRQK_PRESET_PAPER);
  for (int i = 0; i < 2; i++) {
    lrqk_cache *cache = i ? &doomed : &shared_cache;
    EXPECT(!lrqk_cache_create(&o, cache, NULL, 0), "create");
    EXPECT(!lrqk_cache_prefill(*cache, PROMPT, shared_rows.Q, shared_rows.K, shared_rows.V), "prefill");
  }
  pthread_t threads[THREADS];
  int numbers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    numbers[i] = i;
    EXPECT(!pthread_create(&threads[i], NULL, worker, &numbers[i]), "thread %d", i);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  EXPECT(!lrqk_cache_free(shared_cache), "free");
  EXPECT(lrqk_cache_free(doomed) == LRQK_ERROR_CLOSED, "closed by a thread");
}

int main(void) {
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) check_kernel(&kernels[i]);
  printf("%d functions, rightly and wrongly\n", (int)(sizeof kernels / sizeof *kernels));
  check_answers();
  printf("plain answers\n");
  check_cache();
  printf("a cache, rightly and wrongly\n");
  check_threads();
  printf("%d threads\n", THREADS);
  if (failures) printf("%d FAILURES\n", failures);
  else printf("all as expected\n");
  return failures ? 1 : 0;
}
