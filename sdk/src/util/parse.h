/* parse.h - numbers, sizes, durations and booleans as people write them. Locale plays no part. */
#ifndef PST_UTIL_PARSE_H
#define PST_UTIL_PARSE_H

#include <stddef.h>
#include <stdint.h>

/* All return 1 and set *out, or 0 for text that is not wholly a value of that kind. */

/* Decimal, with an optional sign. */
int pst_parse_int(const char *text, size_t len, int64_t *out);

/* Bytes: "4096", "8MiB", "8M" (the same), "8MB" (8,000,000). Units from B to PiB, without case. */
int pst_parse_size(const char *text, size_t len, int64_t *out_bytes);

/* Milliseconds: "500ms", "30s", "5m", "2h", "1d". Only 0 may go without a unit. */
int pst_parse_duration(const char *text, size_t len, int64_t *out_ms);

/* true, yes, on, 1 and false, no, off, 0, without case. */
int pst_parse_bool(const char *text, size_t len, int *out);

#endif
