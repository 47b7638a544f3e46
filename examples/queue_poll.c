/* queue_poll.c - many reads under way from one thread, in an event loop that also does other things.
 *
 *   queue_poll file:///etc/ passwd hostname no-such-file      shows the size of each
 *
 * The loop sleeps in poll() on the queue's descriptor and a timer. Completions come in any order, each
 * with the user_data of its request; an object that cannot be read is an event with an error.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <penstock/penstock.h>

enum { MAX_KEYS = 1000, EVENTS_AT_ONCE = 64 };

/* Show what came. Returns the number of failures. */
static int show_events(pst_event *events, size_t n, char **names)
{
    int n_failed = 0;

    for (size_t i = 0; i < n; i++) {
        if (events[i].status == PST_OK) {
            printf("%10" PRIu64 "  %s\n", events[i].object_size, names[events[i].user_data]);
        } else {
            fprintf(stderr, "queue_poll: %s\n", events[i].error->message);
            n_failed++;
        }
        pst_event_fini(&events[i]); /* its buffer, error and etag */
    }
    return n_failed;
}

/* Reap until nothing is outstanding. Returns the number of failures, -1 when the queue failed. */
static int run_loop(pst_queue *queue, int timer, char **names, pst_error *err)
{
    struct pollfd fds[2] = {{.fd = pst_queue_fd(queue), .events = POLLIN},
                            {.fd = timer, .events = POLLIN}};
    pst_event events[EVENTS_AT_ONCE];
    int n_failed = 0;

    while (pst_queue_outstanding(queue) > 0) {
        uint64_t n_ticks;
        size_t n = 0;

        if (poll(fds, 2, -1) < 0)
            continue; /* a signal */
        if ((fds[1].revents & POLLIN) && read(timer, &n_ticks, sizeof n_ticks) > 0)
            fprintf(stderr, "... %zu to go\n", pst_queue_outstanding(queue));
        if (pst_queue_wait(queue, events, EVENTS_AT_ONCE, 0, NULL, &n, err) != PST_OK)
            return -1;
        n_failed += show_events(events, n, names);
    }
    return n_failed;
}

int main(int argc, char **argv)
{
    static pst_request requests[MAX_KEYS];
    static char keys[MAX_KEYS][1024];
    const struct itimerspec every_second = {.it_interval.tv_sec = 1, .it_value.tv_sec = 1};
    pst_error err = PST_ERROR_INIT;
    pst_context *context = NULL;
    pst_store *store = NULL;
    pst_queue *queue = NULL;
    pst_uri uri;
    size_t n_keys = argc > 2 ? (size_t)argc - 2 : 0;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), n_failed = -1;

    if (n_keys == 0 || n_keys > MAX_KEYS) {
        fprintf(stderr, "usage: queue_poll STORE_URI NAME... (up to %d)\n", MAX_KEYS);
        return 2;
    }
    pst_str text = pst_str_of(argv[1], strlen(argv[1]));
    if (pst_uri_parse(text, &uri, &err) != PST_OK ||
        pst_context_new(NULL, &context, &err) != PST_OK ||
        pst_store_open(context, text, NULL, 0, &store, &err) != PST_OK ||
        pst_queue_new(context, &queue, &err) != PST_OK)
        goto out;
    for (size_t i = 0; i < n_keys; i++) {
        snprintf(keys[i], sizeof keys[i], "%.*s%s", (int)uri.key.len, uri.key.ptr, argv[i + 2]);
        requests[i] = (pst_request){
            .struct_size = sizeof requests[i], .kind = PST_REQ_GET, .user_data = i};
        requests[i].length = PST_UNKNOWN; /* to the end */
        requests[i].timeout_ms = 30000;
        requests[i].store = store;
        requests[i].key = pst_str_of(keys[i], strlen(keys[i]));
    }
    timerfd_settime(timer, 0, &every_second, NULL);
    if (pst_queue_submit(queue, requests, n_keys, NULL, &err) == PST_OK)
        n_failed = run_loop(queue, timer, argv + 2, &err);
out:
    if (n_failed < 0)
        fprintf(stderr, "queue_poll: %s\n", err.message);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
    close(timer);
    return n_failed == 0 ? 0 : 1;
}
