/* These tests are of file://. */
#include "mini_host.h"

const char *const mini_scheme = "file";
const char *const mini_options[] = {NULL};
