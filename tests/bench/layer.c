// SPDX-License-Identifier: Apache-2.0
/* See layer.h. */
#include "layer.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../hypervisor/base/num.h"
#include "../../snapshot/snaplayer.h"

#define TEXT_LEN 0x710000ull /* up to __init_begin of the kernel's System.map */

static uint8_t *map_layer(int fd)
{
    void *p = mmap(NULL, LAYER_DATA + TEXT_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

int layer_make(bool (*write_it)(void *ctx, const struct ctl_layer *l, int fd), void *ctx)
{
    const struct ctl_layer l = {.gpa = CTL_KERNEL, .len = TEXT_LEN, .kernel = 1};
    struct layer_info info;
    int fd = memfd_create("layer", MFD_CLOEXEC);
    int shmem = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_WRONLY | O_CLOEXEC);
    if (shmem >= 0) {
        ssize_t n = write(shmem, "advise", 6); /* without it pages are small */
        (void)n;
        close(shmem);
    }
    uint8_t *p = fd >= 0 && ftruncate(fd, LAYER_DATA + TEXT_LEN) == 0 ? map_layer(fd) : NULL;
    bool ok = p != NULL;
    if (ok) {
        madvise(p + LAYER_DATA, align_down(TEXT_LEN, 2u << 20), MADV_HUGEPAGE);
        memset(p + LAYER_DATA, 1, TEXT_LEN);
        ok = write_it(ctx, &l, fd) && layer_read(fd, &info, NULL) == 0;
    }
    if (ok) {
        memset(info.is.id, 1, sizeof info.is.id);
        layer_build(&info, p);
    }
    if (p)
        munmap(p, LAYER_DATA + TEXT_LEN);
    if (!ok && fd >= 0)
        close(fd);
    return ok ? fd : -1;
}
