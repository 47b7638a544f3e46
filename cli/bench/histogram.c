/* histogram.c - log-linear buckets. */
#include "histogram.h"

static uint32_t bucket_of(uint64_t value)
{
    uint32_t shift;

    if (value < HISTOGRAM_SUBS)
        return (uint32_t)value;
    shift = 63u - (uint32_t)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (shift + 1) * HISTOGRAM_SUBS + ((uint32_t)(value >> shift) - HISTOGRAM_SUBS);
}

/* The largest value that falls into the bucket. */
static uint64_t top_of(uint32_t bucket)
{
    uint32_t row = bucket / HISTOGRAM_SUBS;
    uint64_t sub = bucket % HISTOGRAM_SUBS;

    if (row == 0)
        return sub;
    return ((HISTOGRAM_SUBS + sub) << (row - 1)) + ((uint64_t)1 << (row - 1)) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    if (histogram->n == 0 || value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->n++;
    histogram->sum += (double)value;
    histogram->counts[bucket_of(value)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    if (from->n == 0)
        return;
    if (into->n == 0 || from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
    into->n += from->n;
    into->sum += from->sum;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->counts[i] += from->counts[i];
}

uint64_t histogram_percentile(const struct histogram *histogram, uint32_t per_100k)
{
    uint64_t n = histogram->n, seen = 0, rank;

    if (n == 0)
        return 0;
    /* Rounded up, in two steps so that no number of values overflows. */
    rank = n / 100000 * per_100k + (n % 100000 * per_100k + 99999) / 100000;
    if (rank == 0)
        return histogram->min;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= rank)
            return top_of(i) < histogram->max ? top_of(i) : histogram->max;
    }
    return histogram->max;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->n ? histogram->sum / (double)histogram->n : 0;
}
