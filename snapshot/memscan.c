// SPDX-License-Identifier: Apache-2.0
/*
 * Finding dirty pages without dirty logging; see memscan.h. In a private file
 * mapping a written page is anonymous. The page tables tell, so the guest pays
 * nothing while it runs. (linux/Documentation/admin-guide/mm/pagemap.rst)
 */
#include "memscan.h"

#include <errno.h>
#include <linux/fs.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "../hypervisor/base/fd.h"

/* musl takes the request as int, glibc as unsigned long. */
#ifdef __GLIBC__
#define SCAN_REQUEST PAGEMAP_SCAN
#else
#define SCAN_REQUEST (int)PAGEMAP_SCAN
#endif

#define PAGE       4096u
#define REGIONS    128u
#define BATCH      512u /* entries of the pagemap at a time */
#define PM_PRESENT (1ull << 63)
#define PM_SWAPPED (1ull << 62)
#define PM_FILE    (1ull << 61)

bool page_is_zero(const void *page)
{
    const uint64_t *p = page;
    for (unsigned i = 0; i < PAGE / sizeof *p; i += 8) {
        if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] | p[i + 7])
            return false;
    }
    return true;
}

/* A small C library compares byte by byte. */
bool page_equal(const void *a, const void *b)
{
    const uint64_t *p = a, *q = b;
    for (unsigned i = 0; i < PAGE / sizeof *p; i += 8) {
        if ((p[i] ^ q[i]) | (p[i + 1] ^ q[i + 1]) | (p[i + 2] ^ q[i + 2]) |
            (p[i + 3] ^ q[i + 3]) | (p[i + 4] ^ q[i + 4]) | (p[i + 5] ^ q[i + 5]) |
            (p[i + 6] ^ q[i + 6]) | (p[i + 7] ^ q[i + 7]))
            return false;
    }
    return true;
}

static void mark(uint64_t *bitmap, uint64_t page, uint64_t end)
{
    for (; page < end; page++)
        bitmap[page / 64] |= 1ull << (page % 64);
}

static int read_all(int pagemap_fd, const void *mem, uint64_t len, uint64_t *bitmap,
                    uint64_t without, struct err *e)
{
    uint64_t entries[BATCH], first = (uintptr_t)mem / PAGE, pages = len / PAGE;
    for (uint64_t at = 0; at < pages;) {
        uint64_t n = pages - at < BATCH ? pages - at : BATCH;
        int r = fd_pread_full(pagemap_fd, entries, n * sizeof entries[0],
                              (first + at) * sizeof entries[0]);
        if (r < 0)
            return err_sys(e, -r, "read /proc/self/pagemap");
        for (uint64_t i = 0; i < n; i++) {
            bool there = (entries[i] & PM_PRESENT) && !(entries[i] & without);
            if (there || (entries[i] & PM_SWAPPED))
                mark(bitmap, at + i, at + i + 1);
        }
        at += n;
    }
    return 0;
}

int memscan_anonymous_read(int pagemap_fd, const void *mem, uint64_t len, uint64_t *bitmap,
                           struct err *e)
{
    return read_all(pagemap_fd, mem, len, bitmap, PM_FILE, e);
}

static int scan_all(int pagemap_fd, const void *mem, uint64_t len, uint64_t *bitmap,
                    bool anonymous, struct err *e)
{
    const uint64_t without = anonymous ? PM_FILE : 0;
#ifdef PAGEMAP_SCAN
    const uint64_t not_these = anonymous ? PAGE_IS_FILE | PAGE_IS_PFNZERO : 0;
    struct page_region regions[REGIONS];
    struct pm_scan_arg arg = {.size = sizeof arg,
                              .start = (uintptr_t)mem,
                              .end = (uintptr_t)mem + len,
                              .vec = (uintptr_t)regions,
                              .vec_len = REGIONS,
                              .category_inverted = not_these,
                              .category_mask = not_these,
                              .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                              .return_mask = PAGE_IS_PRESENT};
    while (arg.start < arg.end) {
        int n = ioctl(pagemap_fd, SCAN_REQUEST, &arg);
        if (n < 0 && (errno == ENOTTY || errno == EINVAL) && arg.start == (uintptr_t)mem)
            return read_all(pagemap_fd, mem, len, bitmap, without, e);
        if (n < 0)
            return err_sys(e, errno, "scan the page tables");
        for (int i = 0; i < n; i++)
            mark(bitmap, (regions[i].start - (uintptr_t)mem) / PAGE,
                 (regions[i].end - (uintptr_t)mem) / PAGE);
        if (arg.walk_end <= arg.start)
            return err_set(e, EIO, "the scan of the page tables does not advance");
        arg.start = arg.walk_end;
    }
    return 0;
#else
    return read_all(pagemap_fd, mem, len, bitmap, without, e);
#endif
}

int memscan_present(int pagemap_fd, const void *mem, uint64_t len, uint64_t *bitmap,
                    struct err *e)
{
    return scan_all(pagemap_fd, mem, len, bitmap, false, e);
}

int memscan_anonymous(int pagemap_fd, const void *mem, uint64_t len, uint64_t *bitmap,
                      struct err *e)
{
    return scan_all(pagemap_fd, mem, len, bitmap, true, e);
}
