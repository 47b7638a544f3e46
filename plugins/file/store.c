/* store.c - opening and closing a store; what every plugin of this tree tells the host about it.
 *
 * The options that all of them have are read here, the root is opened, and how names are kept inside it
 * is decided once. How bytes move is the caller's business: it hands in a struct fst_data_ops. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A host of this major has at least the functions of its oldest minor; whether it is one is all there is
 * to check. */
pst_rc fst_host_check(const pst_host *host, pst_error *err)
{
    if (host->abi_major == PST_ABI_MAJOR && PST_HAS(pst_host, host, exec))
        return PST_OK;
    return fst_error_set(err, PST_E_BAD_PLUGIN, 0, "the host speaks ABI %u.%u, this is %u.%u",
                         host->abi_major, host->abi_minor, PST_ABI_MAJOR, PST_ABI_MINOR);
}

pst_str fst_option(const pst_open_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_options; i++) {
        const pst_kv *kv = &args->options[i];
        if (kv->key.len == strlen(name) && memcmp(kv->key.ptr, name, kv->key.len) == 0)
            return kv->value;
    }
    return pst_str_of(NULL, 0);
}

int fst_is_text(pst_str value, const char *text)
{
    return value.len == strlen(text) && memcmp(value.ptr, text, value.len) == 0;
}

uint64_t fst_to_number(pst_str value)
{
    uint64_t number = 0;

    for (size_t i = 0; i < value.len; i++) /* decimal, within min..max: the host has checked */
        number = number * 10 + (uint64_t)(value.ptr[i] - '0');
    return number;
}

/* 16 hex digits that change with every start of the machine, for the names of temporary files. */
static void read_boot_id(char boot[17])
{
    char text[64];
    size_t n = 0;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof(text)) : 0;

    if (fd >= 0)
        close(fd);
    memset(boot, '0', 16); /* without /proc: locks and age decide in cleanup.c */
    boot[16] = '\0';
    for (ssize_t i = 0; i < got && n < 16; i++) {
        if ((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))
            boot[n++] = text[i];
    }
}

/* How names are kept inside the root; see path.c. */
static void choose_confinement(pst_backend *b, pst_str symlinks)
{
    static const char note[] = "openat2() is not available: symbolic links are refused";
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};

    b->follow_dirs = fst_is_text(symlinks, "follow");
    b->confine = FST_PLAIN;
    if (b->follow_dirs || (b->root[1] == '\0' && !fst_is_text(symlinks, "refuse")))
        return; /* below "/" lies everything */
    b->resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    if (fst_is_text(symlinks, "refuse"))
        b->resolve |= RESOLVE_NO_SYMLINKS;
    long fd = syscall(SYS_openat2, b->root_fd, ".", &how, sizeof(how));
    b->confine = fd >= 0 ? FST_OPENAT2 : FST_WALK;
    if (fd >= 0)
        close((int)fd);
    else if (!fst_is_text(symlinks, "refuse"))
        memcpy(b->note, note, sizeof(note));
}

void fst_store_close(pst_backend *b)
{
    if (b->root_fd >= 0)
        close(b->root_fd);
    b->host->dealloc(b->host, b);
}

pst_rc fst_store_open(const pst_host *host, const pst_open_args *args,
                      const struct fst_data_ops *data, pst_backend **out, pst_error *err)
{
    pst_str root = fst_option(args, "root"), tmpdir = fst_option(args, "tmpdir");
    pst_str list_memory = fst_option(args, "list_memory"), fsync_when = fst_option(args, "fsync");

    if (args->authority.len > 0)
        return fst_error_set(err, PST_E_INVALID, 0,
                             "%.*s URIs have no authority: write %.*s:///path (three slashes)",
                             (int)args->scheme.len, args->scheme.ptr, (int)args->scheme.len,
                             args->scheme.ptr);
    if (root.len == 0)
        root = PST_STR("/");
    if (root.ptr[0] != '/' || memchr(root.ptr, '\0', root.len))
        return fst_error_set(err, PST_E_INVALID, 0, "option root: must be an absolute path");
    while (root.len > 1 && root.ptr[root.len - 1] == '/')
        root.len--;
    pst_backend *b = host->alloc(host, sizeof(*b) + root.len + tmpdir.len + 2, 16);
    if (!b)
        return fst_error_set(err, PST_E_NO_MEMORY, 0, "out of memory");
    memset(b, 0, sizeof(*b) + root.len + tmpdir.len + 2);
    b->host = host;
    b->data = data;
    b->io_align = 1;
    char *text = (char *)(b + 1);
    memcpy(text, root.ptr, root.len);
    b->root = text;
    if (tmpdir.len > 0)
        memcpy(text + root.len + 1, tmpdir.ptr, tmpdir.len);
    b->tmpdir = tmpdir.len > 0 ? text + root.len + 1 : "/tmp";
    b->list_memory = list_memory.len > 0 ? fst_to_number(list_memory) : 64u << 20;
    b->fsync = fst_is_text(fsync_when, "full")   ? FST_FSYNC_FULL
               : fst_is_text(fsync_when, "data") ? FST_FSYNC_DATA
                                                 : FST_FSYNC_NONE;
    read_boot_id(b->boot);
    b->root_fd = open(b->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (b->root_fd < 0) {
        pst_rc rc = errno == EACCES                       ? (pst_rc)PST_E_DENIED
                    : errno == ENOENT || errno == ENOTDIR ? (pst_rc)PST_E_NOT_FOUND
                                                          : (pst_rc)PST_E_IO;
        fst_error_set(err, rc, errno, "option root: %.300s", b->root);
        fst_store_close(b);
        return rc;
    }
    choose_confinement(b, fst_option(args, "symlinks"));
    *out = b;
    return PST_OK;
}

void fst_store_describe(const pst_backend *b, const pst_limits *limits, pst_backend_info *info)
{
    pst_limits *l = info->limits;

    info->caps = FST_CAPS;
    info->endpoint = "";
    info->note = b->note;
    if (PST_HAS(pst_backend_info, info, want_sums))
        info->want_sums = 0; /* kept where a caller has them; computing them is its choice */
    l->flags = limits->flags;
    l->object_max = limits->object_max;
    l->part_min = limits->part_min;
    l->part_max = limits->part_max;
    l->part_multiple = limits->part_multiple;
    l->io_preferred = limits->io_preferred;
    l->parts_max = limits->parts_max;
    l->list_page_max = limits->list_page_max;
    l->remove_batch_max = limits->remove_batch_max;
    l->inflight_max = limits->inflight_max;
    l->key_max = limits->key_max;
    l->user_meta_max = limits->user_meta_max;
    l->mem_align = limits->mem_align;
    if (PST_HAS(pst_limits, l, io_align))
        l->io_align = limits->io_align;
}
