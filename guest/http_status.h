// SPDX-License-Identifier: Apache-2.0
/*
 * The status of an HTTP/1 answer. Pure. The header must be complete before the
 * answer counts; 1xx answers are skipped.
 */
#ifndef DORMOUSE_GUEST_HTTP_STATUS_H
#define DORMOUSE_GUEST_HTTP_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum http_progress { HTTP_MORE, HTTP_DONE, HTTP_BAD };

static inline bool http_digit_(char c)
{
    return c >= '0' && c <= '9';
}

/* Where the header that begins at `at` ends (behind its empty line), or 0. */
static inline size_t http_header_end_(const char *buf, size_t at, size_t len)
{
    for (size_t i = at; i < len; i++) {
        if (buf[i] != '\n')
            continue;
        if (i + 1 < len && buf[i + 1] == '\n')
            return i + 2;
        if (i + 2 < len && buf[i + 1] == '\r' && buf[i + 2] == '\n')
            return i + 3;
    }
    return 0;
}

static inline enum http_progress http_status(const char *buf, size_t len, uint32_t *status)
{
    static const char start[] = "HTTP/1.";
    for (size_t at = 0;;) {
        const char *p = buf + at;
        size_t left = len - at, n = sizeof(start) - 1;
        if (memcmp(p, start, left < n ? left : n) != 0)
            return HTTP_BAD;
        if (left < 13)
            return HTTP_MORE;
        if (!http_digit_(p[7]) || p[8] != ' ' || !http_digit_(p[9]) || !http_digit_(p[10]) ||
            !http_digit_(p[11]) || (p[12] != ' ' && p[12] != '\r' && p[12] != '\n'))
            return HTTP_BAD;
        *status = (uint32_t)(p[9] - '0') * 100 + (uint32_t)(p[10] - '0') * 10 +
                  (uint32_t)(p[11] - '0');
        if (*status < 100)
            return HTTP_BAD;
        size_t end = http_header_end_(buf, at, len);
        if (end == 0)
            return HTTP_MORE;
        if (*status >= 200 || *status == 101)
            return HTTP_DONE;
        at = end;
    }
}

#endif
