/* plugin.c - s3://, objects in S3 and what speaks its protocol: the entry and its tables.
 *
 * Opening a store reads its options and makes a client of the host's HTTP service; nothing is asked of
 * the network and no file is read before the first operation needs it. Closing comes with nothing
 * outstanding.
 *
 * There is no global state: two hosts in one process do not meet here, and after a fork the child's host
 * opens its stores anew, so that neither fork_child nor shutdown has anything to do. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "endpoint.h"
#include "error.h"
#include "ops.h"
#include "probe.h"
#include "s3.h"
#include "text.h"
#include "url.h"

/* AWS, "Amazon S3 multipart upload limits" and "Object key naming": at most 10,000 parts of 5 MiB to
 * 5 GiB, keys of 1,024 bytes, user metadata of 2 KB, pages and batches of 1,000. The largest object is
 * what so many parts make, 48.8 TiB: AWS gave 5 TiB until December 2025 and gives 50 TB since, others
 * have ceilings of their own. What is too large for a store it says itself (EntityTooLarge). */
static const pst_limits limits = {
    .struct_size = sizeof(limits),
    .object_max = UINT64_C(10000) * (UINT64_C(5) << 30),
    .part_min = 5u << 20,
    .part_max = UINT64_C(5) << 30,
    .part_multiple = 1,
    .io_preferred = 8u << 20,
    .parts_max = 10000,
    .list_page_max = 1000,
    .remove_batch_max = 1000,
    .key_max = 1024,
    .user_meta_max = 2048,
    .mem_align = 1,
    .io_align = 1,
};

#define S3_CAPS                                                                                    \
    (PST_CAP_READ | PST_CAP_READ_SUFFIX | PST_CAP_READ_IF_MATCH | PST_CAP_STAT | PST_CAP_PUT |     \
     PST_CAP_WRITE_IF_MATCH | PST_CAP_CREATE_ONLY | PST_CAP_REMOVE | PST_CAP_LIST |                \
     PST_CAP_LIST_ORDERED | PST_CAP_USER_META | PST_CAP_CONTENT_TYPE | PST_CAP_TAGS |              \
     PST_CAP_VERSIONS | PST_CAP_UPLOAD | PST_CAP_UPLOAD_UNORDERED | PST_CAP_UPLOAD_CONDITIONAL |   \
     PST_CAP_COPY | PST_CAP_COPY_ACROSS | PST_CAP_CONTAINER | PST_CAP_PRESIGN | PST_CAP_CLEANUP |  \
     PST_CAP_CANCEL_BOUNDED)

/* Of a directory bucket: keys in no order, no versions, no tags (AWS, "Differences for directory
 * buckets"); making and removing one is another service's. */
#define S3_CAPS_NOT_OF_DIRECTORIES                                                                 \
    (PST_CAP_LIST_ORDERED | PST_CAP_VERSIONS | PST_CAP_TAGS | PST_CAP_CONTAINER)

/* ---- notes ------------------------------------------------------------------------------------ */

/* Readers of info() hold on to the text they got: a new one goes before it, none is freed. */
struct s3_note {
    struct s3_note *next;
    char text[];
};

enum { NOTE_MAX_BYTES = 1024 };

void s3_note(pst_backend *store, const char *text)
{
    pthread_mutex_lock(&store->mutex);
    const char *before = store->locked.notes ? store->locked.notes->text : "";
    const size_t size = strlen(before) + strlen(text) + 3;
    struct s3_note *note = NULL;
    if (size <= NOTE_MAX_BYTES)
        note = store->host->alloc(store->host, sizeof(*note) + size, 16);
    if (note) {
        snprintf(note->text, size, "%s%s%s", before, before[0] ? "; " : "", text);
        note->next = store->locked.notes;
        store->locked.notes = note;
    }
    pthread_mutex_unlock(&store->mutex);
    if (store->host->log_enabled(store->host, PST_LOG_INFO))
        store->host->log(store->host, PST_LOG_INFO, "s3", text);
}

static void free_notes(pst_backend *store)
{
    while (store->locked.notes) {
        struct s3_note *note = store->locked.notes;
        store->locked.notes = note->next;
        store->host->dealloc(store->host, note);
    }
}

/* ---- the store -------------------------------------------------------------------------------- */

/* What each of several servers did, for those who look. */
static void log_endpoints(const pst_backend *store)
{
    const uint32_t n = s3_endpoints_count(store->endpoints);
    struct s3_endpoint_stats stats;
    char line[768];

    for (uint32_t i = 0; i < n && n > 1; i++) {
        s3_endpoints_stats(store->endpoints, i, &stats);
        snprintf(line, sizeof(line), "%s: %llu requests, %llu failures, left out %llu times",
                 s3_endpoint_name(store->endpoints, i), (unsigned long long)stats.requests,
                 (unsigned long long)stats.failures, (unsigned long long)stats.ejections);
        store->host->log(store->host, PST_LOG_DEBUG, "s3", line);
    }
}

static void store_close(pst_backend *store)
{
    const pst_host *host = store->host;

    if (store->endpoints && host->log_enabled(host, PST_LOG_DEBUG))
        log_endpoints(store);
    s3_creds_free(store->creds);
    s3_probe_free(store->probe);
    if (store->client)
        store->http->client_free(store->client);
    s3_endpoints_free(store->endpoints);
    s3_config_free(store->config);
    s3_signer_fini(&store->signer);
    free_notes(store);
    pthread_mutex_destroy(&store->mutex);
    explicit_bzero(store->sse_c_md5, sizeof(store->sse_c_md5));
    host->dealloc(host, store);
}

static pst_rc find_services(pst_backend *store, pst_error *err)
{
    const pst_host *host = store->host;

    store->http = host->service ? host->service(host, "http/1") : NULL;
    store->crypto = host->service ? host->service(host, "crypto/1") : NULL;
    store->cred = host->service ? host->service(host, "cred/1") : NULL;
    if (store->http && store->crypto)
        return PST_OK;
    return s3_fail(err, PST_E_UNIMPLEMENTED, "the host has no service %s",
                   store->http ? "crypto/1" : "http/1");
}

static pst_rc make_client(pst_backend *store, pst_error *err)
{
    const struct s3_config *c = store->config;
    const pst_http_config config = {
        .struct_size = sizeof(config),
        .flags = c->is_libcurl_only ? PST_HTTP_LIBCURL : 0,
        .user_agent = PST_STR("s3/" S3_VERSION),
        .ca_file = s3_str(c->ca_file),
        .ca_dir = s3_str(c->ca_dir),
        .proxy = s3_str(c->proxy),
        .no_proxy = s3_str(c->no_proxy),
        .unix_socket = s3_str(c->unix_socket),
        .connect_timeout_ms = c->connect_timeout_ms,
        .stall_timeout_ms = c->stall_timeout_ms,
        .max_connections = c->max_connections,
    };

    return store->http->client_new(store->host, &config, &store->client, err);
}

/* The digest that goes with the key of sse_c_key in every request. */
static pst_rc digest_key(pst_backend *store, pst_error *err)
{
    const pst_str text = s3_str(store->config->sse_c_key);
    uint8_t key[33], md5[16];
    size_t len = 0;

    if (text.len == 0)
        return PST_OK;
    s3_base64_decode(text, key, sizeof(key), &len); /* config.c has checked it */
    const pst_iov span = {key, len};
    const pst_rc rc = store->crypto->digest(store->host, PST_DIGEST_MD5, &span, 1, md5);
    explicit_bzero(key, sizeof(key));
    if (rc != PST_OK)
        return s3_fail(err, rc, "option sse_c_key: the host cannot compute its MD5");
    s3_base64_encode(md5, sizeof(md5), store->sse_c_md5);
    return PST_OK;
}

static pst_rc store_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    pst_backend *store = host->alloc(host, sizeof(*store) + args->authority.len + 1, 64);

    if (!store)
        return s3_fail(err, PST_E_NO_MEMORY, "out of memory");
    memset(store, 0, sizeof(*store) + args->authority.len + 1);
    store->host = host;
    store->bucket = (char *)(store + 1);
    s3_write(store->bucket, args->authority);
    pthread_mutex_init(&store->mutex, NULL);
    pst_rc rc = find_services(store, err);
    s3_signer_init(&store->signer, host, store->crypto);
    if (rc == PST_OK)
        rc = s3_config_new(host, args, &store->config, err);
    if (rc == PST_OK) {
        s3_creds_find_region(host, store->config);
        memcpy(store->locked.region, store->config->region, strlen(store->config->region));
        rc = s3_endpoints_new(host, store->config, &store->endpoints, err);
    }
    if (rc == PST_OK)
        rc = digest_key(store, err);
    if (rc == PST_OK)
        rc = make_client(store, err);
    if (rc == PST_OK)
        rc = s3_creds_new(store, &store->creds, err);
    if (rc == PST_OK)
        rc = s3_probe_new(store, &store->probe, err);
    if (rc == PST_OK)
        *out = store;
    else
        store_close(store);
    return rc;
}

/* The sums that the host shall send: the checksum of the options, and what signatures of bytes need. */
static uint32_t sums_wanted(const pst_backend *store)
{
    const struct s3_config *config = store->config;
    uint32_t sums = config->checksum ? 1u << config->checksum : 0;

    if (config->payload_signing == S3_PAYLOAD_SIGNED ||
        (config->payload_signing == S3_PAYLOAD_AUTO &&
         !s3_endpoint_url(store->endpoints, 0)->is_tls && !config->is_anonymous))
        sums |= 1u << PST_SUM_SHA256;
    return sums;
}

static void info(pst_backend *store, pst_backend_info *out)
{
    pst_limits *l = out->limits;

    out->caps = s3_probe_caps(store->probe, S3_CAPS);
    if (store->config->is_directory)
        out->caps &= ~S3_CAPS_NOT_OF_DIRECTORIES;
    out->endpoint = s3_endpoint_name(store->endpoints, 0);
    pthread_mutex_lock(&store->mutex);
    out->note = store->locked.notes ? store->locked.notes->text : "";
    pthread_mutex_unlock(&store->mutex);
    if (PST_HAS(pst_backend_info, out, want_sums))
        out->want_sums = sums_wanted(store);
    l->flags = limits.flags;
    l->object_max = limits.object_max;
    l->part_min = limits.part_min;
    l->part_max = limits.part_max;
    l->part_multiple = limits.part_multiple;
    l->io_preferred = limits.io_preferred;
    l->parts_max = limits.parts_max;
    l->list_page_max = limits.list_page_max;
    l->remove_batch_max = limits.remove_batch_max;
    l->inflight_max = limits.inflight_max;
    l->key_max = limits.key_max;
    l->user_meta_max = limits.user_meta_max;
    l->mem_align = limits.mem_align;
    if (PST_HAS(pst_limits, l, io_align))
        l->io_align = limits.io_align;
}

/* ---- the tables ------------------------------------------------------------------------------- */

static const pst_backend_ops ops = {
    .struct_size = sizeof(ops),
    .read = s3_read,
    .stat = s3_stat,
    .put = s3_put,
    .copy = s3_copy,
    .remove = s3_remove,
    .list = s3_list,
    .upload_open = s3_upload_open,
    .upload_part = s3_upload_part,
    .upload_commit = s3_upload_commit,
    .upload_abort = s3_upload_abort,
    .upload_free = s3_upload_free,
    .container_create = s3_container_create,
    .container_delete = s3_container_delete,
    .container_list = s3_container_list,
    .presign = s3_presign,
    .cleanup = s3_cleanup,
    .dst_ready = s3_dst_ready,
    .cancel = s3_cancel,
    .info = info,
    .close = store_close,
};

static const char *const schemes[] = {"s3", NULL};

static const pst_plugin table = {
    .struct_size = sizeof(table),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = S3_CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = sizeof(struct s3_call),
    .id = "s3",
    .version = S3_VERSION,
    .vendor = "Penstock",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &limits,
    .options = s3_options,
    .option_stride = sizeof(s3_options[0]),
    .n_options = S3_N_OPTIONS,
    .ops = &ops,
    .store_open = store_open,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    if (host->abi_major != PST_ABI_MAJOR || !PST_HAS(pst_host, host, service))
        return s3_fail(err, PST_E_BAD_PLUGIN, "the host speaks ABI %u.%u, this is %u.%u",
                       host->abi_major, host->abi_minor, PST_ABI_MAJOR, PST_ABI_MINOR);
    *plugin = &table;
    return PST_OK;
}
