/* These tests are of direct://, with nothing left to the page cache that need not go there. */
#include "../../file/tests/mini_host.h"

const char *const mini_scheme = "direct";
const char *const mini_options[] = {"min_io_size=0", "queue_depth=4", NULL};
