/* context.h - the root of everything: plugins, threads, memory budget, log. */
#ifndef PENSTOCK_CONTEXT_H
#define PENSTOCK_CONTEXT_H

#include <penstock/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Several may live side by side; they share nothing a user can see. */
typedef struct pst_context pst_context;

#define PST_VERSION_MAJOR 0
#define PST_VERSION_MINOR 9
#define PST_VERSION_PATCH 0

/* Name this library's version, "0.9.0". */
PST_API const char *pst_version(void);

/* Name the code ("not found"), "unknown error" for numbers of a later version. Never NULL. */
PST_API const char *pst_rc_text(pst_rc rc);

/* The symbol of a code ("NOT_FOUND"). Never NULL. */
PST_API const char *pst_rc_name(pst_rc rc);

/* Tell which exit code the `penstock` command gives for it. */
PST_API int pst_rc_exit_code(pst_rc rc);

#define PST_LEVEL_ERROR 0u
#define PST_LEVEL_WARN 1u
#define PST_LEVEL_INFO 2u
#define PST_LEVEL_DEBUG 3u

/* Receives one line without a newline or secrets. Called on any thread, one call at a time; must
 * not call back into the context. */
typedef void (*pst_log_fn)(void *arg, uint32_t level, const char *line);

/* What the application answers when it is asked for credentials: values by the names that the backend's
 * documentation gives, and when they expire (nanoseconds since 1970 UTC; not called: never). Texts are
 * copied, and wiped when they are no longer needed. Errors: INVALID for an empty or overlong text,
 * NO_MEMORY. */
typedef struct pst_credentials_answer pst_credentials_answer;
PST_API PST_NODISCARD pst_rc pst_credentials_add(pst_credentials_answer *answer, pst_str name,
                                                 pst_str value);
PST_API void pst_credentials_expire(pst_credentials_answer *answer, int64_t expires_unix_ns);

/* Supplies the credentials of the store at `uri` ("s3://bucket"), which asks for them when its first
 * operation needs them, some time before they expire, and once each time the provider refuses them.
 * Called on one thread of its own, one call at a time; may block, and may use Penstock, but not this
 * context's end. Anything but PST_OK, with a reason in err->message, fails the operations that wait. */
typedef pst_rc (*pst_credentials_fn)(void *arg, const char *uri, pst_credentials_answer *answer,
                                     pst_error *err);

#define PST_CONTEXT_STRICT 1u         /* refuse plugin files or directories others may write */
#define PST_CONTEXT_NO_ENVIRONMENT 2u /* ignore every environment variable, like AT_SECURE does */
#define PST_CONTEXT_ONLY_DIRS 4u      /* look for plugins in plugin_dirs only */
typedef struct pst_context_options {
    uint32_t struct_size, flags;
    uint64_t memory_budget_bytes;   /* bytes in flight; 0: a quarter of RAM or cgroup limit */
    uint32_t blocking_threads;      /* 0: 64, started on demand */
    uint32_t cpu_threads;           /* 0: the cores this process may use */
    uint32_t max_in_flight;         /* operations at plugins at once; 0: 256 */
    uint32_t max_attempts;          /* 0: 5 */
    uint64_t first_read_bytes;      /* most that a read of unknown size asks for; 0: 8 MiB */
    const char *const *plugin_dirs; /* searched first, in this order; NULL or NULL-terminated */
    const char *config_file; /* JSON: {"plugin id": {"option": "value"}}; NULL: $PENSTOCK_CONFIG */
    pst_log_fn log;          /* NULL: nothing is logged anywhere */
    void *log_arg;
    uint32_t log_level, reserved0;
    /* Where the memory of buffers comes from, for hosts with pinned or shared memory. NULL: anonymous
     * mappings with huge pages advised. `map` gives `bytes` (a multiple of 2 MiB) aligned to 2 MiB, or
     * NULL; `unmap` takes exactly that back. Any thread; the last unmap may come after
     * pst_context_free, when the last buffer goes. Both or neither. */
    void *(*memory_map)(void *arg, size_t bytes);
    void (*memory_unmap)(void *arg, void *memory, size_t bytes);
    void *memory_arg, *reserved1;
    uint64_t idle_memory_bytes; /* most that is kept for reuse while unused, for at most 10 seconds;
                                 * 0: as much as the budget */
    pst_credentials_fn credentials; /* NULL: plugins find them where their documentation says */
    void *credentials_arg;
    uint32_t credentials_timeout_ms; /* most that an operation waits for them; 0: 60,000 */
    uint32_t reserved2;
} pst_context_options;

/* Make a context. `options` may be NULL. Threads start on first use.
 * Ownership: pst_context_free. Blocks: reads the manifests it finds; loads no plugin.
 * Errors: INVALID for an option out of range or an unreadable config file; NO_MEMORY. */
PST_API PST_NODISCARD pst_rc pst_context_new(const pst_context_options *options, pst_context **out,
                                             pst_error *err);

/* Cancel what is in flight, wait at most a second for what must end, give everything back. Handles
 * made from it may be freed later, and do nothing but answer CANCELLED. NULL is allowed. */
PST_API void pst_context_free(pst_context *context);

/* Figures of the moment, for tests, monitoring and `--stats`. */
typedef struct pst_stats {
    uint32_t struct_size, reserved0;
    uint64_t ops_submitted, ops_completed, retries, busy;
    uint64_t bytes_read, bytes_written;
    uint64_t budget_bytes, in_flight_bytes, peak_in_flight_bytes;
    uint64_t handed_out_bytes; /* in buffers that the application still holds */
    uint64_t abandoned_ops;    /* past their deadline, completion still awaited */
    uint32_t threads, fork_generation;
    uint64_t mapped_bytes, peak_mapped_bytes; /* memory of buffers, in use or kept */
    uint64_t idle_bytes;                      /* ... of it kept for reuse */
    uint64_t maps, reuses;                    /* arenas made, and taken from those kept */
    uint64_t ranges, hedges, hedges_won;      /* requests that reads were split into; second ones */
    uint64_t http_requests, http_opened, http_reused; /* over HTTP; connections made, requests that
                                                       * went over one that had served before */
    uint64_t http_name_ns, http_connect_ns, http_tls_ns; /* sums over the connections made */
} pst_stats;
PST_API void pst_context_stats(pst_context *context, pst_stats *out);

#ifdef __cplusplus
}
#endif
#endif
