/* frame.h - what the files of the frame share with each other and not with the verbs. */
#ifndef PST_CLI_FRAME_H
#define PST_CLI_FRAME_H

#include "cli.h"

/* ---- args.c ---- */

struct cli_value {
    const struct cli_option *option;
    uint32_t count; /* times given */
    uint64_t number;
    const char **texts; /* CLI_TEXT: the last one; CLI_LIST, CLI_PAIRS: all */
    size_t n_texts;
    pst_kv *pairs;
};

/* Parse global options up to the first operand; *n_used counts the arguments taken. Call it first,
 * then cli_args_parse with the same `args`. */
int cli_args_parse_global(struct cli *cli, char **argv, uint32_t argc, struct cli_args *args,
                          uint32_t *n_used);

/* Parse what follows the verb. Operands are counted against the verb's limits unless --help or
 * --version was given. */
int cli_args_parse(struct cli *cli, const struct cli_verb *verb, char **argv, uint32_t argc,
                   struct cli_args *args);
void cli_args_fini(struct cli_args *args);

/* The verb that argv starts with and how many words name it; else a usage error. */
int cli_find_verb(struct cli *cli, char **argv, uint32_t argc, const struct cli_verb **out,
                  uint32_t *n_words);

/* ---- closest.c ---- */

/* The closest of `candidates` (NULL-terminated) to `word`, or NULL when none is close. */
const char *cli_find_closest(const char *word, const char *const *candidates);

/* ---- text.c ---- */

void cli_add_va(struct cli_text_buf *buf, const char *format, va_list list)
    __attribute__((format(printf, 2, 0)));

/* Is text.ptr[i] a byte that a terminal obeys: C0, DEL, or C1 as UTF-8 (c2 80 to c2 9f)? */
bool cli_is_control(pst_str text, size_t i);

/* Append with control characters escaped; `is_shell`: for the inside of $'...'. */
void cli_add_escaped(struct cli_text_buf *buf, pst_str text, bool is_shell);

/* ---- output.c ---- */

struct cli_output *cli_output_new(void);
/* Write out what is buffered and report what went wrong with standard output, once. */
int cli_output_finish(struct cli *cli);
void cli_output_free(struct cli_output *output);

/* ---- cmd_version.c ---- */

int cli_print_version(struct cli *cli);

/* ---- progress.c ---- */

/* Erase the line that is there, before a message is written. With stderr_mutex held. */
void cli_progress_clear_locked(struct cli *cli);

#endif
