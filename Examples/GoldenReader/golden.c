/* Reads a golden file (Docs/golden.md) in C and checks proxy scores with it. No library.
 *
 *   cc -std=c11 -O2 golden.c -o golden -lm && ./golden FOLDER/proxy-scores.random.safetensors
 *
 * A safetensors file is 8 bytes of header length, a JSON header, and the data. Names of tensors occur once
 * in the header, behind them their shape and where their data lie: enough to look for them as text.
 */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const void *data;
  long shape[4];
  int axes;
} tensor;

static char *file_bytes(const char *path, long *size) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  fseek(file, 0, SEEK_END);
  *size = ftell(file);
  rewind(file);
  char *bytes = malloc(*size + 1);
  if (!bytes || fread(bytes, 1, *size, file) != (size_t)*size) {
    free(bytes);
    bytes = NULL;
  }
  fclose(file);
  return bytes;
}

/* The tensor `name`; data is NULL where there is none. `header` ends with a 0. */
static tensor find(const char *header, const char *data, const char *name) {
  tensor t = {NULL, {0}, 0};
  char key[128];
  snprintf(key, sizeof key, "\"%s\":{\"dtype\"", name);
  const char *entry = strstr(header, key);
  if (!entry) return t;
  const char *shape = strstr(entry, "\"shape\":[") + 9;
  while (*shape != ']' && t.axes < 4) {
    t.shape[t.axes++] = strtol(shape, (char **)&shape, 10);
    if (*shape == ',') shape++;
  }
  t.data = data + strtol(strstr(entry, "\"data_offsets\":[") + 16, NULL, 10);
  return t;
}

int main(int count, char **arguments) {
  if (count != 2) return fprintf(stderr, "usage: %s FILE\n", arguments[0]), 64;
  long size;
  char *bytes = file_bytes(arguments[1], &size);
  if (!bytes) return fprintf(stderr, "%s cannot be read\n", arguments[1]), 65;
  uint64_t length;
  memcpy(&length, bytes, 8); /* little-endian */
  if (size < 8 || length > (uint64_t)size - 8) return fprintf(stderr, "no safetensors file\n"), 65;
  char *header = malloc(length + 1);
  memcpy(header, bytes + 8, length);
  header[length] = 0;
  const char *data = bytes + 8 + length;

  tensor A_K = find(header, data, "inputs/A_K"), q_hat = find(header, data, "inputs/q_hat");
  tensor expected = find(header, data, "expected/scores");
  tensor allowed = find(header, data, "allowed/f32/scores");
  if (!A_K.data || !q_hat.data || !expected.data || !allowed.data)
    return fprintf(stderr, "%s is no case of proxy-scores with a tolerance\n", arguments[1]), 65;

  /* The kernel of your own stands here. */
  const float *a = A_K.data, *q = q_hat.data;
  long H = q_hat.shape[0], c = A_K.shape[0], r = A_K.shape[1], wrong = 0;
  for (long h = 0; h < H; h++)
    for (long t = 0; t < c; t++) {
      float score = 0;
      for (long j = 0; j < r; j++) score += q[h * r + j] * a[t * r + j];
      double right = ((const double *)expected.data)[h * c + t];
      double limit = ((const double *)allowed.data)[h];
      if (!(fabs(score - right) <= limit) && wrong++ == 0)
        printf("scores[%ld, %ld] = %.9g, expected %.9g, allowed %.3g\n", h, t, score, right, limit);
    }
  printf("%ld of %ld scores are wrong\n", wrong, H * c);
  free(header);
  free(bytes);
  return wrong != 0;
}
