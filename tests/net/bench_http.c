/* bench_http ours|curl URL COUNT BYTES DEPTH [PUT]: COUNT requests for URL, DEPTH of them at a time, through
 * http/1 or through a plain curl_multi, each into memory of its own that is reused. Prints CPU time of
 * this process for each. The difference of the two is what http/1 costs above libcurl. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "calls.h"

static struct {
    const char *url;
    unsigned count, depth, n_sent, n_done;
    size_t bytes;
    const char *method;
    pst_http_client *client;
    const struct net_host *host;
} job;

struct lane {
    pst_http_request request;
    char *memory;
    pst_iov span;
    uint64_t id;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;

static int32_t take(void *ctx, const pst_http_head *head, pst_http_grant *grant)
{
    struct lane *lane = ctx;
    if (head->status >= 300)
        return PST_HTTP_REJECT;
    grant->dst = &lane->span;
    grant->n_dst = 1;
    return PST_HTTP_TAKE;
}

static void done(void *ctx, pst_rc rc, const pst_http_reply *reply)
{
    struct lane *lane = ctx;
    if (rc != PST_OK || reply->status >= 300)
        fprintf(stderr, "%d %u %s\n", (int)rc, reply->status, reply->message);
    pthread_mutex_lock(&mutex);
    const int goes_on = job.n_sent < job.count;
    job.n_sent += (unsigned)goes_on;
    if (++job.n_done == job.count)
        pthread_cond_signal(&ended);
    pthread_mutex_unlock(&mutex);
    if (goes_on)
        job.host->http->send(job.client, &lane->request, &lane->id);
}

static void run_ours(void)
{
    static struct net_host host;
    net_host_open(&host, 2);
    job.client = net_client(&host, NULL);
    job.host = &host;
    struct lane *lanes = calloc(job.depth, sizeof(*lanes));
    job.n_sent = job.depth;
    for (unsigned i = 0; i < job.depth; i++) {
        struct lane *lane = &lanes[i];
        lane->memory = aligned_alloc(4096, job.bytes);
        memset(lane->memory, 1, job.bytes);
        lane->span = (pst_iov){lane->memory, job.bytes};
        lane->request.struct_size = sizeof(lane->request);
        lane->request.method = pst_str_of(job.method, strlen(job.method));
        lane->request.url = pst_str_of(job.url, strlen(job.url));
        lane->request.accept = take;
        lane->request.done = done;
        lane->request.ctx = lane;
        if (strcmp(job.method, "PUT") == 0) {
            lane->request.body = &lane->span;
            lane->request.n_body = 1;
        }
    }
    for (unsigned i = 0; i < job.depth; i++)
        host.http->send(job.client, &lanes[i].request, &lanes[i].id);
    pthread_mutex_lock(&mutex);
    while (job.n_done < job.count)
        pthread_cond_wait(&ended, &mutex);
    pthread_mutex_unlock(&mutex);
    host.http->client_free(job.client);
    net_host_close(&host);
}

struct sink {
    char *memory;
    size_t at;
};

static size_t sink_write(char *data, size_t size, size_t n, void *arg)
{
    struct sink *sink = arg;
    memcpy(sink->memory + sink->at, data, size * n);
    sink->at += size * n;
    return size * n;
}

static void run_curl(void)
{
    CURLM *multi = curl_multi_init();
    unsigned n_done = 0, n_sent = 0;
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)job.depth);
    for (unsigned i = 0; i < job.depth; i++, n_sent++) {
        CURL *easy = curl_easy_init();
        struct sink *sink = calloc(1, sizeof(*sink));
        sink->memory = aligned_alloc(4096, job.bytes);
        memset(sink->memory, 1, job.bytes);
        curl_easy_setopt(easy, CURLOPT_URL, job.url);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 128L * 1024);
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, sink_write);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, sink);
        curl_easy_setopt(easy, CURLOPT_PRIVATE, sink);
        curl_multi_add_handle(multi, easy);
    }
    while (n_done < job.count) {
        CURLMsg *message;
        int n;
        curl_multi_perform(multi, &n);
        int has_begun = 0;
        while ((message = curl_multi_info_read(multi, &n))) {
            struct sink *sink;
            CURL *easy = message->easy_handle;
            curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&sink);
            n_done++;
            sink->at = 0;
            curl_multi_remove_handle(multi, easy);
            if (n_sent++ < job.count) {
                curl_multi_add_handle(multi, easy);
                has_begun = 1;
            }
        }
        if (!has_begun)
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
}

int main(int argc, char **argv)
{
    struct rusage usage;
    if (argc < 6)
        return 2;
    job.url = argv[2];
    job.count = (unsigned)strtoul(argv[3], NULL, 10);
    job.bytes = strtoul(argv[4], NULL, 10);
    job.depth = (unsigned)strtoul(argv[5], NULL, 10);
    job.method = argc > 6 ? argv[6] : "GET";
    if (job.depth > job.count)
        job.depth = job.count;
    const uint64_t start = now_ns();
    if (strcmp(argv[1], "curl") == 0)
        run_curl();
    else
        run_ours();
    const double wall = (double)(now_ns() - start) / 1e9;
    getrusage(RUSAGE_SELF, &usage);
    const double user = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6;
    const double sys = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6;
    printf("%s: %.2f us each (%.2f user, %.2f sys), %.3f cpu s per GB, %.2f GB/s, %ld faults\n",
           argv[1], (user + sys) * 1e6 / job.count, user * 1e6 / job.count, sys * 1e6 / job.count,
           (user + sys) * 1e9 / ((double)job.count * (double)job.bytes),
           (double)job.count * (double)job.bytes / wall / 1e9, usage.ru_minflt);
    return 0;
}
