/* memory_limit.h - what the control group of this process allows. */
#ifndef PST_CORE_MEMORY_LIMIT_H
#define PST_CORE_MEMORY_LIMIT_H

#include <stdint.h>

/* The memory limit in bytes, the tightest of all groups that this process is in: memory.max and
 * memory.high (cgroup v2), memory.limit_in_bytes (v1); UINT64_MAX if there is none. */
uint64_t pst_cgroup_memory_limit(void);

/* The same for a file like /proc/self/cgroup and a folder like /sys/fs/cgroup, for tests. */
uint64_t pst_cgroup_memory_limit_at(const char *groups_file, const char *mount);

#endif
