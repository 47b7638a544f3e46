/* directio.c - direct://, objects as files, read and written past the page cache: the plugin's table.
 *
 * The tree of files is that of file:// (../file: same keys, listings, attributes, locks, commit
 * rules, the very same code). What differs is how the bytes of objects move:
 *
 *     direct.c   read and write of one object; what goes through the page cache all the same
 *     plan.c     cut a transfer into aligned requests
 *     move.c     run them, on io_uring or one after the other
 *     channel.c  rings and bounce memory, kept between operations
 *
 * Every operation blocks a thread of the host (penstock/sync.h) and keeps up to queue_depth requests
 * under way meanwhile. That is cheaper here than one ring with a thread of its own: requests are
 * large, and a wake-up costs as much as half a megabyte.
 *
 * Whatever is missing on this machine is replaced by the next best way, said once in the log and in
 * the store's note from then on: see dio_miss(). */
#include "dio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <penstock/sync.h>

#define BLOCK_BYTES_MIN (64 << 10)

static const pst_limits limits = {
    FST_TREE_LIMITS,   .part_multiple = 4096, .io_preferred = 8u << 20,
    .mem_align = 4096, .io_align = 4096,
};

static const pst_option options[] = {
    FST_TREE_OPTIONS,
    {.type = PST_OPT_ENUM,
     .name = "o_direct",
     .fallback = "auto",
     .choices = "auto|off|require",
     .doc = "past the page cache: where the file system can, never, or fail where it cannot"},
    {.type = PST_OPT_ENUM,
     .name = "io_uring",
     .fallback = "auto",
     .choices = "auto|off",
     .doc = "several requests at a time on io_uring; off: one after the other"},
    {.type = PST_OPT_INT,
     .name = "queue_depth",
     .fallback = "4",
     .min = 1,
     .max = DIO_DEPTH_MAX,
     .doc = "requests under way for one operation"},
    {.type = PST_OPT_SIZE,
     .name = "block_size",
     .fallback = "2MiB",
     .min = BLOCK_BYTES_MIN,
     .max = 64 << 20,
     .doc = "bytes of one request, rounded up to 64 KiB"},
    {.type = PST_OPT_SIZE,
     .name = "min_io_size",
     .fallback = "4KiB",
     .max = 1 << 30,
     .doc = "shorter requests go through the page cache"},
    {.type = PST_OPT_SIZE,
     .name = "alignment",
     .fallback = "0",
     .max = DIO_ALIGN_MAX,
     .doc =
         "of addresses, offsets and lengths, a power of two from 512; 0: as the file system says"},
    {.type = PST_OPT_BOOL,
     .name = "registered_buffers",
     .fallback = "no",
     .doc = "pin the memory that unaligned bytes go through; counts against RLIMIT_MEMLOCK"},
    {.type = PST_OPT_BOOL,
     .name = "sync_writes",
     .fallback = "no",
     .doc = "every write is on the disk before the next step (O_DSYNC)"},
};

static const char *const texts[] = {
    "io_uring is not available: pread and pwrite on worker threads",
    "O_DIRECT is refused by a file system: through the page cache there",
    "buffers cannot be registered: plain ones are used",
};

void dio_miss(struct dio_store *d, enum dio_fallback what, int sys_errno)
{
    char why[128], line[256];
    int i = what == DIO_NO_RING ? 0 : what == DIO_NO_DIRECT ? 1 : 2;

    if (atomic_fetch_or(&d->missing, (unsigned)what) & (unsigned)what)
        return; /* it is known */
    snprintf(line, sizeof(line), "%s (%s)", texts[i], strerror_r(sys_errno, why, sizeof(why)));
    d->host->log(d->host, PST_LOG_WARN, "directio", line);
}

/* A note never changes once it was handed out; which one it is does. */
static void compose_notes(struct dio_store *d)
{
    for (unsigned missing = 0; missing < DIO_NOTES; missing++) {
        char *note = d->notes[missing];
        const char *parts[6] = {d->tree->note, d->direct == DIO_OFF ? "O_DIRECT is off" : "",
                                d->is_ring_off ? "io_uring is off" : ""};
        size_t n = 0;
        for (unsigned i = 0; i < 3; i++)
            parts[3 + i] = missing & 1u << i ? texts[i] : "";
        note[0] = '\0';
        for (unsigned i = 0; i < 6; i++) {
            if (parts[i][0] == '\0' || n >= DIO_NOTE_SIZE)
                continue;
            int put = snprintf(note + n, DIO_NOTE_SIZE - n, "%s%s", n > 0 ? "; " : "", parts[i]);
            n += put > 0 ? (size_t)put : 0;
        }
    }
}

static uint32_t option_number(const pst_open_args *args, const char *name, uint32_t otherwise)
{
    pst_str value = fst_option(args, name);

    return value.len > 0 ? (uint32_t)fst_to_number(value) : otherwise;
}

static pst_rc read_options(struct dio_store *d, const pst_open_args *args, pst_error *err)
{
    pst_str direct = fst_option(args, "o_direct");
    long page_bytes = sysconf(_SC_PAGESIZE);

    d->page_bytes = page_bytes > 0 ? (uint32_t)page_bytes : 4096;
    d->direct = fst_is_text(direct, "off")       ? DIO_OFF
                : fst_is_text(direct, "require") ? DIO_REQUIRE
                                                 : DIO_AUTO;
    d->is_ring_off = fst_is_text(fst_option(args, "io_uring"), "off");
    d->depth = option_number(args, "queue_depth", 4);
    d->block_bytes = (size_t)dio_up(option_number(args, "block_size", 2u << 20), DIO_ALIGN_MAX);
    d->min_io_bytes = option_number(args, "min_io_size", 4096);
    d->alignment = option_number(args, "alignment", 0);
    d->has_fixed = fst_is_text(fst_option(args, "registered_buffers"), "1");
    if (d->alignment != 0 && (d->alignment < 512 || (d->alignment & (d->alignment - 1)) != 0))
        return fst_error_set(err, PST_E_INVALID, 0,
                             "option alignment: %u is no power of two from 512 to %u", d->alignment,
                             DIO_ALIGN_MAX);
    return PST_OK;
}

/* Whether io_uring and registered memory are there is known at once; O_DIRECT shows with the files. */
static pst_rc probe(struct dio_store *d, pst_error *err)
{
    struct dio_channel *c;
    int failed = dio_channel_take(d, 1, &c);

    if (failed)
        return fst_error_set(err, PST_E_NO_MEMORY, 0, "out of memory");
    d->has_rings = c->has_ring;
    if (d->has_fixed)
        failed = dio_channel_need_bounce(d, c);
    dio_channel_give(d, c);
    return failed ? fst_error_set(err, PST_E_NO_MEMORY, 0, "out of memory") : (pst_rc)PST_OK;
}

static void store_close(pst_backend *b)
{
    struct dio_store *d = b->data_private;
    const pst_host *host = b->host;

    fst_store_close(b);
    dio_channels_free(d);
    pthread_mutex_destroy(&d->mutex);
    host->dealloc(host, d);
}

static pst_rc store_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    pst_backend *b;
    pst_rc rc = fst_store_open(host, args, &dio_direct, &b, err);

    if (rc != PST_OK)
        return rc;
    struct dio_store *d = host->alloc(host, sizeof(*d), 16);
    if (!d || pthread_mutex_init(&d->mutex, NULL) != 0) {
        if (d)
            host->dealloc(host, d);
        fst_store_close(b);
        return fst_error_set(err, PST_E_NO_MEMORY, 0, "out of memory");
    }
    d->host = host;
    d->tree = b;
    d->locked.idle = NULL;
    d->locked.n_bounces = 0;
    d->has_rings = 0;
    atomic_init(&d->missing, 0);
    b->data_private = d;
    rc = read_options(d, args, err);
    if (rc == PST_OK) {
        uint32_t align = d->direct == DIO_OFF              ? 1
                         : d->alignment > limits.mem_align ? d->alignment
                                                           : limits.mem_align;
        d->limits = limits;
        d->limits.mem_align = d->limits.io_align = align;
        d->limits.part_multiple = align;
        b->io_align = align;
        b->temp_flags = fst_is_text(fst_option(args, "sync_writes"), "1") ? O_DSYNC : 0;
        compose_notes(d);
        rc = d->direct == DIO_OFF ? (pst_rc)PST_OK : probe(d, err);
    }
    if (rc != PST_OK) {
        store_close(b);
        return rc;
    }
    *out = b;
    return PST_OK;
}

static void describe(pst_backend *b, pst_backend_info *info)
{
    struct dio_store *d = b->data_private;

    fst_store_describe(b, &d->limits, info);
    if (!PST_HAS(pst_limits, info->limits, io_align))
        b->io_align = 1; /* an older host: it would not expect a grant to be rounded up */
    info->note = d->notes[atomic_load(&d->missing) % DIO_NOTES];
}

static const pst_backend_ops blocking = {
    .struct_size = sizeof(blocking),
    FST_TREE_OPS,
    .info = describe,
    .close = store_close,
};

PST_SYNC_OPS(ops, blocking)

static const char *const schemes[] = {"direct", NULL};

static const pst_plugin plugin_table = {
    .struct_size = sizeof(plugin_table),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = FST_CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = PST_SYNC_SCRATCH,
    .id = "directio",
    .version = "0.9.0",
    .vendor = "Penstock",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &limits,
    .options = options,
    .option_stride = sizeof(options[0]),
    .n_options = sizeof(options) / sizeof(options[0]),
    .ops = &ops,
    .store_open = store_open,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    pst_rc rc = fst_host_check(host, err);

    if (rc == PST_OK)
        *plugin = &plugin_table;
    return rc;
}
