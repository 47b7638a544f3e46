/* caps.c - names of capabilities, for people. */
#include "cli.h"

void cli_add_caps(struct cli_text_buf *buf, uint64_t caps)
{
    const char *space = "";

    for (uint64_t bit = 1; bit; bit <<= 1) {
        const char *name = caps & bit ? pst_cap_name(bit) : NULL;

        if (name) {
            cli_addf(buf, "%s", space);
            for (; *name; name++)
                cli_addf(buf, "%c", *name == '_' ? '-' : *name);
            space = " ";
        }
    }
}
