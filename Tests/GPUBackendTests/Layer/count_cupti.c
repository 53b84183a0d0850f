// A counter below CUDA's driver: bytes and calls of every copy that CUPTI saw on the device.
//
// In:  a process whose CUDA_INJECTION64_PATH names the shared object built from this file; the driver
//      loads it and calls InitializeInjection.
// Out: when the process ends, one line on standard error: writes, reads, and everything else that could
//      have moved data, which the backend must not use.
//
// build_cupti.sh builds it.
//
// The driver may split one copy into several records; they carry one correlation id, so calls are
// counted by it. Nothing of the backend is in this file, so its numbers are a second witness.

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cupti_activity.h>

struct tally {
  unsigned long long bytes;
  uint32_t *ids;
  size_t count, room;
};
static struct tally written, read_back;
static unsigned long long others;

static void add(struct tally *tally, const CUpti_ActivityMemcpy6 *copy) {
  if (tally->count == tally->room) {
    tally->room = tally->room ? 2 * tally->room : 1 << 14;
    tally->ids = realloc(tally->ids, tally->room * sizeof *tally->ids);
    if (!tally->ids) {
      fputs("cupti: no memory left\n", stderr);
      abort();
    }
  }
  tally->ids[tally->count++] = copy->correlationId;
  tally->bytes += copy->bytes;
}

static int order(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static size_t calls(struct tally *tally) {
  size_t different = 0;
  if (tally->count) qsort(tally->ids, tally->count, sizeof *tally->ids, order);
  for (size_t i = 0; i < tally->count; i++)
    different += i == 0 || tally->ids[i] != tally->ids[i - 1];
  return different;
}

static void CUPTIAPI requested(uint8_t **buffer, size_t *size, size_t *most) {
  *size = 1 << 20;
  *most = 0;  // as many records as fit
  *buffer = aligned_alloc(8, *size);
  if (!*buffer) *size = 0;
}

static void CUPTIAPI completed(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size,
                               size_t valid) {
  (void)size;
  CUpti_Activity *record = NULL;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
    if (record->kind != CUPTI_ACTIVITY_KIND_MEMCPY) {
      others++;
      continue;
    }
    const CUpti_ActivityMemcpy6 *copy = (const CUpti_ActivityMemcpy6 *)(void *)record;
    if (copy->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_HTOD) add(&written, copy);
    else if (copy->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_DTOH) add(&read_back, copy);
    else others++;
  }
  size_t dropped = 0;
  if (cuptiActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_SUCCESS)
    others += dropped;
  free(buffer);
}

static void finish(void) {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  fprintf(stderr, "cupti: written %zu %llu read %zu %llu other %llu\n", calls(&written),
          written.bytes, calls(&read_back), read_back.bytes, others);
}

static int fails(CUptiResult result, const char *call) {
  const char *why = "an unknown error";
  if (result == CUPTI_SUCCESS) return 0;
  cuptiGetResultString(result, &why);
  fprintf(stderr, "cupti: %s failed: %s\n", call, why);
  return 1;
}

// Called by the driver; 1 is success.
int InitializeInjection(void);
int InitializeInjection(void) {
  const CUpti_ActivityKind kinds[] = {CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMCPY2,
                                      CUPTI_ACTIVITY_KIND_MEMSET};
  if (fails(cuptiActivityRegisterCallbacks(requested, completed), "cuptiActivityRegisterCallbacks"))
    return 0;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (fails(cuptiActivityEnable(kinds[i]), "cuptiActivityEnable")) return 0;
  return atexit(finish) == 0;
}
