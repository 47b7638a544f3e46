/* Escaped names: legal on any file system, one for each key, and one key for each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "escape.h"

enum { ROUNDS = 200000, KEY_MAX = 1200 };

static pst_str text(const char *literal)
{
    return pst_str_of(literal, strlen(literal));
}

/* Escape into a block of exactly the promised size, so that the sanitizers see one byte too many. */
static char *escape(pst_str key, size_t *len)
{
    char *name = malloc(CLI_ESCAPED_MAX(key.len));
    assert_non_null(name);
    *len = cli_escape_key(key, name);
    assert_true(*len <= CLI_ESCAPED_MAX(key.len));
    return name;
}

static void expect_name(const char *key, const char *wanted)
{
    size_t len;
    char *name = escape(text(key), &len);
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(name, wanted, len);
    free(name);
}

static void expect_key(const char *name, const char *wanted)
{
    char work[256];
    size_t len;
    assert_true(cli_unescape_key(text(name), work, &len));
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(work, wanted, len);
}

static void expect_refused(const char *name)
{
    char work[256];
    size_t len;
    assert_false(cli_unescape_key(text(name), work, &len));
}

static void check_legal(const char *name, size_t len)
{
    size_t n = 0;
    assert_true(len > 0);
    for (size_t i = 0; i <= len; i++) {
        if (i < len && name[i] != '/') {
            assert_int_not_equal(name[i], '\0');
            n++;
            continue;
        }
        assert_in_range(n, 1, 255 - strlen(CLI_ESCAPE_MARK));
        assert_false(n == 1 && name[i - 1] == '.');
        assert_false(n == 2 && name[i - 1] == '.' && name[i - 2] == '.');
        assert_false(n >= 10 && memcmp(name + i - n, ".penstock-", 10) == 0);
        n = 0;
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Mostly of the bytes that matter, so that forms, marks and cuts come up by chance. */
static size_t make_key(uint64_t *state, char key[KEY_MAX])
{
    static const char alphabet[] = "%/.a+=-25E0\n\xff";
    static const char temporary[] = ".penstock-tmp-1";
    size_t is_long = next_random(state) % 50 == 0;
    size_t len = next_random(state) % (is_long ? KEY_MAX : 12);
    size_t n_letters = is_long ? 1 + next_random(state) % 6 : sizeof(alphabet) - 1;

    for (size_t i = 0; i < len; i++)
        key[i] = next_random(state) % 997 == 0 ? '\0' : alphabet[next_random(state) % n_letters];
    for (size_t i = 0; is_long && i < len; i++) {
        if (key[i] == '/' && next_random(state) % 100 != 0)
            key[i] = 'x';
    }
    if (next_random(state) % 64 == 0 && len >= sizeof(temporary))
        memcpy(key, temporary, sizeof(temporary) - 1);
    return len;
}

static void test_escape__names_are_as_documented(void **state)
{
    (void)state;
    expect_name("plain/key", "plain/key");
    expect_name("100%", "100%25");
    expect_name("%41", "%2541");
    expect_name("a//b", "a/%-/b");
    expect_name("/a", "%-/a");
    expect_name("a/", "a/%-");
    expect_name("", "%-");
    expect_name("./x", "%2E/x");
    expect_name("x/../y", "x/%2E%2E/y");
    expect_name("...", "...");
    expect_name(".hidden", ".hidden");
    expect_name(".penstock-lock", "%2Epenstock-lock");
}

static void test_escape__long_component_becomes_directories(void **state)
{
    char key[600], name[CLI_ESCAPED_MAX(600)];
    (void)state;
    memset(key, 'a', sizeof(key));
    assert_int_equal(cli_escape_key(pst_str_of(key, 253), name), 253);
    assert_int_equal(cli_escape_key(pst_str_of(key, 254), name), 254 + 3);
    assert_memory_equal(name + 251, "%+/aaa", 6);
    assert_int_equal(cli_escape_key(pst_str_of(key, 600), name), 600 + 2 * 3);
    /* A form is never cut: 250 bytes, then "%25", which does not fit 251. */
    key[250] = '%';
    assert_int_equal(cli_escape_key(pst_str_of(key, 300), name), 302 + 3);
    assert_memory_equal(name + 249, "a%+/%25a", 8);
}

static void test_unescape__reads_over_marks(void **state)
{
    char work[256];
    (void)state;
    expect_key("a%=", "a");
    expect_key("a%=/b%=/c", "a/b/c");
    expect_key("%-%=/x", "/x");
    assert_int_equal(cli_escape_unmark(text("a%=/b%=/c"), work), 5);
    assert_memory_equal(work, "a/b/c", 5);
}

static void test_unescape__refuses_what_escaping_never_makes(void **state)
{
    (void)state;
    expect_refused("%");
    expect_refused("100%");
    expect_refused("%41");
    expect_refused("%2f");
    expect_refused("%2F");
    expect_refused("%2Ex/%2Ey");
    expect_refused("a%2E");
    expect_refused("%00%");
    expect_refused("a%-");
    expect_refused("a%+/b");
    expect_refused("a%+");
    expect_refused("%=");
    expect_refused("a%=b");
    expect_refused("a//b");
    expect_refused("..");
    expect_refused(".penstock-tmp-x");
}

static void test_escape__random_keys_come_back(void **state)
{
    char key[KEY_MAX];
    uint64_t seed = 88172645463325252u;
    (void)state;

    for (int round = 0; round < ROUNDS; round++) {
        size_t key_len = make_key(&seed, key), name_len, back_len;
        char *name = escape(pst_str_of(key, key_len), &name_len);
        char *back = malloc(CLI_UNESCAPE_BYTES(name_len));
        check_legal(name, name_len);
        assert_non_null(back);
        assert_true(cli_unescape_key(pst_str_of(name, name_len), back, &back_len));
        assert_int_equal(back_len, key_len);
        assert_memory_equal(back, key, key_len);
        free(back);
        free(name);
    }
}

/* The other direction: any name that is accepted is, marks aside, the only one of its key. */
static void test_unescape__random_names_have_one_key_or_none(void **state)
{
    char name[KEY_MAX], plain[KEY_MAX];
    uint64_t seed = 1181783497276652981u;
    int n_accepted = 0;
    (void)state;

    for (int round = 0; round < ROUNDS; round++) {
        size_t name_len = make_key(&seed, name), key_len, again_len;
        char *key = malloc(CLI_UNESCAPE_BYTES(name_len) + 1);
        assert_non_null(key);
        if (cli_unescape_key(pst_str_of(name, name_len), key, &key_len)) {
            char *again = escape(pst_str_of(key, key_len), &again_len);
            assert_int_equal(again_len, cli_escape_unmark(pst_str_of(name, name_len), plain));
            assert_memory_equal(again, plain, again_len);
            free(again);
            n_accepted++;
        }
        free(key);
    }
    assert_in_range(n_accepted, ROUNDS / 100, ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escape__names_are_as_documented),
        cmocka_unit_test(test_escape__long_component_becomes_directories),
        cmocka_unit_test(test_unescape__reads_over_marks),
        cmocka_unit_test(test_unescape__refuses_what_escaping_never_makes),
        cmocka_unit_test(test_escape__random_keys_come_back),
        cmocka_unit_test(test_unescape__random_names_have_one_key_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
