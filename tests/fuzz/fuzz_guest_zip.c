// SPDX-License-Identifier: Apache-2.0
/* The build context as the guest reads it: whatever the archive says, names stay below the
 * root, contents stay within the sizes announced, and nothing is read beyond the bytes. */
#include <stdlib.h>
#include <string.h>

#include "../../guest/zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count(void *ctx, const uint8_t *data, size_t len)
{
    uint64_t *total = ctx;
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + data[i]);
    *total += len;
    return *total > (8u << 20) ? -1000 : 0;
}

static void check_name(const char *name)
{
    if (name[0] == '/' || strlen(name) >= ZIP_NAME_MAX)
        abort();
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            abort();
        p += n;
        if (*p == '/' && p[1] == '\0')
            abort();
        p += *p == '/';
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct zip z;
    struct fail f = {.num = 0};
    struct zip_entry e;
    if (zip_open(&z, data, size, &f) < 0)
        return f.num == 0; /* a failure has a number */
    zip_check(&z, &f);
    unsigned n = 0;
    for (size_t pos = 0; n < 64 && zip_next(&z, &pos, &e, &f) > 0; n++) {
        uint64_t total = 0;
        check_name(e.name);
        int r = zip_read(&z, &e, count, &total, &f);
        if (total > e.size || (r == 0 && total != e.size))
            abort();
    }
    return 0;
}
