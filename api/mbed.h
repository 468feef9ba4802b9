// SPDX-License-Identifier: Apache-2.0
/*
 * What every user of mbedtls needs: its random source, which is the kernel's,
 * and its error codes as our errors.
 */
#ifndef DORMOUSE_API_MBED_H
#define DORMOUSE_API_MBED_H

#include <stddef.h>

#include "../hypervisor/base/err.h"

/* In the form that the library calls; ctx is not used. */
int mbed_random(void *ctx, unsigned char *data, size_t len);
/* "what: the library's text"; returns -errnum. */
int mbed_fail(struct err *e, int errnum, int code, const char *what);

#endif
