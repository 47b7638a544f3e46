/* Every input is an XML document of S3's kind or is refused; what comes of one stays within the ceilings.
 * Taken as an error document, its fields are single lines of UTF-8 that fit. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "text.h"
#include "xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

struct walk {
    int depth;
};

static int32_t on_begin(void *ctx, const char *path)
{
    struct walk *walk = ctx;

    walk->depth++;
    require(walk->depth <= 16 && strlen(path) < 512);
    return PST_OK;
}

static int32_t on_end(void *ctx, const char *path, pst_str text)
{
    struct walk *walk = ctx;
    char out[64];

    require(walk->depth > 0 && path[0] && path[strlen(path)] == '\0');
    require(text.len <= 64u << 10 && text.ptr[text.len] == '\0');
    require(s3_xml_escape(text, out, sizeof(out)) >= text.len);
    walk->depth--;
    return PST_OK;
}

static void check_line(const char *text, size_t capacity)
{
    const size_t len = strnlen(text, capacity);

    require(len < capacity && s3_utf8_len(pst_str_of(text, len)) == len);
    for (size_t i = 0; i < len; i++)
        require((unsigned char)text[i] >= ' ' && text[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct walk walk = {0};
    const struct s3_xml handler = {.end = on_end, .begin = on_begin, .ctx = &walk};
    const pst_str document = pst_str_of((const char *)data, size);
    struct s3_problem problem;
    const pst_rc rc = s3_xml_parse(document, &handler);

    require(rc == PST_OK || rc == PST_E_DATA_LOSS || rc == PST_E_NO_MEMORY);
    require(rc != PST_OK || walk.depth == 0);
    const int is_problem = s3_problem_parse(document, &problem);
    require(is_problem == (problem.code[0] != '\0'));
    check_line(problem.code, sizeof(problem.code));
    check_line(problem.message, sizeof(problem.message));
    check_line(problem.request_id, sizeof(problem.request_id));
    check_line(problem.region, sizeof(problem.region));
    check_line(problem.key, sizeof(problem.key));
    return 0;
}
