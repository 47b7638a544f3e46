/* args.c - from argv to the values of a verb's option table.
 *
 * Long options take "--name=value" or "--name value", short ones "-j8" or "-j 8"; flags may be bundled
 * ("-rl"), "--" ends the options, "-" is an operand, and options may stand after operands. Names are
 * never abbreviated: an abbreviation that works today breaks with the next option.
 *
 * A verb's table is searched before the global one, so a verb may use a letter that is global
 * elsewhere (-h of du, -o of plugins manifest). Global options may also stand before the verb; there
 * only the global table counts.
 *
 * Everything wrong is a usage error (exit 2) that names the option, says what was expected and, for
 * an unknown name, offers the closest one. Numbers are checked against the table's range here, so no
 * verb repeats it. What options mean together is the verb's to check. */
#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"

const struct cli_option cli_global_options[] = {
    {'v', CLI_FLAG, "verbose", NULL, "say more on stderr; twice: debug messages too", NULL, 0, 0},
    {'q', CLI_FLAG, "quiet", NULL, "no progress and no notes; errors are still said", NULL, 0, 0},
    {'o', CLI_PAIRS, "option", "NAME=VALUE",
     "option of the store, PLUGIN.NAME=VALUE for one plugin only", NULL, 0, 0},
    {0, CLI_LIST, "plugin-dir", "DIR", "look for plugins here first", NULL, 0, 0},
    {0, CLI_FLAG, "strict", NULL, "refuse plugins that others could have written", NULL, 0, 0},
    {0, CLI_TEXT, "config", "FILE", "configuration file (otherwise $PENSTOCK_CONFIG)", NULL, 0, 0},
    {0, CLI_SIZE, "memory", "SIZE", "most memory for data under way", NULL, 1, UINT64_MAX},
    {0, CLI_DURATION, "timeout", "DURATION", "most time for each operation, retries included", NULL,
     1, UINT64_MAX},
    {0, CLI_COUNT, "max-attempts", "N", "tries of an operation before it fails", NULL, 1, 1000},
    {'h', CLI_FLAG, "help", NULL, "show help and exit", NULL, 0, 0},
    {0, CLI_FLAG, "version", NULL, "show the version and exit", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

/* ---- numbers ---------------------------------------------------------------------------------- */

static bool scale_of(enum cli_type type, const char *suffix, uint64_t *scale)
{
    static const char letters[] = "kmgt";
    static const struct {
        const char *unit;
        uint64_t ms;
    } durations[] = {{"ms", 1},          {"s", 1000},         {"m", 60 * 1000},
                     {"h", 3600 * 1000}, {"d", 86400 * 1000}, {"w", 7 * 86400 * 1000ull}};

    if (type == CLI_DURATION) {
        for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
            if (strcmp(suffix, durations[i].unit) == 0) {
                *scale = durations[i].ms;
                return true;
            }
        }
        return false;
    }
    *scale = 1;
    if (*suffix != '\0') {
        const char *letter = strchr(letters, tolower((unsigned char)*suffix));
        if (letter) {
            bool is_binary = suffix[1] == 'i' || suffix[1] == 'I';
            suffix += is_binary ? 2 : 1;
            for (ptrdiff_t i = 0; i <= letter - letters; i++)
                *scale *= is_binary ? 1024u : 1000u;
        }
    }
    if (type == CLI_SIZE && (*suffix == 'B' || *suffix == 'b'))
        suffix++;
    return *suffix == '\0';
}

/* Parse as the type says. False: it is none, and *why names what was expected. */
static bool parse_number(enum cli_type type, const char *text, uint64_t *out, const char **why)
{
    const char *expected = type == CLI_DURATION ? "a duration with its unit, like 500ms, 30s or 2h"
                           : type == CLI_SIZE   ? "a size, like 4096, 8MB or 8MiB"
                                                : "a count, like 100, 4k or 4ki";
    uint64_t value = 0, scale;
    const char *p = text;

    *why = expected;
    if (!isdigit((unsigned char)*p))
        return false;
    for (; isdigit((unsigned char)*p); p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            *why = "a number below 2^64";
            return false;
        }
        value = value * 10 + digit;
    }
    if (!scale_of(type, p, &scale))
        return false;
    /* The largest number stands for "unknown" in the library. */
    if (value > (UINT64_MAX - 1) / scale) {
        *why = "a number below 2^64";
        return false;
    }
    *out = value * scale;
    return true;
}

/* ---- what is unknown ---------------------------------------------------------------------------- */

static int fail_unknown_option(struct cli *cli, const struct cli_args *args, const char *name,
                               size_t len)
{
    const char **names = cli_alloc(args->n_values + 1, sizeof(*names));
    char *word = cli_dup(name, len);
    const char *guess;
    int code;

    for (size_t i = 0; i < args->n_values; i++)
        names[i] = args->values[i].option->name;
    guess = cli_find_closest(word, names);
    if (guess)
        code = cli_usage(cli, "unknown option '--%s', did you mean '--%s'?", word, guess);
    else
        code = cli_usage(cli, "unknown option '--%s'", word);
    free(word);
    free(names);
    return code;
}

int cli_find_verb(struct cli *cli, char **argv, uint32_t argc, const struct cli_verb **out,
                  uint32_t *n_words)
{
    const char *names[128];
    size_t n_names = 0;
    const char *first = argc > 0 ? argv[0] : "";
    size_t first_len = strlen(first);
    bool is_group = false;
    const char *guess;

    for (size_t i = 0; cli_verbs[i]; i++) {
        const char *name = cli_verbs[i]->name;
        if (strcmp(name, first) == 0) {
            *out = cli_verbs[i];
            *n_words = 1;
            return CLI_OK;
        }
        if (strncmp(name, first, first_len) != 0 || name[first_len] != ' ')
            continue;
        is_group = true;
        if (argc > 1 && strcmp(name + first_len + 1, argv[1]) == 0) {
            *out = cli_verbs[i];
            *n_words = 2;
            return CLI_OK;
        }
    }
    if (is_group) {
        struct cli_text_buf known = {0};
        int code;
        for (size_t i = 0; cli_verbs[i] && n_names < 127; i++) {
            const char *name = cli_verbs[i]->name;
            if (strncmp(name, first, first_len) == 0 && name[first_len] == ' ') {
                names[n_names++] = name + first_len + 1;
                cli_addf(&known, "%s%s", known.len ? ", " : "", name + first_len + 1);
            }
        }
        cli_add(&known, "", 1);
        if (argc > 1)
            code = cli_usage(cli, "unknown command '%s %s', known are: %s", first, argv[1],
                             known.data);
        else
            code = cli_usage(cli, "'%s' needs one of: %s", first, known.data);
        cli_text_fini(&known);
        return code;
    }
    for (size_t i = 0; cli_verbs[i] && n_names < 127; i++) {
        if (!cli_verbs[i]->is_hidden)
            names[n_names++] = cli_verbs[i]->name;
    }
    names[n_names] = NULL;
    guess = cli_find_closest(first, names);
    if (guess)
        return cli_usage(cli, "unknown command '%s', did you mean '%s'?", first, guess);
    return cli_usage(cli, "unknown command '%s'", first);
}

/* ---- parsing ------------------------------------------------------------------------------------ */

static void add_values(struct cli_args *args, const struct cli_option *options)
{
    size_t n = 0;
    while (options && options[n].name)
        n++;
    if (n == 0)
        return;
    /* In front: a verb's own options win over the global ones, which were added before. */
    args->values = cli_grow(args->values, args->n_values + n, sizeof(*args->values));
    memmove(args->values + n, args->values, args->n_values * sizeof(*args->values));
    memset(args->values, 0, n * sizeof(*args->values));
    for (size_t i = 0; i < n; i++)
        args->values[i].option = &options[i];
    args->n_values += n;
}

static struct cli_value *find_long(const struct cli_args *args, const char *name, size_t len)
{
    for (size_t i = 0; i < args->n_values; i++) {
        const char *candidate = args->values[i].option->name;
        if (strlen(candidate) == len && memcmp(candidate, name, len) == 0)
            return &args->values[i];
    }
    return NULL;
}

static struct cli_value *find_short(const struct cli_args *args, char letter)
{
    for (size_t i = 0; i < args->n_values; i++) {
        if (args->values[i].option->letter == letter)
            return &args->values[i];
    }
    return NULL;
}

static int set_number(struct cli *cli, struct cli_value *value, const char *text)
{
    const struct cli_option *option = value->option;
    const char *expected;

    if (!parse_number(option->type, text, &value->number, &expected))
        return cli_usage(cli, "--%s: '%s' is not %s", option->name, text, expected);
    if (option->max != 0 && (value->number < option->min || value->number > option->max)) {
        if (option->max == UINT64_MAX)
            return cli_usage(cli, "--%s: '%s' is below %llu", option->name, text,
                             (unsigned long long)option->min);
        return cli_usage(cli, "--%s: '%s' is not between %llu and %llu", option->name, text,
                         (unsigned long long)option->min, (unsigned long long)option->max);
    }
    return CLI_OK;
}

static int set_value(struct cli *cli, struct cli_value *value, const char *text)
{
    const struct cli_option *option = value->option;
    const char *equals;

    value->count++;
    switch (option->type) {
    case CLI_FLAG:
        return CLI_OK;
    case CLI_COUNT:
    case CLI_SIZE:
    case CLI_DURATION:
        return set_number(cli, value, text);
    case CLI_TEXT:
        value->n_texts = 0;
        break;
    case CLI_PAIRS:
        equals = strchr(text, '=');
        if (!equals || equals == text)
            return cli_usage(cli, "--%s: '%s' is not %s", option->name, text, option->value);
        value->pairs = cli_grow(value->pairs, value->n_texts + 1, sizeof(*value->pairs));
        value->pairs[value->n_texts].key = pst_str_of(text, (size_t)(equals - text));
        value->pairs[value->n_texts].value = pst_str_of(equals + 1, strlen(equals + 1));
        break;
    case CLI_LIST:
        break;
    }
    value->texts = cli_grow(value->texts, value->n_texts + 1, sizeof(*value->texts));
    value->texts[value->n_texts++] = text;
    return CLI_OK;
}

/* Parse the option at argv[0], which may take argv[1] as its value. */
static int parse_option(struct cli *cli, struct cli_args *args, char **argv, uint32_t argc,
                        uint32_t *n_used)
{
    const char *arg = argv[0];
    struct cli_value *value;

    *n_used = 1;
    if (arg[1] == '-') {
        const char *name = arg + 2;
        size_t len = strcspn(name, "=");
        const char *text = name[len] == '=' ? name + len + 1 : NULL;
        value = find_long(args, name, len);
        if (!value)
            return fail_unknown_option(cli, args, name, len);
        if (value->option->type == CLI_FLAG) {
            if (text)
                return cli_usage(cli, "--%s takes no value", value->option->name);
        } else if (!text) {
            if (argc < 2)
                return cli_usage(cli, "--%s needs a value: %s", value->option->name,
                                 value->option->value);
            text = argv[1];
            *n_used = 2;
        }
        return set_value(cli, value, text);
    }
    for (const char *p = arg + 1; *p; p++) {
        int code;
        value = find_short(args, *p);
        if (!value)
            return cli_usage(cli, "unknown option '-%c'", *p);
        if (value->option->type == CLI_FLAG) {
            code = set_value(cli, value, NULL);
            if (code)
                return code;
            continue;
        }
        if (p[1])
            return set_value(cli, value, p + 1);
        if (argc < 2)
            return cli_usage(cli, "-%c needs a value: %s", *p, value->option->value);
        *n_used = 2;
        return set_value(cli, value, argv[1]);
    }
    return CLI_OK;
}

int cli_args_parse_global(struct cli *cli, char **argv, uint32_t argc, struct cli_args *args,
                          uint32_t *n_used)
{
    uint32_t i = 0;
    int code = CLI_OK;

    add_values(args, cli_global_options);
    while (i < argc && argv[i][0] == '-' && argv[i][1] != '\0' && code == CLI_OK) {
        uint32_t n = 1;
        code = parse_option(cli, args, argv + i, argc - i, &n);
        i += n;
    }
    *n_used = i;
    return code;
}

static int check_operands(struct cli *cli, const struct cli_args *args)
{
    const struct cli_verb *verb = args->verb;

    if (args->n_operands < verb->min_operands)
        return cli_usage(cli, "needs %s", verb->operands);
    if (args->n_operands > verb->max_operands) {
        if (verb->max_operands == 0)
            return cli_usage(cli, "takes no operands, but got '%s'", args->operands[0]);
        return cli_usage(cli, "takes %s, but got '%s' too", verb->operands,
                         args->operands[verb->max_operands]);
    }
    return CLI_OK;
}

int cli_args_parse(struct cli *cli, const struct cli_verb *verb, char **argv, uint32_t argc,
                   struct cli_args *args)
{
    bool has_options = !verb->is_raw;
    uint32_t i = 0;
    int code = CLI_OK;

    args->verb = verb;
    add_values(args, verb->options);
    args->operands = cli_alloc(argc + 1u, sizeof(*args->operands));
    while (i < argc && code == CLI_OK) {
        uint32_t n = 1;
        if (has_options && strcmp(argv[i], "--") == 0)
            has_options = false;
        else if (has_options && argv[i][0] == '-' && argv[i][1] != '\0')
            code = parse_option(cli, args, argv + i, argc - i, &n);
        else
            args->operands[args->n_operands++] = argv[i];
        i += n;
    }
    if (code || cli_flag(args, "help") || cli_flag(args, "version"))
        return code;
    return check_operands(cli, args);
}

void cli_args_fini(struct cli_args *args)
{
    for (size_t i = 0; i < args->n_values; i++) {
        free(args->values[i].texts);
        free(args->values[i].pairs);
    }
    free(args->values);
    free(args->operands);
    memset(args, 0, sizeof(*args));
}

/* ---- access ------------------------------------------------------------------------------------- */

static const struct cli_value *find_value(const struct cli_args *args, const char *name)
{
    const struct cli_value *value = find_long(args, name, strlen(name));
    assert(value && "an option that is in no table");
    return value;
}

uint32_t cli_flag(const struct cli_args *args, const char *name)
{
    const struct cli_value *value = find_value(args, name);
    assert(value->option->type == CLI_FLAG);
    return value->count;
}

bool cli_given(const struct cli_args *args, const char *name)
{
    return find_value(args, name)->count > 0;
}

const char *cli_text(const struct cli_args *args, const char *name)
{
    const struct cli_value *value = find_value(args, name);
    assert(value->option->type == CLI_TEXT);
    return value->n_texts > 0 ? value->texts[0] : value->option->fallback;
}

pst_str cli_str(const struct cli_args *args, const char *name)
{
    const char *text = cli_text(args, name);
    return text ? pst_str_of(text, strlen(text)) : pst_str_of(NULL, 0);
}

int cli_version_id(struct cli *cli, const struct cli_args *args, pst_str *out)
{
    *out = cli_str(args, "version-id");
    if (cli_given(args, "version-id") && out->len == 0)
        return cli_usage(cli, "--version-id is empty");
    if (out->len > 0 && args->n_operands > args->verb->min_operands &&
        args->verb->max_operands == CLI_ANY)
        return cli_usage(cli, "--version-id is of one object, and there are several URIs");
    return CLI_OK;
}

uint64_t cli_number(const struct cli_args *args, const char *name)
{
    const struct cli_value *value = find_value(args, name);
    uint64_t number;
    const char *why;

    assert(value->option->type >= CLI_COUNT);
    if (value->count > 0)
        return value->number;
    if (!value->option->fallback ||
        !parse_number(value->option->type, value->option->fallback, &number, &why))
        return PST_UNKNOWN;
    return number;
}

size_t cli_list(const struct cli_args *args, const char *name, const char *const **values)
{
    const struct cli_value *value = find_value(args, name);
    assert(value->option->type == CLI_LIST);
    *values = value->texts;
    return value->n_texts;
}

size_t cli_pairs(const struct cli_args *args, const char *name, const pst_kv **pairs)
{
    const struct cli_value *value = find_value(args, name);
    assert(value->option->type == CLI_PAIRS);
    *pairs = value->pairs;
    return value->n_texts;
}
