/* regex.c - PCRE2 over keys.
 *
 * A pattern is searched anywhere in the subject. Keys are bytes: valid UTF-8 in them is matched as
 * characters, what is not UTF-8 matches nothing but stops nothing (PCRE2_MATCH_INVALID_UTF). '$'
 * means the very end, never "before a last newline", because a key may end in one. A pattern that
 * runs into PCRE2's limits (catastrophic backtracking) counts as no match of that key. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"

struct cli_regex {
    pcre2_code *code;
    pcre2_match_data *match;
};

int cli_regex_new(struct cli *cli, const char *pattern, struct cli_regex **out)
{
    struct cli_regex *regex;
    PCRE2_SIZE offset;
    PCRE2_UCHAR text[256];
    int error;

    *out = NULL;
    if (!pattern)
        return CLI_OK;
    regex = cli_alloc(1, sizeof(*regex));
    regex->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_DOLLAR_ENDONLY, &error,
                                &offset, NULL);
    if (!regex->code) {
        free(regex);
        pcre2_get_error_message(error, text, sizeof(text));
        return cli_usage(cli, "--regex '%s': %s at byte %zu", pattern, (const char *)text,
                         (size_t)offset);
    }
    /* Without a JIT (a hardened system) matching is slower, nothing else. */
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    regex->match = pcre2_match_data_create_from_pattern(regex->code, NULL);
    if (!regex->match) {
        cli_regex_free(regex);
        return cli_fail(cli, CLI_IO, "out of memory");
    }
    *out = regex;
    return CLI_OK;
}

bool cli_regex_matches(struct cli_regex *regex, pst_str subject)
{
    if (!regex)
        return true;
    return pcre2_match(regex->code, (PCRE2_SPTR)(subject.len ? subject.ptr : ""), subject.len, 0, 0,
                       regex->match, NULL) >= 0;
}

void cli_regex_free(struct cli_regex *regex)
{
    if (!regex)
        return;
    pcre2_match_data_free(regex->match);
    pcre2_code_free(regex->code);
    free(regex);
}
