/* fio.c - one job of fio, whose own figures count: it leaves out its start.
 *
 * Its buffers are malloc's, of 4 KiB pages. With has_huge_pages the same malloc advises huge pages, by
 * the tunable of glibc 2.35 and later, and fio aligns to them: everything else stays as it is. */
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fields of fio's terse format, version 3, from 1. */
enum { FIELD_ERROR = 5, READ_MS = 9, WRITE_MS = 50, USER_PERCENT = 88, SYSTEM_PERCENT = 89 };

static double field_of(const char *line, int number)
{
    for (int i = 1; i < number; i++) {
        line = strchr(line, ';');
        if (line == NULL)
            die("fio says too little");
        line++;
    }
    return strtod(line, NULL);
}

void fio_run(const struct fio *job)
{
    char command[8192], line[8192] = "";

    snprintf(command, sizeof command,
             "%s fio --name=job --filename='%s' --rw=%s --direct=1 --ioengine=io_uring "
             "--bs=%" PRIu64 " --iodepth=%u --size=%" PRIu64
             " --fallocate=none %s --output-format=terse --terse-version=3 2>&1",
             job->has_huge_pages ? "GLIBC_TUNABLES=glibc.malloc.hugetlb=1" : "", job->path,
             job->is_write ? "write" : "read", job->block_bytes, job->depth, job->bytes,
             job->has_huge_pages ? "--iomem_align=2M" : "");
    FILE *out = popen(command, "r");
    if (out == NULL)
        die("cannot start fio");
    while (fgets(line, sizeof line, out) != NULL && strncmp(line, "3;", 2) != 0)
        continue; /* notes */
    if (pclose(out) != 0 || strncmp(line, "3;", 2) != 0 || field_of(line, FIELD_ERROR) != 0)
        die("fio fails: %s", line);
    double wall_s = field_of(line, job->is_write ? WRITE_MS : READ_MS) / 1e3;
    double percent = field_of(line, USER_PERCENT) + field_of(line, SYSTEM_PERCENT);
    set_clock(wall_s, wall_s * percent / 100);
}
