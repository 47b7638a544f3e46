/* memory_limit.h - what the control group of this process allows. */
#ifndef PST_CORE_MEMORY_LIMIT_H
#define PST_CORE_MEMORY_LIMIT_H

#include <stdint.h>

/* The memory limit in bytes: cgroup v2 memory.max along the path up, else v1; UINT64_MAX if none. */
uint64_t pst_cgroup_memory_limit(void);

#endif
