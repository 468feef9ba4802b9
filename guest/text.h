// SPDX-License-Identifier: Apache-2.0
/*
 * A small snprintf: the libc's brings 20 KiB of floating point into a program
 * that never prints a fraction. Knows %s %.*s %.8s %c %d %u %x %o with l, ll and
 * z, and %%. Returns the length the whole text would have, like snprintf.
 */
#ifndef DORMOUSE_GUEST_TEXT_H
#define DORMOUSE_GUEST_TEXT_H

#include <stdarg.h>
#include <stddef.h>

int text_put(char *buf, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int text_vput(char *buf, size_t size, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

/* strstr() for short texts. */
const char *text_find(const char *text, const char *what);

#endif
