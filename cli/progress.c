/* progress.c - one line on stderr that shows how far a transfer is.
 *
 * Drawn by whoever adds to it, at most five times a second, so there is no thread for it; a message
 * erases it first and the next addition draws it again. Nothing at all happens unless stderr is a
 * terminal that understands escapes, -q was not given, and standard output is not that terminal's
 * own data. The rate is the average since the start: steady, and honest about the time left. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"

#define REDRAW_NS (200u * 1000u * 1000u)

struct cli_progress {
    const char *what;
    uint64_t start_ns;
    atomic_ullong total_items, total_bytes, items, bytes;
    atomic_ullong next_draw_ns;
    bool is_drawn; /* under stderr_mutex */
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static size_t terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
        return size.ws_col;
    return 80;
}

static void add_duration(struct cli_text_buf *buf, double seconds)
{
    uint64_t s = seconds > 359999 ? 359999 : (uint64_t)(seconds + 0.5);
    if (s >= 3600)
        cli_addf(buf, "%llu:%02llu:%02llu", (unsigned long long)(s / 3600),
                 (unsigned long long)(s / 60 % 60), (unsigned long long)(s % 60));
    else
        cli_addf(buf, "%llu:%02llu", (unsigned long long)(s / 60), (unsigned long long)(s % 60));
}

static void compose(struct cli_progress *progress, uint64_t now, struct cli_text_buf *line)
{
    uint64_t items = atomic_load(&progress->items), bytes = atomic_load(&progress->bytes);
    uint64_t total_items = atomic_load(&progress->total_items);
    uint64_t total_bytes = atomic_load(&progress->total_bytes);
    double seconds = (double)(now - progress->start_ns) / 1e9;
    double rate = seconds > 0 ? (double)bytes / seconds : 0;

    cli_addf(line, "%s", progress->what);
    if (items > 0 || total_items != PST_UNKNOWN)
        cli_addf(line, "  %llu", (unsigned long long)items);
    if (total_items != PST_UNKNOWN)
        cli_addf(line, "/%llu", (unsigned long long)total_items);
    if (bytes > 0 || total_bytes != PST_UNKNOWN) {
        cli_addf(line, "  ");
        cli_add_human(line, bytes);
        if (total_bytes != PST_UNKNOWN) {
            cli_addf(line, " of ");
            cli_add_human(line, total_bytes);
            if (total_bytes > 0)
                cli_addf(line, " (%d%%)", (int)(100.0 * (double)bytes / (double)total_bytes));
        }
        cli_addf(line, "  ");
        cli_add_human(line, (uint64_t)rate);
        cli_addf(line, "/s");
    }
    if (total_bytes != PST_UNKNOWN && bytes <= total_bytes && rate > 0) {
        cli_addf(line, "  ");
        add_duration(line, (double)(total_bytes - bytes) / rate);
        cli_addf(line, " left");
    } else if (total_bytes == PST_UNKNOWN && total_items != PST_UNKNOWN && items > 0 &&
               items <= total_items) {
        cli_addf(line, "  ");
        add_duration(line, seconds / (double)items * (double)(total_items - items));
        cli_addf(line, " left");
    }
}

static void write_stderr(const char *data, size_t len)
{
    /* Decoration: a write that fails or is short is of no consequence. */
    ssize_t n = write(STDERR_FILENO, data, len);
    (void)n;
}

static void draw(struct cli *cli)
{
    struct cli_text_buf line = {0};
    size_t width = terminal_width();

    cli_add(&line, "\r", 1);
    compose(cli->progress, now_ns(), &line);
    if (line.len > width) /* the text is ASCII: one byte a column */
        line.len = width;
    cli_add(&line, "\033[K", 3);
    pthread_mutex_lock(&cli->stderr_mutex);
    write_stderr(line.data, line.len);
    cli->progress->is_drawn = true;
    pthread_mutex_unlock(&cli->stderr_mutex);
    cli_text_fini(&line);
}

void cli_progress_start(struct cli *cli, const char *what, uint64_t total_items,
                        uint64_t total_bytes)
{
    const char *terminal = getenv("TERM");

    if (cli->progress || cli->is_quiet || !cli->is_stderr_terminal || !terminal ||
        strcmp(terminal, "dumb") == 0)
        return;
    cli->progress = cli_alloc(1, sizeof(*cli->progress));
    cli->progress->what = what;
    cli->progress->start_ns = now_ns();
    atomic_store(&cli->progress->next_draw_ns, cli->progress->start_ns + REDRAW_NS);
    cli_progress_total(cli, total_items, total_bytes);
}

void cli_progress_total(struct cli *cli, uint64_t total_items, uint64_t total_bytes)
{
    if (!cli->progress)
        return;
    atomic_store(&cli->progress->total_items, total_items);
    atomic_store(&cli->progress->total_bytes, total_bytes);
}

void cli_progress_add(struct cli *cli, uint64_t items, uint64_t bytes)
{
    unsigned long long next;
    uint64_t now;

    if (!cli->progress)
        return;
    atomic_fetch_add(&cli->progress->items, items);
    atomic_fetch_add(&cli->progress->bytes, bytes);
    now = now_ns();
    next = atomic_load(&cli->progress->next_draw_ns);
    if (now >= next &&
        atomic_compare_exchange_strong(&cli->progress->next_draw_ns, &next, now + REDRAW_NS))
        draw(cli);
}

void cli_progress_clear_locked(struct cli *cli)
{
    if (!cli->progress || !cli->progress->is_drawn)
        return;
    write_stderr("\r\033[K", 4);
    cli->progress->is_drawn = false;
}

void cli_progress_stop(struct cli *cli)
{
    if (!cli->progress)
        return;
    pthread_mutex_lock(&cli->stderr_mutex);
    cli_progress_clear_locked(cli);
    pthread_mutex_unlock(&cli->stderr_mutex);
    free(cli->progress);
    cli->progress = NULL;
}
