/* histogram.h - how often which latency was seen, in constant memory. Pure. */
#ifndef PST_CLI_BENCH_HISTOGRAM_H
#define PST_CLI_BENCH_HISTOGRAM_H

#include <stdint.h>

/* Log-linear: values below 128 are exact, above that each power of two is cut into 128 equal buckets,
 * so that a value is known to 0.8 % however large it is. */
#define HISTOGRAM_SUB_BITS 7u
#define HISTOGRAM_SUBS (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_BUCKETS ((64u - HISTOGRAM_SUB_BITS + 1u) * HISTOGRAM_SUBS)

/* Zero it to start; 60 KiB. */
struct histogram {
    uint64_t n, min, max;
    double sum;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The smallest value that `per_100k` of 100,000 values do not exceed: 50,000 is the median, 99,900 the
 * 99.9th percentile. The upper edge of its bucket, so never less than the truth, and never more than
 * the maximum. 0 if there are no values. */
uint64_t histogram_percentile(const struct histogram *histogram, uint32_t per_100k);

double histogram_mean(const struct histogram *histogram);

#endif
