// SPDX-License-Identifier: Apache-2.0
/*
 * Growable byte buffer with a hard limit. A failed append marks the buffer
 * `bad` and later appends do nothing, so a writer checks once at the end.
 */
#ifndef DORMOUSE_BASE_BUF_H
#define DORMOUSE_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data;
    size_t len, cap;
    size_t limit; /* 0: BUF_LIMIT_DEFAULT */
    bool bad;     /* out of memory or over the limit */
};

#define BUF_LIMIT_DEFAULT ((size_t)64 << 20)
#define BUF_INIT     \
    {                \
        .data = NULL \
    }

void buf_free(struct buf *b);
void buf_reset(struct buf *b); /* empty, memory kept */
/* Room for `len` more bytes at the returned address (not yet counted), or NULL. */
void *buf_reserve(struct buf *b, size_t len);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_drop(struct buf *b, size_t n); /* forget the first n bytes */
/* NUL-terminated view (the NUL is not counted), or NULL when bad. */
char *buf_cstr(struct buf *b);

#endif
