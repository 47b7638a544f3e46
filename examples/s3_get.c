/* s3_get.c - an S3 store inside a program that has keys of its own, and keeps everybody else's out.
 *
 *   s3_get https://store.example:9000 KEYS s3://bucket/key >object
 *
 * KEYS is a file with the access key in its first line and the secret in the second. The environment, the
 * configuration of whoever runs this and the metadata service of the machine play no part: what is not
 * said here is not so. */
#include <stdio.h>
#include <string.h>

#include <penstock/penstock.h>

enum { LINE_BYTES = 256, READ_BYTES = 1 << 20, N_OPTIONS = 4 };

static pst_kv option(const char *name, const char *value)
{
    pst_kv kv = {pst_str_of(name, strlen(name)), pst_str_of(value, strlen(value))};
    return kv;
}

/* One line, without its end. */
static int read_line(FILE *f, char line[LINE_BYTES])
{
    if (!fgets(line, LINE_BYTES, f))
        return 0;
    line[strcspn(line, "\r\n")] = '\0';
    return line[0] != '\0';
}

static int read_keys(const char *path, char access_key[LINE_BYTES], char secret_key[LINE_BYTES])
{
    FILE *f = fopen(path, "r");
    int is_read = f && read_line(f, access_key) && read_line(f, secret_key);

    if (!is_read)
        fprintf(stderr, "s3_get: %s does not hold two lines\n", path);
    if (f)
        fclose(f);
    return is_read;
}

/* Of any size, in bounded memory, and all of it of one version of the object. */
static pst_rc copy_out(pst_store *store, pst_str key, pst_error *err)
{
    static char bytes[READ_BYTES];
    pst_reader *reader = NULL;
    size_t n = 0;
    pst_rc rc = pst_reader_open(store, key, 0, PST_UNKNOWN, NULL, NULL, &reader, err);

    while (rc == PST_OK) {
        rc = pst_reader_read(reader, bytes, sizeof bytes, &n, err);
        if (rc != PST_OK || n == 0)
            break;
        if (fwrite(bytes, 1, n, stdout) != n) {
            fprintf(stderr, "s3_get: cannot write\n");
            rc = PST_E_IO;
        }
    }
    pst_reader_free(reader);
    return rc;
}

int main(int argc, char **argv)
{
    pst_error err = PST_ERROR_INIT;
    pst_context_options settings = {.struct_size = sizeof settings,
                                    .flags = PST_CONTEXT_NO_ENVIRONMENT};
    char access_key[LINE_BYTES], secret_key[LINE_BYTES];
    pst_context *context = NULL;
    pst_store *store = NULL;
    pst_uri uri;
    pst_rc rc;

    if (argc != 4) {
        fprintf(stderr, "usage: s3_get ENDPOINT KEYS S3_URI\n");
        return 2;
    }
    if (!read_keys(argv[2], access_key, secret_key))
        return 2;
    /* Never a part of a URI: those end up in logs. The store keeps what it needs of them. */
    const pst_kv options[N_OPTIONS] = {
        option("endpoint", argv[1]),
        option("region", "us-east-1"),
        option("access_key_id", access_key),
        option("secret_access_key", secret_key),
    };
    pst_str text = pst_str_of(argv[3], strlen(argv[3]));
    if ((rc = pst_uri_parse(text, &uri, &err)) == PST_OK &&
        (rc = pst_context_new(&settings, &context, &err)) == PST_OK &&
        (rc = pst_store_open(context, text, options, N_OPTIONS, &store, &err)) == PST_OK)
        rc = copy_out(store, uri.key, &err);
    memset(secret_key, 0, sizeof secret_key);
    if (rc != PST_OK && err.message[0])
        fprintf(stderr, "s3_get: %s\n", err.message);
    pst_store_free(store);
    pst_context_free(context);
    return rc == PST_OK ? 0 : pst_rc_exit_code(rc);
}
