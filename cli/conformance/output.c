/* output.c - results for people and programs: TAP, JSON, JUnit, and the table itself. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "kit.h"

static const char *const profile_names[] = {"ro", "rw", "full"};

static const struct {
    const char *group, *title;
} groups[] = {
    {"LOAD", "the file and its tables"},
    {"OP", "the life of an operation"},
    {"MEM", "whose memory, and until when"},
    {"READ", "data comes back exactly"},
    {"WRITE", "what is stored is what was sent, whole or not at all"},
    {"LIST", "listings are complete"},
    {"ENV", "a guest in somebody's process"},
    {"HTTP", "replies as they come over a network (with --faults)"},
    {"FAULT", "what providers refuse, and replies that are lost (with --faults)"},
};

void k_print_list(void)
{
    for (size_t i = 0; i < k_n_requirements; i++)
        printf("%s  %-4s  %s\n", k_requirements[i].id, profile_names[k_requirements[i].profile],
               k_requirements[i].text);
}

static void print_cell(const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            (void)putchar('\\');
        (void)putchar(*text);
    }
}

void k_print_markdown(void)
{
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        printf("\n### %s: %s\n\n| requirement | profile | text | rule |\n|---|---|---|---|\n",
               groups[g].group, groups[g].title);
        for (size_t i = 0; i < k_n_requirements; i++) {
            const struct k_requirement *r = &k_requirements[i];
            if (strcmp(r->group, groups[g].group) != 0)
                continue;
            printf("| %s | %s | ", r->id, profile_names[r->profile]);
            print_cell(r->text);
            printf(" | ");
            print_cell(r->rule);
            printf(" |\n");
        }
    }
}

static void print_details(const char *details)
{
    while (*details) {
        size_t len = strcspn(details, "\n");
        printf("#   %.*s\n", (int)len, details);
        details += len + (details[len] == '\n');
    }
}

void k_print_tap(size_t number, const struct k_outcome *o)
{
    const struct k_requirement *r = o->requirement;
    bool is_ok = o->verdict != K_FAILED || o->quirk;
    printf("%s %zu - %s %s", is_ok ? "ok" : "not ok", number, r->id, r->text);
    if (o->verdict == K_SKIPPED)
        printf(" # SKIP %.*s", (int)strcspn(o->details, "\n"), o->details);
    else if (o->quirk)
        printf(" # SKIP quirk: %s", o->quirk);
    printf("\n");
    if (o->verdict == K_FAILED) {
        print_details(o->details);
        printf("#   rule: %s\n", r->rule);
    }
    (void)fflush(stdout);
}

static const char *result_name(const struct k_outcome *o)
{
    if (o->verdict == K_FAILED)
        return o->quirk ? "quirk" : "failed";
    return o->verdict == K_SKIPPED ? "skipped" : "passed";
}

bool k_write_json(const char *path, const struct k_config *config, const struct k_outcome *all,
                  size_t n)
{
    size_t counts[4] = {0};
    json_t *results = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct k_outcome *o = &all[i];
        const char *result = result_name(o);
        counts[o->verdict == K_FAILED && o->quirk ? 3 : (size_t)o->verdict]++;
        json_t *row = json_pack("{s:s s:s s:s s:s s:s s:f}", "id", o->requirement->id, "text",
                                o->requirement->text, "rule", o->requirement->rule, "profile",
                                profile_names[o->requirement->profile], "result", result, "seconds",
                                o->seconds);
        if (o->details[0])
            (void)json_object_set_new(row, "details", json_string(o->details));
        if (o->quirk)
            (void)json_object_set_new(row, "quirk", json_string(o->quirk));
        (void)json_array_append_new(results, row);
    }
    json_t *root = json_pack("{s:s s:s s:i s:i s:i s:i s:o}", "plugin", config->path, "profile",
                             profile_names[config->profile], "passed", (int)counts[K_PASSED],
                             "failed", (int)counts[K_FAILED], "skipped", (int)counts[K_SKIPPED],
                             "quirks", (int)counts[3], "results", results);
    bool is_written = root && json_dump_file(root, path, JSON_INDENT(2)) == 0;
    json_decref(root);
    return is_written;
}

static void put_xml(FILE *f, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '&')
            (void)fputs("&amp;", f);
        else if (c == '<')
            (void)fputs("&lt;", f);
        else if (c == '>')
            (void)fputs("&gt;", f);
        else if (c == '"')
            (void)fputs("&quot;", f);
        else if (c >= 0x20 || c == '\n')
            (void)fputc(c, f);
        else
            (void)fputc('?', f);
    }
}

bool k_write_junit(const char *path, const struct k_config *config, const struct k_outcome *all,
                   size_t n)
{
    size_t n_failed = 0, n_skipped = 0;
    for (size_t i = 0; i < n; i++) {
        n_failed += all[i].verdict == K_FAILED && !all[i].quirk;
        n_skipped += all[i].verdict == K_SKIPPED || (all[i].verdict == K_FAILED && all[i].quirk);
    }
    FILE *f = fopen(path, "we");
    if (!f)
        return false;
    (void)fprintf(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"conformance ");
    put_xml(f, config->path);
    (void)fprintf(f, "\" tests=\"%zu\" failures=\"%zu\" skipped=\"%zu\">\n", n, n_failed,
                  n_skipped);
    for (size_t i = 0; i < n; i++) {
        const struct k_outcome *o = &all[i];
        (void)fprintf(f, "  <testcase classname=\"%s\" name=\"%s ", o->requirement->group,
                      o->requirement->id);
        put_xml(f, o->requirement->text);
        (void)fprintf(f, "\" time=\"%.3f\"", o->seconds);
        if (o->verdict == K_PASSED) {
            (void)fputs("/>\n", f);
            continue;
        }
        bool is_failure = o->verdict == K_FAILED && !o->quirk;
        (void)fprintf(f, ">\n    <%s message=\"", is_failure ? "failure" : "skipped");
        if (o->quirk) {
            (void)fputs("quirk: ", f);
            put_xml(f, o->quirk);
        } else if (!is_failure) {
            put_xml(f, o->details);
        } else {
            (void)fputs("rule: ", f);
            put_xml(f, o->requirement->rule);
        }
        (void)fputs("\">", f);
        put_xml(f, is_failure || o->quirk ? o->details : "");
        (void)fprintf(f, "</%s>\n  </testcase>\n", is_failure ? "failure" : "skipped");
    }
    (void)fputs("</testsuite>\n", f);
    return fclose(f) == 0;
}
