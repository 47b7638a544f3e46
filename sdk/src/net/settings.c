/* The settings of a client: defaults, environment, and how libcurl is told.
 *
 * Everything is decided once, when the client is made: libcurl would read the environment again for
 * every request. The names are those that curl and OpenSSL know: SSL_CERT_FILE and SSL_CERT_DIR;
 * http_proxy (in small letters only: HTTP_PROXY is what a CGI program gets from a client's header),
 * https_proxy, all_proxy and no_proxy in either case. None is read for a host that says so, nor where the
 * process runs with raised privileges; libcurl is always given a value, be it empty, so that it looks for
 * none by itself.
 *
 * A CA file is given without a CA directory wherever there is a choice: only then does libcurl keep
 * the parsed certificates from one connection to the next.
 *
 * A libcurl that was compiled without a place for certificates, as the one in the Python wheel is, gets
 * the file of the distribution that this turns out to be; where there is none, the first failure of TLS
 * says so and names all places.
 *
 * Nothing is opened here. A file that is missing shows in the first request, with its name. */
#include "net/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/net.h"

#define CONNECT_TIMEOUT_MS 10000u
#define STALL_TIMEOUT_MS 30000u
#define MAX_CONNECTIONS 256u
#define UNIX_SOCKET_MAX 107u /* sun_path without its NUL */
/* Measured: 128 KiB costs 2 % more per byte than 512 KiB on large bodies, and a loop may have 128. */
#define RECEIVE_BUFFER_BYTES (128L * 1024)
#define SEND_BUFFER_BYTES (512L * 1024)
#define CA_CACHE_S (24L * 3600)

static char *dup_or_null(pst_str s)
{
    return s.len > 0 ? strndup(s.ptr, s.len) : NULL;
}

/* "" where it is not set, or not to be read: a process with raised privileges obeys none. */
static const char *environment(int reads_environment, const char *small, const char *capital)
{
    const char *value = reads_environment ? secure_getenv(small) : NULL;
    if (reads_environment && !value && capital)
        value = secure_getenv(capital);
    return value ? value : "";
}

/* NO_PROXY goes before a proxy that is given. */
static char *choose_proxy(const pst_http_config *config, int reads_environment, const char *small,
                          const char *capital)
{
    if (config->flags & PST_HTTP_NO_PROXY)
        return strdup("");
    if (config->proxy.len > 0)
        return strndup(config->proxy.ptr, config->proxy.len);
    const char *value = environment(reads_environment, small, capital);
    return strdup(*value ? value : environment(reads_environment, "all_proxy", "ALL_PROXY"));
}

static const char *find_ca_file(void)
{
    static const char *const files[] = {PST_CA_DEBIAN, PST_CA_RHEL, PST_CA_SUSE, PST_CA_ALPINE};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (access(files[i], R_OK) == 0)
            return files[i];
    }
    return NULL;
}

/* Which certificates to trust: the configuration's, the environment's, libcurl's own, the system's. */
static int choose_ca(struct pst_net_settings *s, const pst_http_config *config,
                     int reads_environment)
{
    const curl_version_info_data *version = curl_version_info(CURLVERSION_NOW);
    const char *file = environment(reads_environment, "SSL_CERT_FILE", NULL);
    const char *dir = environment(reads_environment, "SSL_CERT_DIR", NULL);
    if (config->ca_file.len > 0 || config->ca_dir.len > 0) {
        s->ca_file = dup_or_null(config->ca_file);
        s->ca_dir = dup_or_null(config->ca_dir);
        return (s->ca_file || config->ca_file.len == 0) && (s->ca_dir || config->ca_dir.len == 0);
    }
    if (!*file && !*dir) {
        file = version->cainfo;
        dir = file ? NULL : version->capath;
        if (!file && !dir) {
            file = find_ca_file();
            s->has_no_ca = !file;
        }
    }
    if (file && *file && !(s->ca_file = strdup(file)))
        return 0;
    return !dir || !*dir || (s->ca_dir = strdup(dir)) != NULL;
}

static const char *find_bad(const pst_http_config *c)
{
    const struct {
        const char *name;
        const pst_str *value;
    } strings[] = {
        {"user_agent", &c->user_agent},   {"ca_file", &c->ca_file},         {"ca_dir", &c->ca_dir},
        {"client_cert", &c->client_cert}, {"client_key", &c->client_key},   {"proxy", &c->proxy},
        {"no_proxy", &c->no_proxy},       {"unix_socket", &c->unix_socket},
    };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        for (size_t k = 0; k < strings[i].value->len; k++) {
            const unsigned char byte = (unsigned char)strings[i].value->ptr[k];
            if (byte < ' ' || byte == 0x7f)
                return strings[i].name;
        }
    }
    if (c->unix_socket.len > UNIX_SOCKET_MAX)
        return "unix_socket (longer than 107 bytes)";
    if (c->client_key.len > 0 && c->client_cert.len == 0)
        return "client_key (without client_cert)";
    return NULL;
}

static char *make_agent(pst_str agent)
{
    const size_t size = sizeof("penstock/" PENSTOCK_VERSION " ") + agent.len;
    char *text = malloc(size);
    if (text && agent.len > 0)
        snprintf(text, size, "penstock/" PENSTOCK_VERSION " %.*s", (int)agent.len, agent.ptr);
    else if (text)
        snprintf(text, size, "penstock/" PENSTOCK_VERSION);
    return text;
}

pst_rc pst_net_settings_init(struct pst_net_settings *s, const pst_http_config *c,
                             int reads_environment, pst_error *err)
{
    const char *bad = find_bad(c);
    memset(s, 0, sizeof(*s));
    if (bad) {
        char message[128];
        snprintf(message, sizeof(message), "http/1: %s cannot be used", bad);
        return pst_net_fail(err, PST_E_INVALID, message);
    }
    s->has_wire = !(c->flags & PST_HTTP_LIBCURL);
    s->user_agent = make_agent(c->user_agent);
    s->http_proxy = choose_proxy(c, reads_environment, "http_proxy", NULL);
    s->https_proxy = choose_proxy(c, reads_environment, "https_proxy", "HTTPS_PROXY");
    s->no_proxy = c->no_proxy.len > 0
                      ? strndup(c->no_proxy.ptr, c->no_proxy.len)
                      : strdup(environment(reads_environment, "no_proxy", "NO_PROXY"));
    s->client_cert = dup_or_null(c->client_cert);
    s->client_key = dup_or_null(c->client_key);
    s->unix_socket = dup_or_null(c->unix_socket);
    s->connect_timeout_ms = c->connect_timeout_ms ? c->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    s->stall_timeout_ms = c->stall_timeout_ms ? c->stall_timeout_ms : STALL_TIMEOUT_MS;
    s->max_connections = c->max_connections ? c->max_connections : MAX_CONNECTIONS;
    if (!choose_ca(s, c, reads_environment) || !s->user_agent || !s->http_proxy ||
        !s->https_proxy || !s->no_proxy || (!s->client_cert && c->client_cert.len > 0) ||
        (!s->client_key && c->client_key.len > 0) || (!s->unix_socket && c->unix_socket.len > 0)) {
        pst_net_settings_fini(s);
        return pst_net_fail(err, PST_E_NO_MEMORY, "http/1: out of memory");
    }
    return PST_OK;
}

static void wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void pst_net_settings_fini(struct pst_net_settings *s)
{
    free(s->user_agent);
    free(s->ca_file);
    free(s->ca_dir);
    free(s->client_cert);
    free(s->client_key);
    wipe(s->http_proxy);
    wipe(s->https_proxy);
    free(s->no_proxy);
    free(s->unix_socket);
    memset(s, 0, sizeof(*s));
}

const char *pst_settings_proxy(const struct pst_net_settings *s, int is_https)
{
    return s->unix_socket ? "" : is_https ? s->https_proxy : s->http_proxy;
}

int pst_settings_apply(const struct pst_net_settings *s, int is_https, CURL *easy)
{
    CURLcode rc = CURLE_OK;
#define SET(option, value) (rc = rc ? rc : curl_easy_setopt(easy, CURLOPT_##option, (value)))
    SET(PROTOCOLS_STR, "http,https");
    SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(NOSIGNAL, 1L);
    SET(PATH_AS_IS, 1L);
    SET(BUFFERSIZE, RECEIVE_BUFFER_BYTES);
    SET(UPLOAD_BUFFERSIZE, SEND_BUFFER_BYTES);
    SET(TCP_KEEPALIVE, 1L);
    SET(DNS_SHUFFLE_ADDRESSES, 1L);
    SET(SUPPRESS_CONNECT_HEADERS, 1L);
    /* Else a cancel waits for the resolver's thread, for as long as that likes. */
    SET(QUICK_EXIT, 1L);
    SET(CONNECTTIMEOUT_MS, (long)s->connect_timeout_ms);
    SET(USERAGENT, s->user_agent);
    SET(PROXY, pst_settings_proxy(s, is_https));
    SET(NOPROXY, s->no_proxy);
    SET(UNIX_SOCKET_PATH, s->unix_socket);
    SET(PROXY_CAINFO, s->ca_file); /* a proxy may speak TLS for either */
    SET(PROXY_CAPATH, s->ca_dir);
    if (is_https) {
        SET(CAINFO, s->ca_file);
        SET(CAPATH, s->ca_dir);
        SET(CA_CACHE_TIMEOUT, CA_CACHE_S);
        SET(SSLCERT, s->client_cert);
        SET(SSLKEY, s->client_key ? s->client_key : s->client_cert);
    }
#undef SET
    return rc == CURLE_OK;
}
