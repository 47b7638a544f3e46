#include "util/dynbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/wipe.h"

enum { FIRST_BYTES = 64 };

void pst_dynbuf_init(struct pst_dynbuf *buf, size_t ceiling)
{
    memset(buf, 0, sizeof(*buf));
    buf->ceiling = ceiling;
}

/* Make room for `len` more bytes and the terminator. */
static int reserve(struct pst_dynbuf *buf, size_t len)
{
    if (buf->has_failed)
        return -1;
    if (len > buf->ceiling - buf->len) {
        buf->has_failed = 1;
        buf->is_full = 1;
        return -1;
    }
    const size_t need = buf->len + len + 1;
    if (need <= buf->room)
        return 0;
    size_t room = buf->room ? buf->room : FIRST_BYTES;
    while (room < need)
        room = room > need / 2 ? need : room * 2;
    char *data = buf->is_secret ? pst_wipe_grow(buf->data, buf->len, room)
                                : realloc(buf->data, room);
    if (!data) {
        buf->has_failed = 1;
        return -1;
    }
    buf->data = data;
    buf->room = room;
    return 0;
}

int pst_dynbuf_add(struct pst_dynbuf *buf, const void *bytes, size_t len)
{
    if (reserve(buf, len) != 0)
        return -1;
    if (len > 0)
        memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
    return 0;
}

int pst_dynbuf_addf(struct pst_dynbuf *buf, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        buf->has_failed = 1;
        return -1;
    }
    if (reserve(buf, (size_t)n) != 0)
        return -1;
    va_start(args, format);
    (void)vsnprintf(buf->data + buf->len, (size_t)n + 1, format, args);
    va_end(args);
    buf->len += (size_t)n;
    return 0;
}

char *pst_dynbuf_take(struct pst_dynbuf *buf)
{
    char *data = NULL;

    if (pst_dynbuf_add(buf, "", 0) == 0) { /* an empty buffer gives an empty string */
        data = buf->data;
        pst_dynbuf_init(buf, buf->ceiling);
    }
    return data;
}

void pst_dynbuf_fini(struct pst_dynbuf *buf)
{
    pst_wipe_free(buf->data, buf->is_secret ? buf->len : 0);
    pst_dynbuf_init(buf, buf->ceiling);
}
