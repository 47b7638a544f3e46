/* buffer.h - reference-counted memory that results arrive in. */
#ifndef PENSTOCK_BUFFER_H
#define PENSTOCK_BUFFER_H

#include <penstock/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Immutable once handed out. Any thread may read, reference and release it at any time, after its
 * context is gone too. */
typedef struct pst_buffer pst_buffer;

/* Borrow the bytes. Aligned to 64 bytes or better; NULL only when the size is 0. */
PST_API const void *pst_buffer_data(const pst_buffer *buffer);

/* Tell the length in bytes. */
PST_API size_t pst_buffer_size(const pst_buffer *buffer);

/* Take one more reference; returns `buffer`. */
PST_API pst_buffer *pst_buffer_ref(pst_buffer *buffer);

/* Drop one reference; the last one gives the memory back. NULL is allowed. */
PST_API void pst_buffer_unref(pst_buffer *buffer);

#ifdef __cplusplus
}
#endif
#endif
