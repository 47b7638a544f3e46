#include "util/parse.h"

#include "util/text.h"

struct unit {
    const char *name;
    int64_t factor;
};

/* Digits at the start of `text`; 0 if there are none or they do not fit. Returns their count. */
static size_t parse_digits(const char *text, size_t len, int64_t sign, int64_t *out)
{
    int64_t value = 0;
    size_t i = 0;

    for (; i < len && text[i] >= '0' && text[i] <= '9'; i++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, sign * (text[i] - '0'), &value))
            return 0;
    }
    *out = value;
    return i;
}

int pst_parse_int(const char *text, size_t len, int64_t *out)
{
    const size_t skip = len > 0 && (text[0] == '-' || text[0] == '+');
    const int64_t sign = skip && text[0] == '-' ? -1 : 1;

    return len > skip && parse_digits(text + skip, len - skip, sign, out) == len - skip;
}

static int parse_quantity(const char *text, size_t len, const struct unit *units, int64_t *out)
{
    int64_t value;
    const size_t digits = parse_digits(text, len, 1, &value);

    if (digits == 0)
        return 0;
    for (; units->name; units++) {
        if (pst_text_equals_nocase(text + digits, len - digits, units->name))
            return !__builtin_mul_overflow(value, units->factor, out);
    }
    return 0;
}

int pst_parse_size(const char *text, size_t len, int64_t *out_bytes)
{
    static const int64_t ki = 1024, k = 1000;
    const struct unit units[] = {
        {"", 1},
        {"B", 1},
        {"K", ki},
        {"KiB", ki},
        {"KB", k},
        {"M", ki * ki},
        {"MiB", ki * ki},
        {"MB", k * k},
        {"G", ki * ki * ki},
        {"GiB", ki * ki * ki},
        {"GB", k * k * k},
        {"T", ki * ki * ki * ki},
        {"TiB", ki * ki * ki * ki},
        {"TB", k * k * k * k},
        {"P", ki * ki * ki * ki * ki},
        {"PiB", ki * ki * ki * ki * ki},
        {"PB", k * k * k * k * k},
        {NULL, 0},
    };

    return parse_quantity(text, len, units, out_bytes);
}

int pst_parse_duration(const char *text, size_t len, int64_t *out_ms)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
    };

    if (len == 1 && text[0] == '0') {
        *out_ms = 0;
        return 1;
    }
    return parse_quantity(text, len, units, out_ms);
}

int pst_parse_bool(const char *text, size_t len, int *out)
{
    static const char *const words[2][4] = {{"false", "no", "off", "0"},
                                            {"true", "yes", "on", "1"}};

    for (int value = 0; value < 2; value++) {
        for (size_t i = 0; i < 4; i++) {
            if (pst_text_equals_nocase(text, len, words[value][i])) {
                *out = value;
                return 1;
            }
        }
    }
    return 0;
}
