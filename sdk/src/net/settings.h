/* settings.h - the configuration of a client, as libcurl wants it. */
#ifndef PST_NET_SETTINGS_H
#define PST_NET_SETTINGS_H

#include <curl/curl.h>

#include <penstock/services.h>

/* Where distributions keep the certificates that they trust. */
#define PST_CA_DEBIAN "/etc/ssl/certs/ca-certificates.crt"
#define PST_CA_RHEL "/etc/pki/tls/certs/ca-bundle.crt"
#define PST_CA_SUSE "/etc/ssl/ca-bundle.pem"
#define PST_CA_ALPINE "/etc/ssl/cert.pem"

struct pst_net_settings {
    char *user_agent;
    char *ca_file, *ca_dir; /* NULL: none */
    int has_no_ca;          /* nobody named one, and none was found */
    char *client_cert, *client_key;
    char *http_proxy, *https_proxy; /* "" for none */
    char *no_proxy;
    char *unix_socket;
    int has_wire; /* requests may go the way of wire.h */
    uint32_t connect_timeout_ms, stall_timeout_ms, max_connections;
};

/* Copy, and complete from the environment if that may be read. Errors: INVALID naming the setting,
 * NO_MEMORY. */
pst_rc pst_net_settings_init(struct pst_net_settings *settings, const pst_http_config *config,
                             int reads_environment, pst_error *err);
/* Proxies may contain a password: wiped. */
void pst_net_settings_fini(struct pst_net_settings *settings);

/* Set a handle up for requests of this client. Returns 0 if libcurl refuses. */
int pst_settings_apply(const struct pst_net_settings *settings, int is_https, CURL *easy);

/* The proxy that requests of this scheme may go through, "" for none. */
const char *pst_settings_proxy(const struct pst_net_settings *settings, int is_https);

#endif
