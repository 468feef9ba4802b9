// SPDX-License-Identifier: Apache-2.0
/*
 * Seals on snapshot files: HMAC-SHA-256 over the header page, the device state
 * and the page index, with a key that only the daemon holds. A sealed file was
 * written by a daemon with this key, and its registers, devices and page table
 * are as they were. Page data is not under the seal itself: the index holds its
 * CRC32Cs, which find damage but not an attacker (docs/snapshot-format.md).
 */
#ifndef DORMOUSE_API_SEAL_H
#define DORMOUSE_API_SEAL_H

#include "../hypervisor/base/err.h"
#include "../snapshot/io.h"

struct seal; /* a key */

/* Reads the key: 64 hex digits in a file that only its owner may read. */
int seal_open(struct seal **ret, const char *path, struct err *e);
void seal_free(struct seal *s);
/* Seals a whole snapshot file; its header is written anew. Not durable yet. */
int seal_put(const struct seal *s, const struct snap_io *io, int fd, struct err *e);
/* -EKEYREJECTED unless the file was sealed with this key and is as it was then. */
int seal_check(const struct seal *s, int fd, struct err *e);

#endif
