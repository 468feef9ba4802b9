// SPDX-License-Identifier: Apache-2.0
/* A hostile guest against the block device over a base and two layers. */
#include "virtio_fuzz.h"

#include "../../snapshot/overlay.h"

#define DISK (64u * 4096u)

static int disk_file(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

static void fuzz_make(struct test_vm *t)
{
    int *fds = t->fds.layers[0];
    t->m.disks[0] = (struct ctl_disk){.nlayers = 3, .size = DISK};
    fds[0] = disk_file("base");
    if (ftruncate(fds[0], DISK - 1000) < 0)
        abort();
    for (unsigned i = 1; i < 3; i++) {
        fds[i] = disk_file("layer");
        if (overlay_create(fds[i], DISK, NULL) < 0)
            abort();
    }
    if (tv_make(t, &virtio_blk_ops, NULL) < 0)
        abort();
}

static void fuzz_outside(struct test_vm *t, uint8_t what)
{
    /* A whole request, so that deep paths are near: type and sector from one byte. */
    static const uint8_t types[] = {0, 1, 4, 8, 11, 13, 1, 13};
    uint8_t *h = tv_at(t, TEST_BUFS);
    memset(h, 0, 64);
    put_le32(h, types[what % 8]);
    put_le64(h + 8, what / 8u * 7u);
    put_le64(h + 16, what / 8u * 5u);
    put_le32(h + 24, what);
    if (!t->q[0].desc)
        return;
    bool in = types[what % 8] == 0 || types[what % 8] == 8;
    struct test_buf b[3] = {
        {TEST_BUFS, 16, false},
        {TEST_BUFS + 16, types[what % 8] > 8 ? 16u : 512u * (1 + what % 5), in},
        {TEST_BUFS + 0x8000, 1, true}};
    if (types[what % 8] == 4)
        b[1] = b[2];
    tv_add(t, 0, b, types[what % 8] == 4 ? 2 : 3);
    tv_write(t, T_NOTIFY, 0);
}

static void fuzz_end(void)
{
}
