/* xml.h - reading S3's XML: each leaf element with its path, in order (expat underneath). */
#ifndef PST_S3_XML_H
#define PST_S3_XML_H

#include <penstock/base.h>
#include <penstock/status.h>

struct s3_xml {
    /* Called for the end of every element. `path`: names from the root, "ListBucketResult/Contents/Key",
     * without namespaces; `text`: character data directly inside it, decoded, NUL-terminated and good
     * during the call. Nonzero stops the parse with that code. */
    int32_t (*end)(void *ctx, const char *path, pst_str text);
    int32_t (*begin)(void *ctx, const char *path); /* NULL allowed */
    void *ctx;
    const char *root; /* the name that the document must have; NULL: any */
};

/* OK, what a callback answered, NO_MEMORY, or DATA_LOSS: another root, or not well-formed (no entities, no
 * DTD: refused; depth at most 16; a leaf at most 64 KiB). */
pst_rc s3_xml_parse(pst_str document, const struct s3_xml *handler);

/* Append `text` to `out` as character data; XML-escaped. Returns the length needed (as snprintf). */
size_t s3_xml_escape(pst_str text, char *out, size_t capacity);

#endif
