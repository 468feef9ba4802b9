// SPDX-License-Identifier: Apache-2.0
/* Which pages of a private mapping are our own, and which are zero. */
#ifndef DORMOUSE_SNAPSHOT_MEMSCAN_H
#define DORMOUSE_SNAPSHOT_MEMSCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

bool page_is_zero(const void *page);
bool page_equal(const void *a, const void *b);
/* Sets the bit of every anonymous page (written since the mapping was made) in
 * [mem, mem+len). pagemap_fd: /proc/self/pagemap. PAGEMAP_SCAN where the kernel has it
 * (6.7), else the pagemap is read. */
int memscan_anonymous(int pagemap_fd, const void *mem, uint64_t len, uint64_t *bitmap,
                      struct err *e);
/* The same for every page that is mapped at all, anonymous or of the file. */
int memscan_present(int pagemap_fd, const void *mem, uint64_t len, uint64_t *bitmap,
                    struct err *e);
/* Only the fallback; for tests. */
int memscan_anonymous_read(int pagemap_fd, const void *mem, uint64_t len, uint64_t *bitmap,
                           struct err *e);

#endif
