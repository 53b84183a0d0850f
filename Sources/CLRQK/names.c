/* Names of numbers, as constant text, and the promise that the structs of lrqk.h have no gaps.
 *
 * In:  a status, a direction, a reason.
 * Out: text that lives as long as the library. Everything else of lrqk.h is in Sources/CInterface.
 */
#include "lrqk.h"

#define COUNT(names) ((int32_t)(sizeof(names) / sizeof((names)[0])))

const char *lrqk_version(void) { return LRQK_VERSION; }

const char *lrqk_status_name(lrqk_status status) {
  static const char *const names[] = {
      "ok",     "null pointer",  "wrong size", "bad parameter", "not finite", "breakdown",
      "memory", "closed handle", "not now",    "internal error"};
  int32_t i = (int32_t)status;
  return i >= 0 && i < COUNT(names) ? names[i] : "unknown status";
}

const char *lrqk_direction_name(int32_t direction) {
  static const char *const names[] = {"any", "host_to_device", "device_to_host"};
  return direction >= 0 && direction < COUNT(names) ? names[direction] : "unknown";
}

const char *lrqk_reason_name(int32_t reason) {
  static const char *const names[] = {"any", "prompt-offload", "ring-flush", "miss", "reload"};
  return reason >= 0 && reason < COUNT(names) ? names[reason] : "unknown";
}

/* Other languages declare these structs once more: every byte of them belongs to a field. */
_Static_assert(sizeof(lrqk_options) == 21 * 8 + 12 * 4, "lrqk_options has gaps");
_Static_assert(sizeof(lrqk_cache_info) == 11 * 8 + 2 * 4, "lrqk_cache_info has gaps");
_Static_assert(sizeof(lrqk_event) == 5 * 8 + 2 * 4, "lrqk_event has gaps");
_Static_assert(sizeof(lrqk_total) == 3 * 8 && sizeof(lrqk_bytes) == 4 * 8, "totals have gaps");
