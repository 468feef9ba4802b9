// SPDX-License-Identifier: Apache-2.0
/* The error object; see err.h. */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_sys(struct err *e, int errnum, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
        va_end(ap);
        if (n >= 0 && (size_t)n < sizeof e->msg)
            snprintf(e->msg + n, sizeof e->msg - (size_t)n, ": %s", strerror(errnum));
        e->num = errnum;
        e->hint[0] = '\0';
    }
    return errnum > 0 ? -errnum : -EIO;
}

int err_set(struct err *e, int errnum, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(e->msg, sizeof e->msg, fmt, ap);
        va_end(ap);
        e->num = errnum;
        e->hint[0] = '\0';
    }
    return errnum > 0 ? -errnum : -EIO;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (!e)
        return -EIO;
    char inner[sizeof e->msg];
    memcpy(inner, e->msg, sizeof inner);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->msg)
        snprintf(e->msg + n, sizeof e->msg - (size_t)n, ": %s", inner);
    return e->num > 0 ? -e->num : -EIO;
}

int err_hint(struct err *e, const char *fmt, ...)
{
    if (!e)
        return -EIO;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->hint, sizeof e->hint, fmt, ap);
    va_end(ap);
    return e->num > 0 ? -e->num : -EIO;
}

void err_clear(struct err *e)
{
    if (e)
        memset(e, 0, sizeof *e);
}
