#include <penstock/uri.h>

#include <inttypes.h>
#include <string.h>

#include "core/error.h"

/* Locale must not matter, so not isalpha(). */
static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int is_scheme_char(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
}

/* What a message quotes: enough to recognise the URI, no more, for its end may hold a token. */
static const char *quote(pst_str uri, char out[72])
{
    return pst_printable(uri, out, 72);
}

pst_rc pst_uri_parse(pst_str uri, pst_uri *out, pst_error *err)
{
    char shown[72];
    size_t i = 0;

    if (uri.len == 0)
        return pst_fail(err, PST_E_INVALID, "URI is empty: want scheme://authority/key");
    const char *nul = memchr(uri.ptr, '\0', uri.len);
    if (nul)
        return pst_fail(err, PST_E_INVALID, "URI '%s': byte %" PRIu64 " is NUL", quote(uri, shown),
                        (uint64_t)(nul - uri.ptr));
    while (i < uri.len && is_scheme_char(uri.ptr[i]))
        i++;
    if (uri.len - i < 3 || memcmp(uri.ptr + i, "://", 3) != 0) {
        if (memmem(uri.ptr, uri.len, "://", 3) == NULL)
            return pst_fail(err, PST_E_INVALID,
                            "URI '%s': no scheme: want scheme://authority/key, as in "
                            "file:///absolute/path",
                            quote(uri, shown));
        char bad[16];
        return pst_fail(err, PST_E_INVALID,
                        "URI '%s': '%s' at byte %" PRIu64 " cannot be part of a scheme",
                        quote(uri, shown),
                        pst_printable(pst_str_of(uri.ptr + i, 1), bad, sizeof(bad)), (uint64_t)i);
    }
    if (i == 0)
        return pst_fail(err, PST_E_INVALID, "URI '%s': no scheme before '://'", quote(uri, shown));
    if (!is_letter(uri.ptr[0]))
        return pst_fail(err, PST_E_INVALID, "URI '%s': a scheme starts with a letter",
                        quote(uri, shown));

    const char *authority = uri.ptr + i + 3;
    const char *end = uri.ptr + uri.len;
    const char *slash = memchr(authority, '/', (size_t)(end - authority));
    const char *authority_end = slash ? slash : end;
    const char *key = slash ? slash + 1 : end;
    out->scheme = pst_str_of(uri.ptr, i);
    out->authority = pst_str_of(authority, (size_t)(authority_end - authority));
    out->key = pst_str_of(key, (size_t)(end - key));
    return PST_OK;
}
