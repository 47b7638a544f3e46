/* uri.h - scheme://authority/key, taken byte by byte. */
#ifndef PENSTOCK_URI_H
#define PENSTOCK_URI_H

#include <penstock/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The three parts of a URI, as slices of the text that was parsed. */
typedef struct pst_uri {
    pst_str scheme;    /* as written; schemes compare without case */
    pst_str authority; /* bucket, container, or empty (file:///abs/path) */
    pst_str key;       /* every byte after the authority and its slash, never decoded */
} pst_uri;

/* Split `uri` into its parts. Nothing is decoded, folded or trimmed: '%', '?', '#', "//" and ".."
 * belong to the key, so what a listing prints can be pasted back.
 * Ownership: *out borrows from `uri`.
 * Errors: INVALID for no scheme, a scheme that is not [A-Za-z][A-Za-z0-9+.-]*, or a NUL byte. */
PST_API PST_NODISCARD pst_rc pst_uri_parse(pst_str uri, pst_uri *out, pst_error *err);

#ifdef __cplusplus
}
#endif
#endif
