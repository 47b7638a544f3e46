/* sides.c - sides that run by turns, and the rows that tell how they compare.
 *
 * Two things make ratios that mean something on a small, shared machine. All sides get the same kind of
 * pages, because the first touch of a 4 KiB page costs more than the copy into it. And they run by turns,
 * A B C, C B A, A B C: each ratio is of neighbours in time, and the median of five of them is what
 * counts. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double clock_wall_s, clock_cpu_s, started_wall_s, started_cpu_s;

void start_clock(void)
{
    started_cpu_s = cpu_s();
    started_wall_s = now_s();
}

void stop_clock(void)
{
    set_clock(now_s() - started_wall_s, cpu_s() - started_cpu_s);
}

void set_clock(double wall_s, double cpu)
{
    clock_wall_s = wall_s;
    clock_cpu_s = cpu;
}

void run_sides(struct side *sides, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (sides[i].run != NULL)
            sides[i].run(sides[i].arg);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < n; i++) {
            struct side *side = &sides[round % 2 == 0 ? i : n - 1 - i];

            if (side->run == NULL)
                continue;
            side->run(side->arg);
            side->wall_s[round] = clock_wall_s;
            side->cpu_s[round] = clock_cpu_s;
        }
    }
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

double median(const double *values)
{
    double sorted[ROUNDS];

    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, ROUNDS, sizeof sorted[0], compare_doubles);
    return sorted[ROUNDS / 2];
}

/* ---- rows -------------------------------------------------------------------------------------- */

static void print_side(const struct side *side, double bytes)
{
    printf(" %s %.2f (%.3f) |", side->name, bytes / 1e9 / median(side->wall_s),
           median(side->cpu_s) / (bytes / (1 << 30)));
}

static void print_row(struct bench *b, const char *what, double bytes, const struct side *other,
                      const struct side *ours, const double *values, double target, int is_at_least)
{
    double m = median(values), lowest = values[0], highest = values[0];
    int is_missed = is_at_least ? m < target : m > target;

    for (int i = 1; i < ROUNDS; i++) {
        lowest = values[i] < lowest ? values[i] : lowest;
        highest = values[i] > highest ? values[i] : highest;
    }
    printf("| %s | %s |", what, b->place);
    print_side(other, bytes);
    print_side(ours, bytes);
    printf(" **%.2f** [%.2f..%.2f] |", m, lowest, highest);
    if (target == NO_TARGET) {
        printf(" | |\n");
    } else {
        b->failures += is_missed;
        printf(" %s %.2f | %s |\n", is_at_least ? "≥" : "≤", target, is_missed ? "missed" : "met");
    }
    fflush(stdout);
}

void report_speed(struct bench *b, const char *what, double bytes, const struct side *other,
                  const struct side *ours, double target)
{
    double values[ROUNDS];

    if (other->run == NULL || ours->run == NULL)
        return;
    for (int i = 0; i < ROUNDS; i++)
        values[i] = other->wall_s[i] / ours->wall_s[i];
    print_row(b, what, bytes, other, ours, values, target, 1);
}

void report_cpu(struct bench *b, const char *what, double bytes, const struct side *other,
                const struct side *ours, double target)
{
    double values[ROUNDS];

    if (other->run == NULL || ours->run == NULL)
        return;
    for (int i = 0; i < ROUNDS; i++)
        values[i] = ours->cpu_s[i] / other->cpu_s[i];
    print_row(b, what, bytes, other, ours, values, target, 0);
}

void report_most(struct bench *b, const char *what, double bytes, const struct side *other,
                 const struct side *ours, const double *values, double target)
{
    print_row(b, what, bytes, other, ours, values, target, 0);
}
