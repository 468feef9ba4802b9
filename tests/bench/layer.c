// SPDX-License-Identifier: Apache-2.0
/* See layer.h. */
#include "layer.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../hypervisor/base/num.h"
#include "../../snapshot/kerneltext.h"
#include "../../snapshot/snaplayer.h"
#include "bench.h"

static uint8_t *map_layer(int fd, uint64_t text)
{
    void *p = mmap(NULL, LAYER_DATA + text, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

int layer_make(bool (*write_it)(void *ctx, const struct ctl_layer *l, int fd), void *ctx)
{
    uint64_t text = kernel_text_len(setup.kernel);
    const struct ctl_layer l = {.gpa = CTL_KERNEL, .len = text, .kernel = 1};
    struct layer_info info;
    int fd = memfd_create("layer", MFD_CLOEXEC);
    int shmem = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_WRONLY | O_CLOEXEC);
    if (shmem >= 0) {
        ssize_t n = write(shmem, "advise", 6); /* without it pages are small */
        (void)n;
        close(shmem);
    }
    uint8_t *p =
        fd >= 0 && ftruncate(fd, (off_t)(LAYER_DATA + text)) == 0 ? map_layer(fd, text) : NULL;
    bool ok = p && text;
    if (ok) {
        madvise(p + LAYER_DATA, align_down(text, 2u << 20), MADV_HUGEPAGE);
        memset(p + LAYER_DATA, 1, text);
        ok = write_it(ctx, &l, fd) && layer_read(fd, &info, NULL) == 0;
    }
    if (ok) {
        memset(info.is.id, 1, sizeof info.is.id);
        layer_build(&info, p);
    }
    if (p)
        munmap(p, LAYER_DATA + text);
    if (!ok && fd >= 0)
        close(fd);
    return ok ? fd : -1;
}
