/* roundtrip.c - a host as small as they come: puts an object into a file:// store and reads it back.
 *
 *   roundtrip DIRECTORY [PLUGIN_DIRECTORY]
 *
 * Built against the installed package in every way that the package promises. Plugins are found
 * beside libpenstock.so; a static host names their directory.
 */
#include <stdio.h>
#include <string.h>

#include <penstock/penstock.h>

static int roundtrip(pst_store *store, pst_str key, pst_error *err)
{
    static char text[] = "from the installed package";
    pst_iov src = {text, sizeof text};
    pst_buffer *buffer = NULL;
    int same = 0;

    if (pst_put(store, key, &src, 1, NULL, NULL, NULL, err) != PST_OK)
        return 0;
    if (pst_get(store, key, NULL, NULL, &buffer, NULL, err) != PST_OK)
        return 0;
    same = pst_buffer_size(buffer) == sizeof text &&
           memcmp(pst_buffer_data(buffer), text, sizeof text) == 0;
    pst_buffer_unref(buffer);
    return same;
}

int main(int argc, char **argv)
{
    const char *dirs[] = {argc > 2 ? argv[2] : NULL, NULL};
    pst_context_options options = {.struct_size = sizeof options, .plugin_dirs = dirs};
    pst_error err = PST_ERROR_INIT;
    pst_context *context = NULL;
    pst_store *store = NULL;
    pst_uri uri;
    char text[4096];
    int exit_code = 1;

    if (argc < 2)
        return 2;
    int len = snprintf(text, sizeof text, "file://%s/key", argv[1]);
    pst_str whole = pst_str_of(text, (size_t)len);
    if (pst_uri_parse(whole, &uri, &err) != PST_OK ||
        pst_context_new(&options, &context, &err) != PST_OK ||
        pst_store_open(context, whole, NULL, 0, &store, &err) != PST_OK)
        goto out;
    if (roundtrip(store, uri.key, &err)) {
        printf("penstock %s: round trip ok\n", pst_version());
        exit_code = 0;
    }
out:
    if (exit_code != 0)
        fprintf(stderr, "roundtrip: %s\n", err.message);
    pst_store_free(store);
    pst_context_free(context);
    return exit_code;
}
