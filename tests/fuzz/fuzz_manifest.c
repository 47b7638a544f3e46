/* Every input is a manifest or is refused with one line. One that is taken can be written, and what
 * was written reads back equal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pst_manifest manifest, again;
    pst_error err = PST_ERROR_INIT;
    char *json = NULL;
    pst_rc rc = pst_manifest_parse("fuzz.json", (const char *)data, size, &manifest, &err);

    if (rc != PST_OK) {
        require(rc == PST_E_BAD_PLUGIN && err.code == rc);
        require(strncmp(err.message, "manifest fuzz.json: ", 20) == 0);
        require(strchr(err.message, '\n') == NULL && manifest.id == NULL);
        return 0;
    }
    require(manifest.schemes[0] != NULL && manifest.caps != 0);
    require(manifest.library[0] != '/');
    rc = pst_manifest_write(&manifest, &json, &err);
    if (rc == PST_OK) {
        require(pst_manifest_parse("again.json", json, strlen(json), &again, &err) == PST_OK);
        require(pst_manifest_compare(&manifest, "a", &again, "b", &err) == PST_OK);
        pst_manifest_fini(&again);
    } else {
        require(rc == PST_E_BAD_PLUGIN); /* over a MiB once it is indented */
    }
    free(json);
    pst_manifest_fini(&manifest);
    return 0;
}
