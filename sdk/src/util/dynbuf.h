/* dynbuf.h - a byte buffer that grows up to a ceiling.
 *
 * Append as often as you like and ask once at the end: after a failure (ceiling reached, no memory)
 * every further append fails too, and pst_dynbuf_take gives NULL. */
#ifndef PST_UTIL_DYNBUF_H
#define PST_UTIL_DYNBUF_H

#include <stddef.h>

struct pst_dynbuf {
    char *data; /* terminated; NULL while empty */
    size_t len, room, ceiling;
    int has_failed; /* no more room: ... */
    int is_full;    /* ... because of the ceiling, not for want of memory */
    int is_secret;  /* set after init: what it held is wiped wherever memory is given back */
};

/* `ceiling`: the most bytes it may ever hold, the terminator not counted. */
void pst_dynbuf_init(struct pst_dynbuf *buf, size_t ceiling);

/* Both return 0, or -1 when the buffer has failed, now or before. */
int pst_dynbuf_add(struct pst_dynbuf *buf, const void *bytes, size_t len);
int pst_dynbuf_addf(struct pst_dynbuf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Move the text out, for free(); NULL if the buffer has failed or there is no memory. */
char *pst_dynbuf_take(struct pst_dynbuf *buf);

void pst_dynbuf_fini(struct pst_dynbuf *buf);

#endif
