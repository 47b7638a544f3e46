/* names_helper.c - see test_file_names.h. */
#include "test_file_names.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#else
#define IS_SANITIZED 0
#endif

enum { LINKS_MAX = 60000 }; /* ext4 allows 65,000 */

/* Numbers in an order that is none: an odd factor is a permutation of 32-bit numbers. */
static void make_name(char *out, size_t cap, const char *prefix, uint32_t i, size_t name_len)
{
    int n = snprintf(out, cap, "%s%08x", prefix, i * 2654435761u);

    assert_true(n > 0 && (size_t)n <= name_len && name_len < cap);
    memset(out + n, 'f', name_len - (size_t)n);
    out[name_len] = '\0';
}

/* Names, not files: links to one file for every LINKS_MAX of them, which is ten times as fast. */
void names_make(const char *dir, const char *prefix, uint32_t n, size_t name_len)
{
    char name[256], first[256];
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    for (uint32_t i = 0; i < n; i++) {
        make_name(name, sizeof(name), prefix, i, name_len);
        if (i % LINKS_MAX == 0) {
            memcpy(first, name, sizeof(first));
            assert_int_equal(mknodat(fd, name, S_IFREG | 0644, 0), 0);
        } else {
            assert_int_equal(linkat(fd, first, fd, name, 0), 0);
        }
    }
    close(fd);
}

struct job {
    const char *dir;
    const char *const *options;
    uint32_t flags;
    struct names_result *result; /* shared with the parent */
};

static int check_page(const struct mini_op *op, char *last, size_t *last_len, int is_ordered)
{
    for (size_t i = 0; i < op->n_entries; i++) {
        pst_str key = op->entries[i].key;
        size_t n = key.len < *last_len ? key.len : *last_len;
        int order = memcmp(last, key.ptr, n);
        if (is_ordered && (order > 0 || (order == 0 && *last_len >= key.len)))
            return -1;
        memcpy(last, key.ptr, key.len);
        *last_len = key.len;
    }
    return 0;
}

static int list_all(struct mini_host *mini, const struct job *job)
{
    const pst_list_args args = {.struct_size = sizeof(args), .flags = job->flags};
    const pst_page_args page = {.struct_size = sizeof(page), .max_entries = 1000};
    pst_cursor_result opened = {.struct_size = sizeof(opened)};
    struct mini_op op;
    char last[4096];
    size_t last_len = 0;
    int is_last = 0;

    mini_op_init(mini, &op);
    if (mini_op_wait(&op, mini->plugin->ops->list_open(mini->store, &op.op, &args, &opened)) !=
        PST_OK)
        return 3;
    mini_op_fini(&op);
    while (!is_last) {
        pst_list_result result = {.struct_size = sizeof(result)};
        mini_op_init(mini, &op);
        if (mini_op_wait(
                &op, mini->plugin->ops->list_page(opened.cursor, &op.op, &page, &result)) != PST_OK)
            return 4;
        if (check_page(&op, last, &last_len, !(job->flags & PST_LIST_UNORDERED)) != 0)
            return 5;
        job->result->n_entries += op.n_entries;
        is_last = (result.flags & PST_PAGE_LAST) != 0;
        mini_op_fini(&op);
    }
    mini->plugin->ops->list_close(opened.cursor);
    return 0;
}

static int run_job(void *arg)
{
    const struct job *job = arg;
    struct mini_host mini;
    struct rusage usage;

    if (mini_open(&mini, job->options) != PST_OK)
        return 2;
    int rc = list_all(&mini, job);
    mini_close(&mini);
    getrusage(RUSAGE_SELF, &usage);
    job->result->peak_kib = IS_SANITIZED ? 0 : usage.ru_maxrss;
    return rc;
}

struct names_result names_list(const char *dir, const char *const *options, uint32_t flags)
{
    struct names_result *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct job job = {dir, options, flags, shared};

    assert_true(shared != MAP_FAILED);
    assert_int_equal(mini_run_child(run_job, &job, 0), 0);
    struct names_result result = *shared;
    munmap(shared, sizeof(*shared));
    return result;
}
