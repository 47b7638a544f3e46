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
        limit = strtoull(text, NULL, 10); /* "max" stays UINT64_MAX, v1 has a huge number for it */
    fclose(file);
    return limit;
}

/* The tightest limit in `name`, from our group up to the root of the hierarchy. In a container the path
 * may be the host's and name nothing here; its root is then the container's own group. */
static uint64_t limit_along(const char *root, const char *group, const char *name)
{
    char dir[4200], path[4300];
    uint64_t limit = UINT64_MAX;
    size_t root_len = strlen(root);
    int n = snprintf(dir, sizeof(dir), "%s%s", root, group);
    if (n < 0 || (size_t)n >= sizeof(dir))
        n = snprintf(dir, sizeof(dir), "%s", root);
    if (n < 0 || (size_t)n >= sizeof(dir))
        return limit;
    for (;;) {
        snprintf(path, sizeof(path), "%s/%s", dir, name);
        uint64_t here = read_limit(path);
        limit = here < limit ? here : limit;
        char *slash = strrchr(dir + root_len, '/');
        if (!slash)
            return limit;
        *slash = '\0';
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Is `name` one of the comma-separated `controllers`? */
static int is_listed(const char *controllers, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, len) == 0 && (at[len] == ',' || at[len] == '\0'))
            return 1;
    }
    return 0;
}

uint64_t pst_cgroup_memory_limit_at(const char *groups_file, const char *mount)
{
    char line[4200], root[256];
    uint64_t limit = UINT64_MAX;
    FILE *file = fopen(groups_file, "re");
    if (!file)
        return limit;
    while (fgets(line, sizeof(line), file)) { /* "4:memory:/group" of v1, "0::/group" of v2 */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        controllers++;
        if (*controllers == '\0') {
            limit = least(limit, limit_along(mount, group, "memory.max"));
            limit = least(limit, limit_along(mount, group, "memory.high"));
        } else if (is_listed(controllers, "memory")) {
            snprintf(root, sizeof(root), "%s/memory", mount);
            limit = least(limit, limit_along(root, group, "memory.limit_in_bytes"));
        }
    }
    fclose(file);
    return limit;
}

uint64_t pst_cgroup_memory_limit(void)
{
    return pst_cgroup_memory_limit_at("/proc/self/cgroup", "/sys/fs/cgroup");
}
