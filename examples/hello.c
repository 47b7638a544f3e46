/* hello.c - a store, an object, and back: one blocking call each.
 *
 *   hello file:///tmp/store/            writes hello.txt there, reads it, lists it, deletes it
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <penstock/penstock.h>

static pst_rc say_hello(pst_store *store, pst_str prefix, pst_error *err)
{
    static char text[] = "Hello, object store!\n";
    char name[1024];
    int n = snprintf(name, sizeof name, "%.*shello.txt", (int)prefix.len, prefix.ptr);
    pst_str key = pst_str_of(name, (size_t)n);
    pst_buffer *buffer = NULL;
    pst_list *list = NULL;
    const pst_entry *entry = NULL;
    pst_rc rc = PST_OK;

    if (n < 0 || (size_t)n >= sizeof name) {
        fprintf(stderr, "hello: the prefix is too long\n");
        return PST_E_INVALID;
    }
    /* Readers see the whole object or none. */
    pst_iov src = {.ptr = text, .len = strlen(text)};
    if ((rc = pst_put(store, key, &src, 1, NULL, NULL, NULL, err)) != PST_OK)
        goto out;
    /* The first reply tells the size, so the buffer is exactly as large as the object. */
    if ((rc = pst_get(store, key, NULL, NULL, &buffer, NULL, err)) != PST_OK)
        goto out;
    fwrite(pst_buffer_data(buffer), 1, pst_buffer_size(buffer), stdout);

    if ((rc = pst_list_open(store, prefix, NULL, &list, err)) != PST_OK)
        goto out;
    while ((rc = pst_list_next(list, NULL, &entry, err)) == PST_OK && entry != NULL)
        printf("%10" PRIu64 "  %.*s\n", entry->size, (int)entry->key.len, entry->key.ptr);
    if (rc == PST_OK)
        rc = pst_delete(store, key, NULL, NULL, err);
out:
    pst_list_free(list);
    pst_buffer_unref(buffer);
    return rc;
}

int main(int argc, char **argv)
{
    pst_error err = PST_ERROR_INIT;
    pst_context *context = NULL;
    pst_store *store = NULL;
    pst_uri uri;
    pst_rc rc;

    if (argc != 2) {
        fprintf(stderr, "usage: hello STORE_URI\n");
        return 2;
    }
    pst_str text = pst_str_of(argv[1], strlen(argv[1]));
    if ((rc = pst_uri_parse(text, &uri, &err)) == PST_OK &&
        (rc = pst_context_new(NULL, &context, &err)) == PST_OK &&
        (rc = pst_store_open(context, text, NULL, 0, &store, &err)) == PST_OK)
        rc = say_hello(store, uri.key, &err);
    if (rc != PST_OK)
        fprintf(stderr, "hello: %s\n", err.message);
    pst_store_free(store); /* NULL is allowed in every _free */
    pst_context_free(context);
    return rc == PST_OK ? 0 : pst_rc_exit_code(rc);
}
