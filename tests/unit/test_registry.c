#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <penstock/context.h>

#include "core/registry.h"
#include "core/static_plugins.h"
#include "scratch.h"
#include "torture.h"

/* The plugin that is linked into this program (plugins/plain.c with another id), and one that is
 * wrong. The table stands before the empty one of the library. */
static pst_rc open_broken(const pst_host *host, const pst_plugin **out, pst_error *err)
{
    (void)host;
    (void)out;
    (void)err;
    return PST_E_UNAVAILABLE;
}

pst_rc pst_plugin_open_1_built_in(const pst_host *host, const pst_plugin **out, pst_error *err);
const struct pst_static_plugin pst_static_plugins[] = {
    {"built_in", pst_plugin_open_1_built_in},
    {"broken", open_broken},
    {NULL, NULL},
};
enum { N_STATIC = 2 };

struct plain_calls { /* counted by plugins/plain.c */
    int entries, fork_children, shutdowns;
};
extern struct plain_calls plain_calls; /* of the one linked in */

static const pst_host host = {
    .struct_size = sizeof(host), .abi_major = PST_ABI_MAJOR, .abi_minor = PST_ABI_MINOR};

/* Those of a library that is mapped already. */
static struct plain_calls *calls_of(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    struct plain_calls *calls = NULL;

    if (library) {
        calls = dlsym(library, "plain_calls");
        dlclose(library);
    }
    assert_non_null(calls);
    return calls;
}

/* Install one of the unit plugins under a name of its own, with the manifest that it has. */
static const char *install(const char *dir, const char *plugin, const char *name)
{
    pst_error err = PST_ERROR_INIT;
    char file[64], *json;
    const char *library;

    snprintf(file, sizeof(file), "%s.so", name);
    library = scratch_path(dir, file);
    snprintf(file, sizeof(file), "%s.so", plugin);
    scratch_copy(scratch_path(UNIT_PLUGINS, file), library);
    if (pst_plugins_manifest(library, &json, &err) != PST_OK)
        fail_msg("%s", err.message);
    snprintf(file, sizeof(file), "%s.json", name);
    scratch_write(scratch_path(dir, file), json);
    free(json);
    return library;
}

/* Replace text in a manifest that was installed. */
static void tamper(const char *dir, const char *file, const char *from, const char *to)
{
    const char *path = scratch_path(dir, file);
    char text[8192], changed[8192];
    FILE *in = fopen(path, "re");

    assert_non_null(in);
    const size_t n = fread(text, 1, sizeof(text) - 1, in);
    fclose(in);
    text[n] = '\0';
    char *at = strstr(text, from);
    assert_non_null(at);
    *at = '\0';
    snprintf(changed, sizeof(changed), "%s%s%s", text, to, at + strlen(from));
    scratch_write(path, changed);
}

static struct pst_log silent;

static pst_rc try_new(const char *dir, const char *config_file, uint32_t flags,
                      struct pst_registry **out, pst_error *err)
{
    const char *const dirs[] = {dir, NULL};
    const struct pst_registry_config config = {
        .flags = flags | PST_CONTEXT_ONLY_DIRS,
        .plugin_dirs = dirs,
        .config_file = config_file,
        .host = &host,
        .log = &silent,
    };

    return pst_registry_new(&config, out, err);
}

static struct pst_registry *new_registry(const char *dir)
{
    pst_error err = PST_ERROR_INIT;
    struct pst_registry *registry;

    if (try_new(dir, NULL, 0, &registry, &err) != PST_OK)
        fail_msg("%s", err.message);
    return registry;
}

static const struct pst_loaded *find(struct pst_registry *registry, const char *scheme)
{
    pst_error err = PST_ERROR_INIT;
    const struct pst_loaded *loaded = NULL;

    if (pst_registry_find(registry, pst_str_of(scheme, strlen(scheme)), &loaded, &err) != PST_OK)
        fail_msg("%s", err.message);
    return loaded;
}

static void assert_find_fails(struct pst_registry *registry, const char *scheme, pst_rc expected,
                              const char *needle)
{
    pst_error err = PST_ERROR_INIT;
    const struct pst_loaded *loaded = NULL;

    assert_int_equal(pst_registry_find(registry, pst_str_of(scheme, strlen(scheme)), &loaded, &err),
                     expected);
    assert_int_equal(err.code, expected);
    if (!strstr(err.message, needle))
        fail_msg("'%s' is not in '%s'", needle, err.message);
    assert_null(strchr(err.message, '\n'));
}

static pst_plugin_info *info_of(pst_plugin_info *infos, size_t n, const char *file)
{
    for (size_t i = 0; i < n; i++) {
        const char *slash = strrchr(infos[i].manifest_path, '/');
        if (slash && strcmp(slash + 1, file) == 0)
            return &infos[i];
    }
    fail_msg("%s is not listed", file);
    return NULL;
}

static void assert_state(struct pst_registry *registry, const char *file, uint32_t expected,
                         const char *needle)
{
    pst_plugin_info *infos;
    size_t n;

    assert_int_equal(pst_registry_list(registry, &infos, &n, NULL), PST_OK);
    const pst_plugin_info *info = info_of(infos, n, file);
    assert_int_equal(info->state, expected);
    if (!strstr(info->reason, needle))
        fail_msg("'%s' is not in '%s'", needle, info->reason);
    if (!needle[0])
        assert_string_equal(info->reason, "");
    pst_plugins_free(infos);
}

/* ---- finding ---------------------------------------------------------------------------------- */

static void test_registry__loads_on_first_use_and_not_before(void **state)
{
    const char *dir = scratch_mkdir(*state, "p");
    const char *library = install(dir, "plain", "lazy");
    struct pst_registry *r = new_registry(dir);
    const int before = calls_of(library)->entries; /* the manifest was made by loading it */

    assert_state(r, "lazy.json", PST_PLUGIN_FOUND, "");
    const struct pst_loaded *loaded = find(r, "plain");
    assert_string_equal(loaded->id, "plain");
    assert_int_equal(calls_of(library)->entries, before + 1);
    assert_ptr_equal(find(r, "plain"), loaded);
    assert_ptr_equal(find(r, "pln"), loaded);
    assert_ptr_equal(find(r, "PLAIN"), loaded);
    assert_int_equal(calls_of(library)->entries, before + 1);
    assert_state(r, "lazy.json", PST_PLUGIN_LOADED, "");
    pst_registry_free(r);
}

static void test_registry__unknown_scheme_names_those_known_and_what_was_skipped(void **state)
{
    struct pst_registry *r;

    install(*state, "plain", "good");
    scratch_write(scratch_path(*state, "bad.json"), "{");
    r = new_registry(*state);
    assert_find_fails(r, "plan", PST_E_NO_SCHEME,
                      "no plugin serves 'plan' (did you mean 'plain'?); known");
    assert_find_fails(r, "s3", PST_E_NO_SCHEME, "known schemes: builtin, plain, pln");
    assert_find_fails(r, "s3", PST_E_NO_SCHEME, "skipped: built-in plugin broken: its entry");
    assert_find_fails(r, "s3", PST_E_NO_SCHEME, "bad.json: line 1");
    assert_find_fails(r, "", PST_E_NO_SCHEME, "no plugin serves ''");
    pst_registry_free(r);
}

static void test_registry__many_skipped_manifests_do_not_hide_the_cause(void **state)
{
    struct pst_registry *r;

    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof(name), "bad%02d.json", i);
        scratch_write(scratch_path(*state, name), "{");
    }
    r = new_registry(*state);
    assert_find_fails(r, "s3", PST_E_NO_SCHEME, "no plugin serves 's3'; known schemes: builtin");
    assert_find_fails(r, "s3", PST_E_NO_SCHEME, " and 37 more");
    pst_registry_free(r);
}

static void test_registry__first_of_an_id_wins_and_the_rest_is_shadowed(void **state)
{
    struct pst_registry *r;
    const char *first = install(*state, "plain", "a");

    install(*state, "plain", "b");
    r = new_registry(*state);
    assert_state(r, "a.json", PST_PLUGIN_FOUND, "");
    assert_state(r, "b.json", PST_PLUGIN_SHADOWED, "shadowed by ");
    assert_state(r, "b.json", PST_PLUGIN_SHADOWED, "/a.json");
    const int before = calls_of(first)->entries;
    (void)find(r, "plain");
    assert_int_equal(calls_of(first)->entries, before + 1);
    pst_registry_free(r);
}

static void test_registry__plugin_that_cannot_be_used_shadows_nobody(void **state)
{
    struct pst_registry *r;

    install(*state, "plain", "a");
    install(*state, "plain", "b");
    assert_int_equal(unlink(scratch_path(*state, "a.so")), 0);
    r = new_registry(*state);
    assert_state(r, "a.json", PST_PLUGIN_SKIPPED, "a.so: No such file");
    assert_state(r, "b.json", PST_PLUGIN_FOUND, "");
    pst_registry_free(r);
}

/* ---- loading ---------------------------------------------------------------------------------- */

static void test_registry__manifest_that_lies_is_refused(void **state)
{
    struct pst_registry *r;

    install(*state, "plain", "liar");
    tamper(*state, "liar.json", "\"1.2.3\"", "\"9.9.9\"");
    r = new_registry(*state);
    assert_find_fails(r, "plain", PST_E_BAD_PLUGIN, "liar.json says version '9.9.9', library");
    assert_find_fails(r, "plain", PST_E_BAD_PLUGIN, "liar.so says '1.2.3'");
    assert_state(r, "liar.json", PST_PLUGIN_SKIPPED, "says version '9.9.9'");
    pst_registry_free(r);
}

static void test_registry__plugin_refused_after_its_entry_ran_is_shut_down(void **state)
{
    const char *library = install(*state, "plain", "shut");
    struct pst_registry *r;

    tamper(*state, "shut.json", "\"stat\"", "\"put\"");
    r = new_registry(*state);
    const struct plain_calls *calls = calls_of(library);
    const int before = calls->shutdowns;
    assert_find_fails(r, "plain", PST_E_BAD_PLUGIN, "says capability stat 'no'");
    assert_int_equal(calls->shutdowns, before + 1);
    pst_registry_free(r);
    assert_int_equal(calls->shutdowns, before + 1);
}

static void test_registry__failed_plugin_stays_failed_for_the_same_reason(void **state)
{
    const char *library = scratch_path(*state, "cut.so");
    const char *made = scratch_mkdir(*state, "made"); /* elsewhere: what is mapped stays mapped */
    struct pst_registry *r;

    install(made, "plain", "cut");
    scratch_copy(scratch_path(made, "cut.json"), scratch_path(*state, "cut.json"));
    scratch_write(library, "cut");
    r = new_registry(*state);
    assert_state(r, "cut.json", PST_PLUGIN_FOUND, "");
    assert_find_fails(r, "plain", PST_E_BAD_PLUGIN, "cut.so: cannot be loaded");
    scratch_copy(scratch_path(made, "cut.so"), library);
    assert_find_fails(r, "plain", PST_E_BAD_PLUGIN, "cut.so: cannot be loaded");
    assert_state(r, "cut.json", PST_PLUGIN_SKIPPED, "cannot be loaded");
    pst_registry_free(r);
    r = new_registry(*state); /* another context looks again */
    (void)find(r, "plain");
    pst_registry_free(r);
}

static void test_registry__library_that_others_may_write_since_the_search_is_refused(void **state)
{
    pst_error err = PST_ERROR_INIT;
    const struct pst_loaded *loaded;
    struct pst_registry *r;
    const char *library = install(*state, "plain", "late");

    assert_int_equal(try_new(*state, NULL, PST_CONTEXT_STRICT, &r, &err), PST_OK);
    assert_state(r, "late.json", PST_PLUGIN_FOUND, "");
    assert_int_equal(chmod(library, 0666), 0);
    assert_int_equal(pst_registry_find(r, PST_STR("plain"), &loaded, &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, "late.so is writable by others (mode 0666)"));
    pst_registry_free(r);
}

struct racer {
    pthread_t thread;
    pthread_barrier_t *start;
    struct pst_registry *registry;
    const struct pst_loaded *loaded;
};

static void *race(void *arg)
{
    struct racer *racer = arg;

    pthread_barrier_wait(racer->start);
    if (pst_registry_find(racer->registry, PST_STR("plain"), &racer->loaded, NULL) != PST_OK)
        racer->loaded = NULL;
    pst_plugin_info *infos = NULL;
    size_t n;
    if (pst_registry_list(racer->registry, &infos, &n, NULL) == PST_OK)
        pst_plugins_free(infos);
    return NULL;
}

static void test_registry__threads_that_need_one_plugin_load_it_once(void **state)
{
    const char *library = install(*state, "plain", "raced");
    struct pst_registry *r = new_registry(*state);
    struct racer racers[8];
    pthread_barrier_t start;
    const int before = calls_of(library)->entries;

    assert_int_equal(pthread_barrier_init(&start, NULL, 8), 0);
    for (size_t i = 0; i < 8; i++) {
        racers[i] = (struct racer){.start = &start, .registry = r};
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
    for (size_t i = 0; i < 8; i++)
        assert_ptr_equal(racers[i].loaded, find(r, "plain"));
    assert_int_equal(calls_of(library)->entries, before + 1);
    pthread_barrier_destroy(&start);
    pst_registry_free(r);
}

static void test_registry__shutdown_runs_once_for_what_was_loaded(void **state)
{
    const char *library = install(*state, "plain", "ended");
    const struct plain_calls *calls = calls_of(library);
    const int before = calls->shutdowns;
    struct pst_registry *r = new_registry(*state);

    pst_registry_free(r); /* it was not loaded */
    assert_int_equal(calls->shutdowns, before);
    r = new_registry(*state);
    (void)find(r, "plain");
    pst_registry_free(r);
    assert_int_equal(calls->shutdowns, before + 1);
    pst_registry_free(NULL);
}

static void test_registry__fork_child_reaches_loaded_plugins_and_frees_the_locks(void **state)
{
    const char *library = install(*state, "plain", "forked");
    struct pst_registry *r = new_registry(*state);
    const struct plain_calls *calls = calls_of(library);
    const int before = calls->fork_children;

    pst_registry_fork_child(r);
    assert_int_equal(calls->fork_children, before);
    (void)find(r, "plain");
    pst_registry_fork_child(r);
    assert_int_equal(calls->fork_children, before + 1);
    (void)find(r, "plain");
    pst_registry_free(r);
}

static void test_registry__load_by_id_says_why_it_cannot(void **state)
{
    pst_error err = PST_ERROR_INIT;
    struct pst_registry *r;

    install(*state, "plain", "byid");
    r = new_registry(*state);
    assert_int_equal(pst_registry_load(r, "plan", &err), PST_E_NOT_FOUND);
    assert_string_equal(err.message, "there is no plugin 'plan', did you mean 'plain'?");
    assert_int_equal(pst_registry_load(r, "plain", &err), PST_OK);
    assert_state(r, "byid.json", PST_PLUGIN_LOADED, "");
    pst_registry_free(r);
    assert_int_equal(unlink(scratch_path(*state, "byid.so")), 0);
    r = new_registry(*state);
    assert_int_equal(pst_registry_load(r, "plain", &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, "byid.so: No such file"));
    pst_registry_free(r);
}

/* ---- linked in -------------------------------------------------------------------------------- */

static void test_registry__linked_in_plugins_come_first_and_are_loaded(void **state)
{
    const int before = plain_calls.entries;
    const int shutdowns = plain_calls.shutdowns;
    struct pst_registry *r = new_registry(*state);
    pst_plugin_info *infos;
    size_t n;

    assert_int_equal(plain_calls.entries, before + 1);
    assert_int_equal(pst_registry_list(r, &infos, &n, NULL), PST_OK);
    assert_int_equal(n, N_STATIC);
    assert_int_equal(infos[0].state, PST_PLUGIN_STATIC);
    assert_string_equal(infos[0].id, "builtin");
    assert_string_equal(infos[0].manifest_path, "");
    assert_string_equal(infos[0].library_path, "");
    assert_string_equal(infos[0].schemes, "builtin");
    assert_int_equal(infos[1].state, PST_PLUGIN_SKIPPED);
    assert_string_equal(infos[1].id, "broken");
    assert_non_null(strstr(infos[1].reason, "its entry answers unavailable"));
    pst_plugins_free(infos);
    assert_string_equal(find(r, "builtin")->id, "builtin");
    pst_registry_free(r);
    assert_int_equal(plain_calls.entries, before + 1);
    assert_int_equal(plain_calls.shutdowns, shutdowns + 1);
}

static void test_registry__linked_in_plugin_shadows_a_manifest_of_its_id(void **state)
{
    struct pst_registry *r;

    install(*state, "plain", "m");
    tamper(*state, "m.json", "\"id\": \"plain\"", "\"id\": \"builtin\"");
    r = new_registry(*state);
    assert_state(r, "m.json", PST_PLUGIN_SHADOWED, "shadowed by the built-in plugin built_in");
    pst_registry_free(r);
}

/* ---- options ---------------------------------------------------------------------------------- */

static void test_registry__options_are_listed_with_value_and_source(void **state)
{
    const char *config = scratch_path(*state, "config");
    pst_error err = PST_ERROR_INIT;
    struct pst_registry *r;
    pst_config_entry *entries;
    size_t n;

    install(*state, "plain", "listed");
    scratch_write(config, "{\"plain\": {\"mode\": \"safe\", \"token\": \"hunter2\"}, \"absent\": "
                          "{\"x\": 1}}");
    setenv("PLAIN_PART", "2MiB", 1);
    pst_rc rc = try_new(*state, config, 0, &r, &err);
    if (rc != PST_OK)
        fail_msg("%s", err.message);
    assert_int_equal(pst_registry_config_list(r, "plain", &entries, &n, &err), PST_OK);
    assert_int_equal(n, 4);
    assert_string_equal(entries[0].plugin, "plain");
    assert_string_equal(entries[0].option, "part_size");
    assert_string_equal(entries[0].value, "2097152");
    assert_int_equal(entries[0].source, PST_SOURCE_ENVIRONMENT);
    assert_string_equal(entries[0].detail, "PLAIN_PART");
    assert_string_equal(entries[0].doc, "Bytes in a part");
    assert_string_equal(entries[0].type, "size");
    assert_string_equal(entries[1].value, "(secret)");
    assert_int_equal(entries[1].source, PST_SOURCE_FILE);
    assert_string_equal(entries[1].detail, config);
    assert_string_equal(entries[2].value, "safe");
    assert_string_equal(entries[3].value, "");
    assert_int_equal(entries[3].source, PST_SOURCE_DEFAULT);
    pst_config_free(entries);
    assert_int_equal(pst_registry_config_list(r, NULL, &entries, &n, &err), PST_OK);
    assert_int_equal(n, 8); /* of the one that is linked in, too */
    pst_config_free(entries);
    assert_int_equal(pst_registry_config_list(r, "plane", &entries, &n, &err), PST_E_NOT_FOUND);
    assert_state(r, "listed.json", PST_PLUGIN_FOUND, ""); /* and it was not loaded for that */
    unsetenv("PLAIN_PART");
    pst_registry_free(r);
}

static void test_registry__config_file_is_checked_when_the_context_is_made(void **state)
{
    const char *config = scratch_path(*state, "config");
    pst_error err = PST_ERROR_INIT;
    struct pst_registry *r = (struct pst_registry *)1;

    install(*state, "plain", "checked");
    scratch_write(config, "{\"plain\": {\"mdoe\": \"safe\"}}");
    assert_int_equal(try_new(*state, config, 0, &r, &err), PST_E_INVALID);
    assert_null(r);
    assert_non_null(strstr(err.message, "did you mean 'mode'?"));
    assert_int_equal(try_new(*state, scratch_path(*state, "none"), 0, &r, &err), PST_E_INVALID);
    assert_non_null(strstr(err.message, "config file "));
}

static void test_registry__config_file_of_the_environment_may_be_ignored(void **state)
{
    const char *config = scratch_path(*state, "config");
    pst_error err = PST_ERROR_INIT;
    struct pst_registry *r;

    scratch_write(config, "not JSON");
    setenv("PENSTOCK_CONFIG", config, 1);
    assert_int_equal(try_new(*state, NULL, 0, &r, &err), PST_E_INVALID);
    assert_non_null(strstr(err.message, config));
    assert_int_equal(try_new(*state, NULL, PST_CONTEXT_NO_ENVIRONMENT, &r, &err), PST_OK);
    pst_registry_free(r);
    setenv("PENSTOCK_CONFIG", "", 1);
    assert_int_equal(try_new(*state, NULL, 0, &r, &err), PST_OK);
    pst_registry_free(r);
    unsetenv("PENSTOCK_CONFIG");
}

static void test_registry__resolves_options_for_a_store(void **state)
{
    const pst_kv given[] = {{PST_STR("mode"), PST_STR("safe")}};
    const pst_kv unknown[] = {{PST_STR("mod"), PST_STR("safe")}};
    pst_error err = PST_ERROR_INIT;
    struct pst_resolved resolved;
    struct pst_registry *r;

    install(*state, "plain", "resolved");
    r = new_registry(*state);
    assert_int_equal(pst_registry_resolve(r, find(r, "plain"), given, 1, &resolved, &err), PST_OK);
    assert_int_equal(resolved.n, 2);
    assert_string_equal(resolved.kv[0].value.ptr, "8388608");
    assert_string_equal(resolved.kv[1].value.ptr, "safe");
    assert_string_equal(resolved.identity, "part_size=7:8388608\nmode=4:safe\n");
    pst_resolved_fini(&resolved);
    assert_int_equal(pst_registry_resolve(r, find(r, "plain"), unknown, 1, &resolved, &err),
                     PST_E_INVALID);
    assert_non_null(strstr(err.message, "did you mean 'mode'?"));
    pst_registry_free(r);
}

/* ---- no memory -------------------------------------------------------------------------------- */

/* All that a context asks of its registry. */
static pst_rc use_everything(const char *dir, const char *config)
{
    const pst_kv given[] = {{PST_STR("mode"), PST_STR("safe")}};
    struct pst_registry *r = NULL;
    const struct pst_loaded *loaded;
    struct pst_resolved resolved;
    pst_plugin_info *infos = NULL;
    pst_config_entry *entries = NULL;
    size_t n;
    pst_rc rc = try_new(dir, config, 0, &r, NULL);

    if (rc == PST_OK)
        rc = pst_registry_list(r, &infos, &n, NULL);
    if (rc == PST_OK)
        rc = pst_registry_config_list(r, NULL, &entries, &n, NULL);
    if (rc == PST_OK)
        rc = pst_registry_find(r, PST_STR("plain"), &loaded, NULL);
    if (rc == PST_OK)
        rc = pst_registry_resolve(r, loaded, given, 1, &resolved, NULL);
    if (rc == PST_OK)
        pst_resolved_fini(&resolved);
    pst_plugins_free(infos);
    pst_config_free(entries);
    pst_registry_free(r);
    return rc;
}

static void test_registry__survives_every_failed_allocation(void **state)
{
    const char *config = scratch_path(*state, "config");
    unsigned n = 1;

    install(*state, "plain", "a");
    install(*state, "plain", "b");
    scratch_write(config, "{\"plain\": {\"old\": true}}");
    assert_int_equal(use_everything(*state, config), PST_OK);
    const long before = torture_live();
    for (;; n++) {
        torture_arm(n);
        pst_rc rc = use_everything(*state, config);
        if (!torture_disarm()) {
            assert_int_equal(rc, PST_OK);
            break;
        }
        if (rc != PST_E_NO_MEMORY)
            fail_msg("allocation %u: %s", n, pst_rc_name(rc));
        assert_int_equal(torture_live(), before);
    }
    assert_true(n > 100);
}

static void test_registry__lack_of_memory_is_forgotten(void **state)
{
    const struct pst_loaded *loaded;
    struct pst_registry *r;

    install(*state, "plain", "again");
    r = new_registry(*state);
    torture_arm(1);
    assert_int_equal(pst_registry_find(r, PST_STR("plain"), &loaded, NULL), PST_E_NO_MEMORY);
    assert_true(torture_disarm());
    assert_string_equal(find(r, "plain")->id, "plain");
    pst_registry_free(r);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_registry__loads_on_first_use_and_not_before),
        TEST(test_registry__unknown_scheme_names_those_known_and_what_was_skipped),
        TEST(test_registry__many_skipped_manifests_do_not_hide_the_cause),
        TEST(test_registry__first_of_an_id_wins_and_the_rest_is_shadowed),
        TEST(test_registry__plugin_that_cannot_be_used_shadows_nobody),
        TEST(test_registry__manifest_that_lies_is_refused),
        TEST(test_registry__plugin_refused_after_its_entry_ran_is_shut_down),
        TEST(test_registry__failed_plugin_stays_failed_for_the_same_reason),
        TEST(test_registry__library_that_others_may_write_since_the_search_is_refused),
        TEST(test_registry__threads_that_need_one_plugin_load_it_once),
        TEST(test_registry__shutdown_runs_once_for_what_was_loaded),
        TEST(test_registry__fork_child_reaches_loaded_plugins_and_frees_the_locks),
        TEST(test_registry__load_by_id_says_why_it_cannot),
        TEST(test_registry__linked_in_plugins_come_first_and_are_loaded),
        TEST(test_registry__linked_in_plugin_shadows_a_manifest_of_its_id),
        TEST(test_registry__options_are_listed_with_value_and_source),
        TEST(test_registry__config_file_is_checked_when_the_context_is_made),
        TEST(test_registry__config_file_of_the_environment_may_be_ignored),
        TEST(test_registry__resolves_options_for_a_store),
        TEST(test_registry__survives_every_failed_allocation),
        TEST(test_registry__lack_of_memory_is_forgotten),
    };

    torture_jansson();
    umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
