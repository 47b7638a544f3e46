/* readstore.c - the plugin behind readstore.h: blocking functions on the host's pool. */
#include "readstore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <penstock/sync.h>
#include <pthread.h>

#include "core/static_plugins.h"

struct readstore rd;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct pst_backend {
    int unused;
};

unsigned char read_byte(unsigned version, uint64_t offset)
{
    return (unsigned char)((offset * 2654435761u >> 11) + offset / 251 + version * 101u);
}

int read_is(const void *data, size_t len, unsigned version, uint64_t offset)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < len; i++) {
        if (at[i] != read_byte(version, offset + i))
            return 0;
    }
    return 1;
}

static void fill(const pst_iov *dst, size_t n_dst, uint64_t offset, uint64_t n, unsigned version)
{
    for (size_t i = 0; i < n_dst && n > 0; i++) {
        size_t span = dst[i].len < n ? dst[i].len : (size_t)n;
        unsigned char *to = dst[i].ptr;
        if (rd.body) {
            memcpy(to, rd.body + offset, span);
        } else {
            for (size_t k = 0; k < span; k++)
                to[k] = read_byte(version, offset + k);
        }
        offset += span;
        n -= span;
    }
}

/* What this read sees, taken in one step. */
struct view {
    unsigned version;
    uint64_t size;
    pst_rc rc;
};

static void pause_locked(pst_op *op, unsigned number)
{
    rd.n_waiting++;
    pthread_cond_broadcast(&changed);
    while ((number == rd.hold_at || (rd.may_pass > 0 && number > rd.may_pass)) &&
           !pst_sync_cancelled(op)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 2000000; /* a cancel wakes nobody */
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&changed, &mutex, &until);
    }
    rd.n_waiting--;
}

static struct view begin(pst_op *op, const pst_read_args *args)
{
    struct view view = {0};
    pthread_mutex_lock(&mutex);
    unsigned number = ++rd.n_reads;
    if (number <= READSTORE_SEEN) {
        rd.seen[number - 1].offset = args->offset;
        rd.seen[number - 1].length = args->length;
        rd.seen[number - 1].has_if_match = args->if_match.len > 0;
    }
    if (++rd.n_now > rd.n_max)
        rd.n_max = rd.n_now;
    pause_locked(op, number);
    if (rd.change_at > 0 && number == rd.change_at) {
        rd.version++;
        rd.size = (uint64_t)((int64_t)rd.size + rd.size_change);
    }
    view.version = rd.version;
    view.size = rd.size;
    if (rd.is_missing)
        view.rc = PST_E_NOT_FOUND;
    if (rd.fail_at > 0 && number >= rd.fail_at && number - rd.fail_at < rd.fail_times) {
        view.rc = rd.fail_rc;
        op->err->flags = rd.fail_flags;
    }
    if (pst_sync_cancelled(op))
        view.rc = PST_E_CANCELLED;
    pthread_mutex_unlock(&mutex);
    if (view.rc != PST_OK) {
        op->err->code = view.rc;
        snprintf(op->err->message, sizeof(op->err->message), "told to fail");
    }
    return view;
}

static pst_rc end(pst_rc rc, uint64_t n)
{
    pthread_mutex_lock(&mutex);
    rd.n_now--;
    rd.n_bytes += rc == PST_OK ? n : 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return rc;
}

static pst_rc do_read(pst_backend *backend, pst_op *op, const pst_read_args *args,
                      pst_read_result *result)
{
    (void)backend;
    struct view view = begin(op, args);
    pst_dst_grant grant = {.struct_size = sizeof(grant), .dst = args->dst, .n_dst = args->n_dst};
    if (view.rc != PST_OK)
        return end(view.rc, 0);
    char *etag = op->host->op_alloc(op->host, op, 16);
    if (!etag)
        return end(PST_E_NO_MEMORY, 0);
    result->object_size = rd.hides_size ? PST_UNKNOWN : view.size;
    result->etag_strength = rd.etag_strength;
    result->etag = pst_str_of(etag, (size_t)snprintf(etag, 16, "v%u", view.version));
    if (rd.etag_strength == PST_ETAG_NONE)
        result->etag = pst_str_of(NULL, 0);
    if (args->if_match.len > 0 && !rd.ignores_if_match &&
        (args->if_match.len != result->etag.len ||
         memcmp(args->if_match.ptr, etag, result->etag.len) != 0))
        return end(PST_E_PRECONDITION, 0);
    uint64_t offset = args->offset;
    if (args->flags & PST_READ_SUFFIX)
        offset = args->length < view.size ? view.size - args->length : 0;
    uint64_t n = offset < view.size ? view.size - offset : 0;
    if (n > args->length)
        n = args->length;
    if (n > 0 && args->n_dst == 0) {
        const pst_dst_args ask = {.struct_size = sizeof(ask),
                                  .length = n,
                                  .capacity = n,
                                  .object_size = result->object_size,
                                  .etag_strength = result->etag_strength,
                                  .etag = result->etag};
        pst_rc rc = op->host->dst(op->host, op, &ask, &grant);
        if (rc != PST_OK)
            return end(rc, 0);
    }
    if (rd.has_sum && (args->flags & PST_READ_SUMS)) {
        pst_sum *sum = op->host->op_alloc(op->host, op, sizeof(*sum));
        if (!sum)
            return end(PST_E_NO_MEMORY, 0);
        *sum = (pst_sum){.algorithm = PST_SUM_CRC32C, .scope = PST_SCOPE_OBJECT, .length = 4};
        for (int i = 0; i < 4; i++)
            sum->bytes[i] = (uint8_t)(rd.sum >> (24 - 8 * i));
        result->sums = sum;
        result->n_sums = 1;
        result->sum_stride = sizeof(*sum);
    }
    fill(grant.dst, grant.n_dst, offset, n, view.version);
    result->n_read = n;
    return end(PST_OK, n);
}

static void info(pst_backend *backend, pst_backend_info *out)
{
    (void)backend;
    uint32_t size = out->limits->struct_size;
    out->caps = rd.caps;
    *out->limits = rd.limits;
    out->limits->struct_size = size;
    out->endpoint = out->note = "";
}

static void close_store(pst_backend *backend)
{
    (void)backend;
}

static pst_rc open_store(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    static pst_backend only;
    (void)host;
    (void)args;
    (void)err;
    *out = &only;
    return PST_OK;
}

#define CAPS (PST_CAP_READ | PST_CAP_READ_IF_MATCH | PST_CAP_CANCEL_BOUNDED | PST_CAP_READ_SUFFIX)

static const pst_backend_ops blocking = {
    .struct_size = sizeof(blocking), .read = do_read, .info = info, .close = close_store};
PST_SYNC_OPS(ops, blocking)

static const char *const schemes[] = {"rd", NULL};
static const pst_limits no_limits = {.struct_size = sizeof(no_limits)};
static const pst_plugin plugin = {
    .struct_size = sizeof(plugin),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = PST_SYNC_SCRATCH,
    .id = "rd",
    .version = "1",
    .vendor = "tests",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &no_limits,
    .option_stride = sizeof(pst_option),
    .ops = &ops,
    .store_open = open_store,
};

static pst_rc open_plugin(const pst_host *host, const pst_plugin **out, pst_error *err)
{
    (void)host;
    (void)err;
    *out = &plugin;
    return PST_OK;
}

/* Stands before the archive's empty table. */
const struct pst_static_plugin pst_static_plugins[] = {{"rd", open_plugin}, {NULL, NULL}};

/* ---- for tests -------------------------------------------------------------------------------- */

void readstore_reset(void)
{
    pthread_mutex_lock(&mutex);
    memset(&rd, 0, sizeof(rd));
    rd.caps = CAPS;
    rd.version = 1;
    rd.etag_strength = PST_ETAG_STRONG;
    pthread_mutex_unlock(&mutex);
}

void readstore_wait_for(const unsigned *counter, unsigned value)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&mutex);
    while (*counter < value) {
        if (pthread_cond_timedwait(&changed, &mutex, &until) != 0)
            break;
    }
    int is_met = *counter >= value;
    pthread_mutex_unlock(&mutex);
    assert_true(is_met);
}

void readstore_let(unsigned n)
{
    pthread_mutex_lock(&mutex);
    rd.may_pass = n;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

unsigned readstore_reads(void)
{
    pthread_mutex_lock(&mutex);
    unsigned n = rd.n_reads;
    pthread_mutex_unlock(&mutex);
    return n;
}

pst_context *readstore_context(uint64_t budget_bytes)
{
    static const char *const nowhere[] = {NULL};
    pst_context_options options = {.struct_size = sizeof(options),
                                   .flags = PST_CONTEXT_NO_ENVIRONMENT | PST_CONTEXT_ONLY_DIRS,
                                   .memory_budget_bytes = budget_bytes,
                                   .max_attempts = 2,
                                   .plugin_dirs = nowhere};
    pst_context *context = NULL;
    assert_int_equal(pst_context_new(&options, &context, NULL), PST_OK);
    return context;
}

pst_store *readstore_open(pst_context *context)
{
    pst_store *store = NULL;
    assert_int_equal(pst_store_open(context, PST_STR("rd://box/"), NULL, 0, &store, NULL), PST_OK);
    return store;
}
