// SPDX-License-Identifier: Apache-2.0
/* Buffer lists; see iov.h. */
#include "iov.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "mem.h"

static size_t iov_copy(const struct iovec *iov, unsigned n, size_t off, void *flat, size_t len,
                       bool to_iov)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        if (off >= iov[i].iov_len) {
            off -= iov[i].iov_len;
            continue;
        }
        size_t part = MIN(iov[i].iov_len - off, len - done);
        uint8_t *p = (uint8_t *)iov[i].iov_base + off;
        if (to_iov)
            memcpy(p, (uint8_t *)flat + done, part);
        else
            memcpy((uint8_t *)flat + done, p, part);
        done += part;
        off = 0;
    }
    return done;
}

size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *dst, size_t len)
{
    return iov_copy(iov, n, off, dst, len, false);
}

size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *src, size_t len)
{
    return iov_copy(iov, n, off, (void *)(uintptr_t)src, len, true);
}

unsigned iov_skip(struct iovec *iov, unsigned n, size_t len)
{
    unsigned i = 0;
    while (i < n && len >= iov[i].iov_len) {
        len -= iov[i].iov_len;
        iov[i].iov_len = 0;
        i++;
    }
    if (i < n) {
        iov[i].iov_base = (uint8_t *)iov[i].iov_base + len;
        iov[i].iov_len -= len;
    }
    return i;
}

unsigned iov_clip(struct iovec *iov, unsigned n, size_t len)
{
    for (unsigned i = 0; i < n; i++) {
        if (len <= iov[i].iov_len) {
            iov[i].iov_len = len;
            return len ? i + 1 : i;
        }
        len -= iov[i].iov_len;
    }
    return n;
}
