/* file_store.h - a context with the file plugin linked in, and a store in a folder. */
#ifndef PST_TEST_FILE_STORE_H
#define PST_TEST_FILE_STORE_H

#include <penstock/penstock.h>

/* Errors as those of context_new and store_open. */
pst_rc file_context(pst_context **out, pst_error *err);
pst_rc file_store(pst_context *context, const char *dir, pst_store **out, pst_error *err);

#endif
