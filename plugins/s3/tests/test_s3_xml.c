#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../error.h"
#include "../url.h"
#include "../xml.h"

struct seen {
    char text[4096];
    int stop_at;
    int n;
};

static int32_t note(void *ctx, const char *path, pst_str text)
{
    struct seen *seen = ctx;
    const size_t at = strlen(seen->text);

    snprintf(seen->text + at, sizeof(seen->text) - at, "%s=%.*s;", path, (int)text.len, text.ptr);
    return ++seen->n == seen->stop_at ? PST_E_CANCELLED : PST_OK;
}

static pst_rc parse(const char *document, struct seen *seen)
{
    const struct s3_xml handler = {.end = note, .ctx = seen};

    seen->text[0] = '\0';
    seen->n = 0;
    return s3_xml_parse(s3_str(document), &handler);
}

static void test_xml__leaves_come_with_path_and_text(void **state)
{
    struct seen seen = {.stop_at = 0};

    (void)state;
    assert_int_equal(
        parse("<?xml version=\"1.0\"?><a:R xmlns:a='urn:x'>\n <C><K>a&amp;b&#10;c</K> x "
              "<S/></C><C2> y </C2></a:R>",
              &seen),
        PST_OK);
    assert_string_equal(seen.text, "R/C/K=a&b\nc;R/C/S=;R/C=;R/C2= y ;R=;");
}

static void test_xml__callback_stops_the_walk(void **state)
{
    struct seen seen = {.stop_at = 1};

    (void)state;
    assert_int_equal(parse("<R><A/><B/></R>", &seen), PST_E_CANCELLED);
    assert_string_equal(seen.text, "R/A=;");
}

static void test_xml__what_is_not_well_formed_is_data_loss(void **state)
{
    static const char *const bad[] = {"",
                                      "<R>",
                                      "<R></S>",
                                      "text",
                                      "<R>&nbsp;</R>",
                                      "<R/><R/>",
                                      "<!DOCTYPE R [<!ENTITY e 'x'>]><R>&e;</R>",
                                      "<!DOCTYPE R SYSTEM 'http://evil/'><R/>"};
    struct seen seen = {.stop_at = 0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse(bad[i], &seen), PST_E_DATA_LOSS);
}

static void test_xml__depth_and_text_have_ceilings(void **state)
{
    char *document = calloc(1, 200000);
    struct seen seen = {.stop_at = 0};

    (void)state;
    assert_non_null(document);
    for (size_t i = 0; i < 16; i++) {
        memcpy(document + 3 * i, "<a>", 3);
        memcpy(document + 3 * 16 + 4 * i, "</a>", 4);
    }
    assert_int_equal(parse(document, &seen), PST_OK);
    for (size_t i = 0; i < 17; i++)
        memcpy(document + 3 * i, "<a>", 4);
    assert_int_equal(parse(document, &seen), PST_E_DATA_LOSS);
    memset(document, 'x', 100000);
    memcpy(document, "<a>", 3);
    memcpy(document + 3 + 65536, "</a>", 5);
    assert_int_equal(parse(document, &seen), PST_OK);
    memset(document, 'x', 100000);
    memcpy(document, "<a>", 3);
    memcpy(document + 4 + 65536, "</a>", 5);
    assert_int_equal(parse(document, &seen), PST_E_DATA_LOSS);
    free(document);
}

static void test_xml__what_is_escaped_reads_back(void **state)
{
    static const char text[] = "<a> & \"b\" 'c'\r\n\t]]>";
    char document[256] = "<R>";
    struct seen seen = {.stop_at = 0};

    (void)state;
    const size_t n = s3_xml_escape(s3_str(text), document + 3, sizeof(document) - 16);
    assert_int_equal(n, strlen(document + 3));
    memcpy(document + 3 + n, "</R>", 5);
    assert_int_equal(parse(document, &seen), PST_OK);
    assert_int_equal(strncmp(seen.text, "R=", 2), 0);
    assert_memory_equal(seen.text + 2, text, strlen(text));
    assert_int_equal(s3_xml_escape(s3_str(text), document, 3), n); /* as snprintf */
}

static void test_problem__is_read_from_s3_and_sts_documents(void **state)
{
    struct s3_problem p;

    (void)state;
    assert_true(s3_problem_parse(
        PST_STR("<Error><Code>NoSuchKey</Code><Message>a\nb</Message><Region>r</Region>"
                "<Key>k</Key><RequestId>1</RequestId></Error>"),
        &p));
    assert_string_equal(p.code, "NoSuchKey");
    assert_string_equal(p.message, "a b");
    assert_string_equal(p.region, "r");
    assert_string_equal(p.key, "k");
    assert_string_equal(p.request_id, "1");
    assert_true(s3_problem_parse(PST_STR("<ErrorResponse><Error><Code>ExpiredToken</Code></Error>"
                                         "<RequestId>2</RequestId></ErrorResponse>"),
                                 &p));
    assert_string_equal(p.code, "ExpiredToken");
    assert_string_equal(p.request_id, "2");
}

static void test_problem__cut_document_still_tells_its_code(void **state)
{
    struct s3_problem p;

    (void)state;
    assert_true(s3_problem_parse(PST_STR("<Error><Code>SlowDown</Code><Mess"), &p));
    assert_string_equal(p.code, "SlowDown");
    assert_false(s3_problem_parse(PST_STR("<html><body>bad gateway</body></html>"), &p));
    assert_false(s3_problem_parse(PST_STR("{\"Code\": 1}"), &p));
    assert_false(s3_problem_parse(pst_str_of(NULL, 0), &p));
}

static void test_problem__long_text_is_cut_at_a_character(void **state)
{
    char document[2048] = "<Error><Code>C</Code><Message>x";
    struct s3_problem p;
    size_t n = strlen(document);

    (void)state;
    for (int i = 0; i < 400; i++, n += 2)
        memcpy(document + n, "\xc3\xa9", 2);
    memcpy(document + n, "</Message></Error>", 19);
    assert_true(s3_problem_parse(s3_str(document), &p));
    assert_int_equal(strlen(p.message), 511);
    assert_int_equal((unsigned char)p.message[510], 0xa9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xml__leaves_come_with_path_and_text),
        cmocka_unit_test(test_xml__callback_stops_the_walk),
        cmocka_unit_test(test_xml__what_is_not_well_formed_is_data_loss),
        cmocka_unit_test(test_xml__depth_and_text_have_ceilings),
        cmocka_unit_test(test_xml__what_is_escaped_reads_back),
        cmocka_unit_test(test_problem__is_read_from_s3_and_sts_documents),
        cmocka_unit_test(test_problem__cut_document_still_tells_its_code),
        cmocka_unit_test(test_problem__long_text_is_cut_at_a_character),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
