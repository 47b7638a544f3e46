/* The plugin that the unit tests load: it serves plain:// and does nothing. Each macro below, set
 * when it is compiled, makes one thing about it wrong (see tests/unit/CMakeLists.txt). */
#include <stddef.h>

#include <penstock/plugin.h>

#ifndef PLAIN_ABI_MAJOR
#define PLAIN_ABI_MAJOR PST_ABI_MAJOR
#endif
#ifndef PLAIN_ABI_MINOR
#define PLAIN_ABI_MINOR PST_ABI_MINOR
#endif
#ifndef PLAIN_STRUCT_SIZE
#define PLAIN_STRUCT_SIZE sizeof(pst_plugin)
#endif
#ifndef PLAIN_OPS_SIZE
#define PLAIN_OPS_SIZE sizeof(pst_backend_ops)
#endif
#ifndef PLAIN_LIMITS_SIZE
#define PLAIN_LIMITS_SIZE sizeof(pst_limits)
#endif
#ifndef PLAIN_OPTION_STRIDE
#define PLAIN_OPTION_STRIDE sizeof(pst_option)
#endif
#ifndef PLAIN_CAPS
#define PLAIN_CAPS (PST_CAP_READ | PST_CAP_STAT)
#endif
#ifndef PLAIN_THREADS
#define PLAIN_THREADS PST_THREADS_PARALLEL
#endif
#ifndef PLAIN_SCRATCH
#define PLAIN_SCRATCH 64
#endif
#ifndef PLAIN_ID
#define PLAIN_ID "plain"
#endif
#ifndef PLAIN_SCHEMES
#define PLAIN_SCHEMES "plain", "pln"
#endif
#ifndef PLAIN_INFO
#define PLAIN_INFO info
#endif
#ifndef PLAIN_STORE_OPEN
#define PLAIN_STORE_OPEN store_open
#endif
#ifndef PLAIN_SHUTDOWN
#define PLAIN_SHUTDOWN shutdown_host
#endif
#ifndef PLAIN_EXTRA_OPTION
#define PLAIN_EXTRA_OPTION
#endif

struct plain_calls {
    int entries, fork_children, shutdowns;
};
#if !defined(PST_STATIC_PLUGIN)
PST_EXPORT
#endif
extern struct plain_calls plain_calls;
struct plain_calls plain_calls;

static pst_rc read_nothing(pst_backend *backend, pst_op *op, const pst_read_args *args,
                           pst_read_result *result)
{
    (void)backend;
    (void)op;
    (void)args;
    (void)result;
    return PST_E_NOT_FOUND;
}

static pst_rc stat_nothing(pst_backend *backend, pst_op *op, const pst_stat_args *args,
                           pst_attr *attr)
{
    (void)backend;
    (void)op;
    (void)args;
    (void)attr;
    return PST_E_NOT_FOUND;
}

__attribute__((unused)) static void info(pst_backend *backend, pst_backend_info *out)
{
    (void)backend;
    (void)out;
}

static void close_nothing(pst_backend *backend)
{
    (void)backend;
}

__attribute__((unused)) static pst_rc store_open(const pst_host *host, const pst_open_args *args,
                                                 pst_backend **out, pst_error *err)
{
    (void)host;
    (void)args;
    (void)out;
    (void)err;
    return PST_E_UNAVAILABLE;
}

static void fork_child(const pst_host *host)
{
    (void)host;
    plain_calls.fork_children++;
}

__attribute__((unused)) static void shutdown_host(const pst_host *host)
{
    (void)host;
    plain_calls.shutdowns++;
}

/* Each table is followed by bytes that no host may read or copy when struct_size says so. */
static const struct {
    pst_backend_ops table;
    void *tail[4];
} ops = {
    {.struct_size = (uint32_t)(PLAIN_OPS_SIZE),
     .read = read_nothing,
     .stat = stat_nothing,
     .info = PLAIN_INFO,
     .close = close_nothing},
    {(void *)1, (void *)1, (void *)1, (void *)1},
};

static const struct {
    pst_limits table;
    uint32_t tail[4];
} limits = {
    {.struct_size = (uint32_t)(PLAIN_LIMITS_SIZE), .key_max = 1024, .part_max = 1ull << 40},
    {0xdeadbeef, 0xdeadbeef, 0xdeadbeef, 0xdeadbeef},
};

static const pst_option options[] = {
    {.type = PST_OPT_SIZE,
     .min = 1,
     .max = 1 << 30,
     .name = "part_size",
     .fallback = "8MiB",
     .doc = "Bytes in a part",
     .env = "PLAIN_PART_SIZE PLAIN_PART"},
    {.type = PST_OPT_STRING, .flags = PST_OPT_SECRET, .name = "token", .env = "PLAIN_TOKEN"},
    {.type = PST_OPT_ENUM, .name = "mode", .fallback = "fast", .choices = "fast|safe"},
    {.type = PST_OPT_BOOL, .flags = PST_OPT_DEPRECATED, .name = "old", .doc = "use mode"},
    PLAIN_EXTRA_OPTION};

static const char *const schemes[] = {PLAIN_SCHEMES, NULL};

static const struct {
    pst_plugin table;
    void *tail[4];
} plugin = {
    {.struct_size = (uint32_t)(PLAIN_STRUCT_SIZE),
     .abi_major = PLAIN_ABI_MAJOR,
     .abi_minor = PLAIN_ABI_MINOR,
     .caps = PLAIN_CAPS,
     .threads = PLAIN_THREADS,
     .op_scratch = PLAIN_SCRATCH,
     .id = PLAIN_ID,
     .version = "1.2.3",
     .vendor = "Penstock's tests",
     .license = "Apache-2.0",
     .schemes = schemes,
     .limits = &limits.table,
     .options = options,
     .option_stride = PLAIN_OPTION_STRIDE,
     .n_options = sizeof(options) / sizeof(options[0]),
     .ops = &ops.table,
     .store_open = PLAIN_STORE_OPEN,
     .fork_child = fork_child,
     .shutdown = PLAIN_SHUTDOWN},
    {(void *)1, (void *)1, (void *)1, (void *)1},
};

#if defined(PLAIN_NO_ENTRY)
PST_EXPORT const pst_plugin *pst_plugin_of_mine(void);
PST_EXPORT const pst_plugin *pst_plugin_of_mine(void)
{
    return &plugin.table;
}
#elif defined(PLAIN_NEXT_MAJOR)
PST_EXPORT pst_rc pst_plugin_open_2(const pst_host *host, const pst_plugin **out, pst_error *err);
PST_EXPORT pst_rc pst_plugin_open_2(const pst_host *host, const pst_plugin **out, pst_error *err)
{
    (void)host;
    (void)err;
    *out = &plugin.table;
    return PST_OK;
}
#elif defined(PLAIN_REFUSES)
PST_PLUGIN_ENTRY(host, out, err)
{
    static const char why[] = "no licence file\nin sight";

    (void)host;
    *out = &plugin.table;
    for (size_t i = 0; i < sizeof(why); i++)
        err->message[i] = why[i];
    return PST_E_DENIED;
}
#else
PST_PLUGIN_ENTRY(host, out, err)
{
    (void)host;
    (void)err;
    plain_calls.entries++;
#if defined(PLAIN_NO_TABLE)
    (void)plugin;
    *out = NULL;
#else
    *out = &plugin.table;
#endif
    return PST_OK;
}
#endif
