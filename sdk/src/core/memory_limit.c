#include "core/memory_limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t read_limit(const char *path)
{
    char text[64];
    uint64_t limit = UINT64_MAX;
    FILE *file = fopen(path, "re");
    if (!file)
        return limit;
    if (fgets(text, sizeof(text), file) && text[0] >= '0' && text[0] <= '9')
        limit = strtoull(text, NULL, 10); /* "max" stays UINT64_MAX */
    fclose(file);
    return limit;
}

/* The tightest memory.max from our group up to the root of the unified hierarchy. */
static uint64_t unified_limit(const char *group)
{
    char dir[4096], path[4200];
    uint64_t limit = UINT64_MAX;
    int n = snprintf(dir, sizeof(dir), "%s", group);
    if (n < 0 || (size_t)n >= sizeof(dir))
        return limit;
    for (;;) {
        snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", dir);
        uint64_t here = read_limit(path);
        limit = here < limit ? here : limit;
        char *slash = strrchr(dir, '/');
        if (!slash)
            return limit;
        *slash = '\0';
    }
}

uint64_t pst_cgroup_memory_limit(void)
{
    char line[4200];
    uint64_t limit = read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (!file)
        return limit;
    while (fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3) != 0)
            continue;
        uint64_t unified = unified_limit(line + 3);
        limit = unified < limit ? unified : limit;
    }
    fclose(file);
    return limit;
}
