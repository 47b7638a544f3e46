/* conformance.h - the conformance kit's entry into the `penstock` command. */
#ifndef PST_CONFORMANCE_H
#define PST_CONFORMANCE_H

#include <penstock/plugin.h>

/* Run `penstock conformance` with everything after the verb; argv[0] is the verb itself. Prints TAP
 * on stdout and returns the process's exit code: 0 only if every requirement that the profile asks
 * for was met. It forks for each requirement: call it while the process has one thread. */
int pst_conformance_main(int argc, char **argv);

/* Make a plugin that is linked into this program known as "static:NAME", to be given instead of a
 * path. The requirements on the file itself do not apply to it. */
void pst_conformance_static(const char *name, pst_plugin_open_1_fn entry);

#endif
