/* faults.h - the declarative fault server for tests written in C: `penstock conformance serve-faults` in
 * a process of its own. Every function fails the running cmocka test when it cannot do its work. */
#ifndef PST_TESTS_FAULTS_H
#define PST_TESTS_FAULTS_H

#include <stddef.h>

struct faults {
    int pid;
    unsigned port;
    char address[32]; /* "127.0.0.1:4711" */
};

/* `declaration`: a name of tests/servers/faults ("s3"), or a path. */
void faults_start(struct faults *f, const char *declaration);
void faults_stop(struct faults *f);
/* A JSON array of rules; NULL: none. */
void faults_set(const struct faults *f, const char *rules);
/* Every request so far, as JSON text; free(). */
char *faults_log(const struct faults *f);
/* How many requests of this action or route ("get", "PutObject") there were. */
unsigned faults_count(const struct faults *f, const char *route);
void faults_forget(const struct faults *f); /* rules, record, objects, containers */
void faults_put(const struct faults *f, const char *name, const void *data, size_t n);
/* One request of the server's own: path behind "/-/". *status: the reply's; the body is free()d. */
char *faults_control(const struct faults *f, const char *method, const char *path, const void *body,
                     size_t n, size_t *len, int *status);

#endif
