/* Every input is a list of servers or is refused by name. Of a list each server is a URL of its own, with
 * nothing but scheme, host and port. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void *take(const pst_host *host, size_t size, size_t align)
{
    void *memory = NULL;

    (void)host;
    return posix_memalign(&memory, align, size) == 0 ? memory : NULL;
}

static void give(const pst_host *host, void *memory)
{
    (void)host;
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const pst_host host = {.struct_size = sizeof(host), .alloc = take, .dealloc = give};
    pst_error err = PST_ERROR_INIT;
    struct s3_endpoints *e = NULL;
    char region[] = "us-east-1", *text = malloc(size + 1);

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    const struct s3_config config = {.endpoint = text, .region = region};
    const pst_rc rc = s3_endpoints_new(&host, &config, &e, &err);
    if (rc == PST_OK) {
        const uint32_t n = s3_endpoints_count(e);
        require(n >= 1 && n <= 1024);
        for (uint32_t i = 0; i < n; i++) {
            struct s3_url url;
            require(s3_url_parse(s3_str(s3_endpoint_origin(e, i)), &url));
            require(url.rest.len == 0 && strchr(s3_endpoint_name(e, i), ':'));
        }
    } else {
        require(rc == PST_E_INVALID && strncmp(err.message, "option endpoint: ", 17) == 0);
    }
    s3_endpoints_free(e);
    free(text);
    return 0;
}
