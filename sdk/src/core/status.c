#include <penstock/context.h>

#define STRING_(x) #x
#define STRING(x) STRING_(x)

const char *pst_version(void)
{
    return STRING(PST_VERSION_MAJOR) "." STRING(PST_VERSION_MINOR) "." STRING(PST_VERSION_PATCH);
}

struct status {
    pst_rc rc;
    int exit_code;
    const char *name, *text;
};

static const struct status *find_status(pst_rc rc)
{
    static const struct status ok = {PST_OK, 0, "OK", "ok"};
    static const struct status unknown = {PST_E_INTERNAL, 8, "UNKNOWN", "unknown error"};
    static const struct status table[] = {
#define ROW(name, number, text, exit_code) {(number), (exit_code), #name, (text)},
        PST_STATUS_TABLE(ROW)
#undef ROW
    };

    if (rc == PST_OK)
        return &ok;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].rc == rc)
            return &table[i];
    }
    return &unknown;
}

const char *pst_rc_text(pst_rc rc)
{
    return find_status(rc)->text;
}

const char *pst_rc_name(pst_rc rc)
{
    return find_status(rc)->name;
}

int pst_rc_exit_code(pst_rc rc)
{
    return find_status(rc)->exit_code;
}
