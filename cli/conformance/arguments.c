/* arguments.c - the command line of the kit, and its quirks file. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kit_fault.h"

static const char usage_text[] =
    "usage: penstock conformance PLUGIN --uri SCHEME://AUTHORITY/PREFIX/ [options]\n"
    "       penstock conformance serve-faults FILE\n"
    "\n"
    "Check a plugin against every requirement of docs/conformance.md. PLUGIN is the path of a "
    "shared\n"
    "object. Prints TAP; exits with 0 only if every requirement was met.\n"
    "\n"
    "  --uri URI              where to test; everything it writes lies below the prefix\n"
    "  --profile ro|rw|full   ro only reads what is there, rw writes, full does everything\n"
    "                         (default: full)\n"
    "  --only ID              only this requirement, or a group (PST-READ); may be repeated\n"
    "  -o NAME=VALUE          an option of the plugin; may be repeated\n"
    "  --quirks FILE          JSON object of accepted deviations: {\"PST-LIST-004\": \"reason\"}\n"
    "  --faults FILE          also the groups HTTP and FAULT, on a server that the FILE declares\n"
    "                         (docs/fault-server.md); {fault} in options is its address\n"
    "  --json FILE            write the results as JSON\n"
    "  --junit FILE           write the results as JUnit XML\n"
    "  --timeout SECONDS      for each requirement (default: 60)\n"
    "  --list                 print the requirements and stop\n"
    "  --help                 print this and stop\n"
    "\n"
    "serve-faults runs the fault server on a declaration of its own (docs/fault-server.md).\n";

int k_usage(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    (void)fprintf(stderr, "penstock: conformance: ");
    (void)vfprintf(stderr, format, ap);
    (void)fprintf(stderr, "; see penstock conformance --help\n");
    va_end(ap);
    return 2;
}

static int print_help(void)
{
    (void)fputs(usage_text, stdout);
    return 0;
}

static int print_list(void)
{
    k_print_list();
    return 0;
}

static int print_markdown(void)
{
    k_print_markdown();
    return 0;
}

/* The URI is known: from the command line, or from the declaration. */
int k_place_run(struct k_run *run)
{
    struct k_config *c = &run->config;
    const char *text = run->uri;
    if (!text && c->faults)
        text = json_string_value(
            json_object_get(json_object_get(c->faults->declaration, "kit"), "uri"));
    if (!text)
        return k_usage("needs --uri");
    const char *colon = strstr(text, "://");
    if (!colon || colon == text)
        return k_usage("--uri must be SCHEME://AUTHORITY/PREFIX/, not %s", text);
    c->scheme = (char *)k_alloc((size_t)(colon - text) + 1);
    memcpy(c->scheme, text, (size_t)(colon - text));
    const char *authority = colon + 3;
    const char *slash = strchr(authority, '/');
    size_t authority_len = slash ? (size_t)(slash - authority) : strlen(authority);
    c->authority = pst_str_of(authority, authority_len);
    c->prefix = slash ? k_text(slash + 1) : pst_str_of("", 0);
    if (c->prefix.len > 0 && c->prefix.ptr[c->prefix.len - 1] != '/')
        return k_usage("the prefix of --uri must end in '/': %s", text);
    if (c->prefix.len > 300)
        return k_usage("the prefix of --uri must have at most 300 bytes");
    return 0;
}

static int find_plugin(struct k_run *run)
{
    struct k_config *config = &run->config;
    if (strncmp(config->path, "static:", 7) == 0) {
        for (size_t i = 0; i < k_n_static; i++)
            if (strcmp(k_static[i].name, config->path + 7) == 0)
                config->linked = k_static[i].entry;
        return config->linked ? 0 : k_usage("no plugin is linked in as %s", config->path + 7);
    }
    /* dlopen takes a name without a slash for one to be searched; a path is what was meant. */
    run->path = realpath(config->path, NULL);
    if (!run->path)
        return k_usage("cannot find %s", config->path);
    config->path = run->path;
    return 0;
}

static bool is_known(const char *id)
{
    for (size_t i = 0; i < k_n_requirements; i++) {
        size_t group_len = strlen("PST-") + strlen(k_requirements[i].group);
        if (strcmp(id, k_requirements[i].id) == 0 ||
            (strlen(id) == group_len && strncmp(id, k_requirements[i].id, group_len) == 0))
            return true;
    }
    return false;
}

static int load_quirks(struct k_run *run)
{
    json_error_t error;
    const char *id;
    json_t *reason;
    if (!run->quirks_path)
        return 0;
    run->quirks = json_load_file(run->quirks_path, JSON_REJECT_DUPLICATES, &error);
    if (!run->quirks)
        return k_usage("%s:%d: %s", run->quirks_path, error.line, error.text);
    if (!json_is_object(run->quirks))
        return k_usage("%s: must be an object of requirement and reason", run->quirks_path);
    json_object_foreach(run->quirks, id, reason)
    {
        if (!is_known(id) || !json_is_string(reason) || json_string_length(reason) == 0)
            return k_usage("%s: %s: needs a requirement's id and a reason", run->quirks_path, id);
    }
    return 0;
}

static int add_option(struct k_config *config, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return k_usage("-o takes NAME=VALUE, not %s", text);
    size_t n = config->n_options;
    struct k_option *grown = (struct k_option *)(void *)k_alloc((n + 1) * sizeof(*grown));
    if (n > 0)
        memcpy(grown, config->options, n * sizeof(*grown));
    k_free(config->options);
    config->options = grown;
    char *name = (char *)k_alloc((size_t)(equals - text) + 1);
    memcpy(name, text, (size_t)(equals - text));
    grown[n].name = name;
    grown[n].value = equals + 1;
    config->n_options++;
    return 0;
}

static int parse_profile(struct k_config *config, const char *text)
{
    static const char *const names[] = {"ro", "rw", "full"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            config->profile = (enum k_profile)i;
            return 0;
        }
    }
    return k_usage("--profile is ro, rw or full, not %s", text);
}

static int parse_timeout(struct k_config *config, const char *text)
{
    char *end = NULL;
    unsigned long seconds = strtoul(text, &end, 10);
    if (end == text || *end || seconds < 1 || seconds > 3600)
        return k_usage("--timeout is 1 to 3600 seconds, not %s", text);
    config->timeout_s = (uint32_t)seconds;
    return 0;
}

static int add_only(struct k_run *run, const char *id)
{
    if (!is_known(id))
        return k_usage("--only: there is no requirement or group %s", id);
    const char **grown = (const char **)(void *)k_alloc((run->n_only + 1) * sizeof(*grown));
    if (run->n_only > 0)
        memcpy(grown, run->only, run->n_only * sizeof(*grown));
    k_free(run->only);
    run->only = grown;
    run->only[run->n_only++] = id;
    return 0;
}

int k_parse_arguments(struct k_run *run, int argc, char **argv)
{
    static const struct option options[] = {
        {"uri", required_argument, NULL, 'u'},
        {"option", required_argument, NULL, 'o'},
        {"profile", required_argument, NULL, 'p'},
        {"json", required_argument, NULL, 'j'},
        {"junit", required_argument, NULL, 'x'},
        {"quirks", required_argument, NULL, 'q'},
        {"faults", required_argument, NULL, 'f'},
        {"only", required_argument, NULL, 'n'},
        {"timeout", required_argument, NULL, 't'},
        {"list", no_argument, NULL, 'l'},
        {"markdown", no_argument, NULL, 'm'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int rc = 0;
    optind = 0;
    opterr = 0;
    while (rc == 0) {
        int c = getopt_long(argc, argv, "o:h", options, NULL);
        if (c < 0)
            break;
        if (c == 'u')
            run->uri = optarg;
        else if (c == 'p')
            rc = parse_profile(&run->config, optarg);
        else if (c == 'j')
            run->json_path = optarg;
        else if (c == 'x')
            run->junit_path = optarg;
        else if (c == 'q')
            run->quirks_path = optarg;
        else if (c == 'f')
            run->faults_path = optarg;
        else if (c == 'n')
            rc = add_only(run, optarg);
        else if (c == 't')
            rc = parse_timeout(&run->config, optarg);
        else if (c == 'o')
            rc = add_option(&run->config, optarg);
        else if (c == 'l')
            run->shortcut = print_list;
        else if (c == 'm')
            run->shortcut = print_markdown;
        else if (c == 'h')
            run->shortcut = print_help;
        else
            rc = k_usage("do not understand %s", argv[optind - 1]);
    }
    if (rc != 0 || run->shortcut)
        return rc;
    if (optind + 1 != argc)
        return k_usage("needs one plugin");
    run->config.path = argv[optind];
    if (!run->uri && !run->faults_path)
        return k_usage("needs --uri");
    if (!run->faults_path) /* else once the declaration is read */
        rc = k_place_run(run);
    if (rc == 0)
        rc = find_plugin(run);
    return rc == 0 ? load_quirks(run) : rc;
}

void k_run_fini(struct k_run *run)
{
    json_decref(run->quirks);
    free(run->path);
    k_free(run->only);
    k_free(run->config.scheme);
    for (size_t i = 0; i < run->config.n_options; i++) {
        char *name = NULL;
        memcpy(&name, &run->config.options[i].name, sizeof(name));
        k_free(name);
    }
    k_free(run->config.options);
}
