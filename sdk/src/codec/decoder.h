/* decoder.h - zstd frames in, their content out, piece by piece. libzstd is mapped on first use. */
#ifndef PST_CODEC_DECODER_H
#define PST_CODEC_DECODER_H

#include <penstock/status.h>

/* One stream of frames: skippable ones are passed over, any number may follow each other. */
struct pst_decoder;

/* Errors: UNIMPLEMENTED, naming the library, where libzstd cannot be loaded; NO_MEMORY. */
pst_rc pst_decoder_new(struct pst_decoder **out, pst_error *err);

/* Before the first byte: the stream starts at `offset` of the object, and offsets in errors count so. */
void pst_decoder_start_at(struct pst_decoder *decoder, uint64_t offset);

/* Take up to `in_len` bytes of the stream and give up to `capacity` bytes of content; *n_in and *n_out
 * tell how many. Both 0 means that there is no input left and nothing is held back.
 * Errors: DATA_LOSS, naming the offset in the stream, for what is no zstd or does not fit its checksum;
 * OVER_BUDGET for a frame whose window needs more than 128 MiB. */
pst_rc pst_decoder_run(struct pst_decoder *decoder, const void *in, size_t in_len, size_t *n_in,
                       void *out, size_t capacity, size_t *n_out, pst_error *err);

/* The stream has ended. Errors: DATA_LOSS, naming the offset, in the middle of a frame, and where there
 * was no frame at all. */
pst_rc pst_decoder_end(struct pst_decoder *decoder, pst_error *err);

void pst_decoder_free(struct pst_decoder *decoder);

#endif
