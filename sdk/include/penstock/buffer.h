/* buffer.h - reference-counted memory that results arrive in. */
#ifndef PENSTOCK_BUFFER_H
#define PENSTOCK_BUFFER_H

#include <penstock/context.h>

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

/* Make a buffer of `size` bytes for the application to fill: for reads into it, or for a writer that
 * takes it without a copy. Huge pages are advised, memory is reused, the bytes are not cleared.
 * `align`: a power of two up to 2 MiB, 0 for 64. The memory counts as handed out.
 * Ownership: pst_buffer_unref. Errors: INVALID (align), NO_MEMORY. */
PST_API PST_NODISCARD pst_rc pst_buffer_alloc(pst_context *context, size_t size, size_t align,
                                              pst_buffer **out, pst_error *err);

/* Make a buffer of memory that is yours. `release(arg)` runs once, on any thread, when the last
 * reference goes; until then the bytes must not change. `release` may be NULL. In a fork child it does
 * not run for buffers of the parent. Errors: NO_MEMORY, then release never runs. */
PST_API PST_NODISCARD pst_rc pst_buffer_wrap(void *data, size_t size, void (*release)(void *arg),
                                             void *arg, pst_buffer **out, pst_error *err);

/* Borrow the bytes for writing: only of a buffer from pst_buffer_alloc or pst_buffer_wrap, and only
 * while nobody else has a reference. NULL otherwise, and when the size is 0. */
PST_API void *pst_buffer_writable(pst_buffer *buffer);

/* Make a buffer that shows `size` bytes at `offset` of another and keeps it alive; nothing is copied.
 * Errors: INVALID beyond the end, NO_MEMORY. */
PST_API PST_NODISCARD pst_rc pst_buffer_slice(pst_buffer *buffer, size_t offset, size_t size,
                                              pst_buffer **out, pst_error *err);

#ifdef __cplusplus
}
#endif
#endif
