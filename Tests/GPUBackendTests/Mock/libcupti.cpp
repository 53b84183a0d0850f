// CUPTI without a GPU: the copies of the mock driver as the records that CUPTI would hand out.
//
// In:  mock_copied, which libcuda.cpp calls for each copy. Out: the five functions that
//      Layer/count_cupti.c calls, with the vendor's own types (wheels nvidia-cuda-cupti and -runtime).
//
// Large copies become two records of one correlation id, as a driver may do. What this cannot show is
// what a driver records besides.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <vector>

#include <cupti_activity.h>

static CUpti_BuffersCallbackRequestFunc request;
static CUpti_BuffersCallbackCompleteFunc complete;
static bool enabled;
static uint32_t calls;
static std::vector<CUpti_ActivityMemcpy6> records;

static void add(int kind, size_t bytes) {
  CUpti_ActivityMemcpy6 copy;
  memset(&copy, 0, sizeof copy);
  copy.kind = CUPTI_ACTIVITY_KIND_MEMCPY;
  copy.copyKind = (uint8_t)kind;
  copy.bytes = bytes;
  copy.correlationId = calls;
  copy.copyCount = 1;
  records.push_back(copy);
}

extern "C" void mock_copied(bool is_write, size_t bytes) {
  int kind = is_write ? CUPTI_ACTIVITY_MEMCPY_KIND_HTOD : CUPTI_ACTIVITY_MEMCPY_KIND_DTOH;
  size_t first = bytes > 65536 ? 65536 : bytes;
  if (!enabled) return;
  calls++;
  add(kind, first);
  if (first < bytes) add(kind, bytes - first);
}

extern "C" {
CUptiResult CUPTIAPI cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc requested,
                                                    CUpti_BuffersCallbackCompleteFunc completed) {
  request = requested;
  complete = completed;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityEnable(CUpti_ActivityKind kind) {
  enabled = enabled || kind == CUPTI_ACTIVITY_KIND_MEMCPY;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityFlushAll(uint32_t) {
  for (size_t next = 0; next < records.size();) {
    uint8_t *buffer = nullptr;
    size_t size = 0, most = 0, count = 0;
    request(&buffer, &size, &most);
    for (; next < records.size() && (count + 1) * sizeof records[0] <= size; count++, next++)
      memcpy(buffer + count * sizeof records[0], &records[next], sizeof records[0]);
    complete(nullptr, 0, buffer, size, count * sizeof records[0]);
    if (count == 0) return CUPTI_ERROR_UNKNOWN;
  }
  records.clear();
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid,
                                                CUpti_Activity **record) {
  uint8_t *next = *record ? (uint8_t *)*record + sizeof records[0] : buffer;
  if (next + sizeof records[0] > buffer + valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  return *record = (CUpti_Activity *)next, CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityGetNumDroppedRecords(CUcontext, uint32_t, size_t *dropped) {
  return *dropped = 0, CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiGetResultString(CUptiResult, const char **text) {
  return *text = "an error of the mock", CUPTI_SUCCESS;
}
}
