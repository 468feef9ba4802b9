// SPDX-License-Identifier: Apache-2.0
/* A hostile guest against the balloon, and with bit 1 of the first byte, the entropy device. */
#include "virtio_fuzz.h"

#include "../../hypervisor/virtio_balloon.h"
#include "../../hypervisor/virtio_rng.h"

static void fuzz_end(void)
{
}

static void fuzz_make(struct test_vm *t)
{
    struct dev_env env = tv_env(t);
    bool rng = fuzz_mode >= 0xfe ? fuzz_mode & 1 : fuzz_mode & 2;
    int r = rng ? virtio_rng_new(&t->dev, &env, 0, NULL)
                : virtio_balloon_new(&t->dev, &env, 0, NULL);
    if (r < 0)
        abort();
}

static void fuzz_outside(struct test_vm *t, uint8_t what)
{
    if (!(fuzz_mode & 2))
        virtio_balloon_set_target(t->dev, (uint64_t)what << 16, NULL);
}
