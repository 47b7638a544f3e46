/* Every input is a URI or is not. Of one that is: its parts lie in it, in order, and put together
 * they are it again, to the byte. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <penstock/uri.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static int is_one_line(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return 0;
    }
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    pst_error err = PST_ERROR_INIT;
    pst_uri uri;
    pst_rc rc = pst_uri_parse(pst_str_of(text, size), &uri, &err);

    require(pst_uri_parse(pst_str_of(text, size), &uri, NULL) == rc);
    if (rc != PST_OK) {
        require(rc == PST_E_INVALID && err.code == rc);
        require(memchr(err.message, '\0', sizeof(err.message)) != NULL);
        require(err.message[0] != '\0' && is_one_line(err.message));
        return 0;
    }
    require(uri.scheme.ptr == text && uri.scheme.len > 0);
    require(uri.authority.ptr == text + uri.scheme.len + 3);
    require(memcmp(text + uri.scheme.len, "://", 3) == 0);
    const char *end = uri.authority.ptr + uri.authority.len;
    require(uri.authority.len == 0 || !memchr(uri.authority.ptr, '/', uri.authority.len));
    if (end == text + size) {
        require(uri.key.len == 0);
    } else {
        require(*end == '/' && uri.key.ptr == end + 1);
        require(uri.key.ptr + uri.key.len == text + size);
    }
    require(size == 0 || !memchr(text, '\0', size));
    return 0;
}
