// SPDX-License-Identifier: Apache-2.0
/*
 * DEFLATE (RFC 1951), from memory to a callback. Pure; the input is a
 * stranger's: every read is bounded, and so is the output.
 */
#ifndef DORMOUSE_GUEST_INFLATE_H
#define DORMOUSE_GUEST_INFLATE_H

#include <stddef.h>
#include <stdint.h>

/* Takes the next piece; not 0 ends the work with that result. */
typedef int (*inflate_out)(void *ctx, const uint8_t *data, size_t len);

/* Unpacks one whole stream. `limit` bounds the output. Returns 0, -EBADMSG on nonsense,
 * -EFBIG beyond the limit, -ENOMEM, or what `out` returned. `used`: input bytes taken. */
int inflate_all(const uint8_t *in, size_t len, uint64_t limit, inflate_out out, void *ctx,
                size_t *used);

#endif
