/* uring.c - the loop that one would write by hand for a large file past the page cache: io_uring, a fixed
 * number of large requests under way, refilled as they complete, all on one thread. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#include <liburing.h>

struct uring {
    struct io_uring ring;
    unsigned int depth;
};

struct uring *uring_new(unsigned int depth)
{
    struct uring *u = calloc(1, sizeof *u);

    if (u == NULL)
        die("out of memory");
    u->depth = depth;
    int rc = io_uring_queue_init(depth, &u->ring,
                                 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (rc == -EINVAL) /* before Linux 6.1 */
        rc = io_uring_queue_init(depth, &u->ring, 0);
    if (rc != 0)
        die("io_uring: errno %d", -rc);
    return u;
}

void uring_move(struct uring *u, int fd, char *memory, uint64_t bytes, uint64_t block_bytes,
                int is_write)
{
    uint64_t next = 0, n_done = 0;
    unsigned int n_busy = 0;

    while (n_done < bytes) {
        for (; n_busy < u->depth && next < bytes; n_busy++) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
            uint64_t n = bytes - next < block_bytes ? bytes - next : block_bytes;

            if (is_write)
                io_uring_prep_write(sqe, fd, memory + next, (unsigned int)n, next);
            else
                io_uring_prep_read(sqe, fd, memory + next, (unsigned int)n, next);
            io_uring_sqe_set_data64(sqe, n);
            next += n;
        }
        struct io_uring_cqe *cqe;
        int rc = io_uring_submit_and_wait(&u->ring, 1);
        if (rc < 0)
            die("io_uring: errno %d", -rc);
        while (n_busy > 0 && io_uring_peek_cqe(&u->ring, &cqe) == 0) {
            if (cqe->res < 0 || (uint64_t)cqe->res != cqe->user_data)
                die("io_uring: a request answers %d", cqe->res);
            n_done += cqe->user_data;
            n_busy--;
            io_uring_cqe_seen(&u->ring, cqe);
        }
    }
}

void uring_free(struct uring *u)
{
    io_uring_queue_exit(&u->ring);
    free(u);
}
