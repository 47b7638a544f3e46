/* send.c - a request's body, from the caller's spans into libcurl's buffer. */
#include "net/net.h"

#include <stdio.h>
#include <string.h>

size_t pst_send_read(char *out, size_t size, size_t n, void *arg)
{
    struct pst_transfer *t = ((struct pst_slot *)arg)->transfer;
    size_t room = size * n;
    size_t written = 0;
    while (room > 0 && t->at_span < t->n_body) {
        const pst_iov *span = &t->body[t->at_span];
        size_t part = span->len - t->at_byte;
        if (part > room)
            part = room;
        memcpy(out + written, (const char *)span->ptr + t->at_byte, part);
        written += part;
        room -= part;
        t->at_byte += part;
        if (t->at_byte == span->len) {
            t->at_span++;
            t->at_byte = 0;
        }
    }
    t->n_read += written;
    t->last_progress_ns = t->loop->now_ns;
    return written;
}

void pst_send_rewind(struct pst_transfer *t)
{
    t->at_span = 0;
    t->at_byte = 0;
    t->n_read = 0;
}

/* libcurl starts over when a kept connection turns out to be closed. */
int pst_send_seek(void *arg, curl_off_t offset, int origin)
{
    struct pst_transfer *t = ((struct pst_slot *)arg)->transfer;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->body_bytes)
        return CURL_SEEKFUNC_FAIL;
    size_t left = (size_t)offset;
    t->was_sent |= t->n_read == t->body_bytes;
    pst_send_rewind(t);
    t->n_read = (uint64_t)offset;
    for (; left > 0; t->at_span++) {
        if (left < t->body[t->at_span].len) {
            t->at_byte = left;
            break;
        }
        left -= t->body[t->at_span].len;
    }
    return CURL_SEEKFUNC_OK;
}
