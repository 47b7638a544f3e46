/* forks.c - a store that was used before fork works in the child and goes on in the parent.
 *
 *   forks URI TIMES
 *
 * URI names an object. The parent reads it, with a read of its own under way across each fork where that
 * is possible, and so does each child, whose handles are the parent's: connections, threads and
 * credentials are made anew there. Exit 0: all reads gave the same bytes. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <penstock/penstock.h>

struct reads {
    pst_store *store;
    pst_str key;
    pst_buffer *first; /* what every read must give */
    atomic_int is_ending;
    int n_wrong, n_done;
};

static const pst_call call = {.struct_size = sizeof(call), .timeout_ms = 30000};

static int read_once(struct reads *r, const char *who)
{
    pst_error err = PST_ERROR_INIT;
    pst_buffer *buffer = NULL;
    int is_same = 0;

    if (pst_get(r->store, r->key, NULL, &call, &buffer, NULL, &err) != PST_OK)
        fprintf(stderr, "forks: %s: %s\n", who, err.message);
    else if (!(is_same = pst_buffer_size(buffer) == pst_buffer_size(r->first) &&
                         memcmp(pst_buffer_data(buffer), pst_buffer_data(r->first),
                                pst_buffer_size(buffer)) == 0))
        fprintf(stderr, "forks: %s: other bytes\n", who);
    pst_buffer_unref(buffer);
    return is_same;
}

/* The parent's other thread: it reads all the time, so that most forks find a request under way. */
static void *read_on(void *arg)
{
    struct reads *r = arg;

    while (!atomic_load(&r->is_ending)) {
        r->n_wrong += !read_once(r, "the parent's thread");
        r->n_done++;
    }
    return NULL;
}

static int fork_once(struct reads *r)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(read_once(r, "a child") && read_once(r, "a child, again") ? 0 : 1);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 0;
    if (status != 0)
        fprintf(stderr, "forks: a child ended with status 0x%x\n", (unsigned)status);
    return status == 0 && read_once(r, "the parent");
}

int main(int argc, char **argv)
{
    const char *const dirs[] = {getenv("PST_TEST_PLUGINS"), NULL};
    const pst_context_options options = {.struct_size = sizeof(options), .plugin_dirs = dirs};
    pst_error err = PST_ERROR_INIT;
    pst_context *context = NULL;
    struct reads r = {0};
    pthread_t thread;
    pst_uri uri;
    int rc = 1;

    if (argc != 3) {
        fprintf(stderr, "usage: forks URI TIMES\n");
        return 2;
    }
    pst_str text = pst_str_of(argv[1], strlen(argv[1]));
    unsigned long n_forks = strtoul(argv[2], NULL, 10), n = 0;
    if (pst_uri_parse(text, &uri, &err) != PST_OK ||
        pst_context_new(&options, &context, &err) != PST_OK ||
        pst_store_open(context, text, NULL, 0, &r.store, &err) != PST_OK ||
        pst_get(r.store, uri.key, NULL, &call, &r.first, NULL, &err) != PST_OK) {
        fprintf(stderr, "forks: %s\n", err.message);
        goto out;
    }
    r.key = uri.key;
    if (pthread_create(&thread, NULL, read_on, &r) != 0)
        goto out;
    while (n < n_forks && fork_once(&r))
        n++;
    atomic_store(&r.is_ending, 1);
    pthread_join(thread, NULL);
    printf("%lu forks, %d reads beside them, %d of them wrong\n", n, r.n_done, r.n_wrong);
    rc = n == n_forks && r.n_wrong == 0 ? 0 : 1;
out:
    pst_buffer_unref(r.first);
    pst_store_free(r.store);
    pst_context_free(context);
    return rc;
}
