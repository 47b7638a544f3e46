/* compress.h - a stream of bytes in, zstd frames out: what a compressing writer puts before its parts. */
#ifndef PST_IO_COMPRESS_H
#define PST_IO_COMPRESS_H

#include <penstock/object.h>

#include "io/call.h"

struct pst_compressor;

/* Takes finished bytes, in order, on the thread that called write or finish. Any error but PST_OK ends
 * the stream and comes back from there. */
typedef pst_rc (*pst_compressed_fn)(void *arg, const void *data, size_t len);

/* Check level, frame size and workers; 0 where a member means its default. Errors: INVALID, naming the
 * value and what is allowed. */
pst_rc pst_compress_check(const pst_write_options *given, pst_error *err);

/* Make one. Errors: UNIMPLEMENTED, naming the library, where libzstd cannot be loaded; NO_MEMORY. */
pst_rc pst_compressor_new(struct pst_port *port, const pst_write_options *options,
                          pst_compressed_fn emit, void *arg, struct pst_compressor **out,
                          pst_error *err);

/* Take `len` bytes. With `owner` they lie in that buffer, which is referenced instead of copied.
 * Waits for a frame to be compressed where as many as there are workers are under way. */
pst_rc pst_compressor_write(struct pst_compressor *compressor, const void *data, size_t len,
                            pst_buffer *owner, const struct pst_limit *limit, pst_error *err);

/* Compress what is left, wait for all frames, emit them and the seek table. */
pst_rc pst_compressor_finish(struct pst_compressor *compressor, const struct pst_limit *limit,
                             pst_error *err);

/* Stop what is under way and release it. NULL is allowed. */
void pst_compressor_free(struct pst_compressor *compressor);

#endif
