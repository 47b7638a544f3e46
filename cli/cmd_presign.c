/* cmd_presign.c - a URL that lets somebody without credentials at one object for a while. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static int run_presign(struct cli *cli, const struct cli_args *args)
{
    const char *method = cli_text(args, "method");
    pst_error err = PST_ERROR_INIT;
    struct cli_location location;
    char *url = NULL;
    pst_rc rc;
    int code = cli_location_parse(cli, args->operands[0], 0, &location);

    if (code == CLI_OK)
        code = cli_location_open(cli, &location);
    if (code == CLI_OK) {
        rc = pst_presign(location.store, location.parts.key, pst_str_of(method, strlen(method)),
                         cli_number(args, "expires") / 1000, &cli->call, &url, &err);
        if (rc == PST_OK)
            cli_printf(cli, "%s\n", url);
        else
            code = cli_fail_rc(cli, rc, &err);
    }
    free(url);
    cli_location_fini(&location);
    return code;
}

static const struct cli_option options[] = {
    {0, CLI_TEXT, "method", "METHOD", "HTTP method that is allowed: GET, PUT, HEAD or DELETE",
     "GET", 0, 0},
    {0, CLI_DURATION, "expires", "DURATION", "how long it is valid", "1h", 1000, UINT64_MAX},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_presign = {
    .name = "presign",
    .operands = "URI",
    .summary = "print a URL that grants access to one object for a while",
    .details = "Whoever has the URL has the access. Stores without such URLs, file:// among them, "
               "refuse (exit 2).",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
    .run = run_presign,
};
