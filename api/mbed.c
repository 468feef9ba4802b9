// SPDX-License-Identifier: Apache-2.0
/* Shared by everything that uses mbedtls; see mbed.h. */
#include "mbed.h"

#include <mbedtls/error.h>

#include "uuid.h"

int mbed_random(void *ctx, unsigned char *data, size_t len)
{
    (void)ctx;
    random_fill(data, len);
    return 0;
}

int mbed_fail(struct err *e, int errnum, int code, const char *what)
{
    char text[160];
    mbedtls_strerror(code, text, sizeof text);
    return err_set(e, errnum, "%s: %s", what, text);
}
