// SPDX-License-Identifier: Apache-2.0
/* A hostile guest against the balloon, and with bit 1 of the first byte, the entropy device. */
#include "virtio_fuzz.h"

static void fuzz_end(void)
{
}

static void fuzz_make(struct test_vm *t)
{
    bool rng = fuzz_mode >= 0xfe ? fuzz_mode & 1 : fuzz_mode & 2;
    if (tv_make(t, rng ? &virtio_rng_ops : &virtio_balloon_ops, NULL) < 0)
        abort();
}

static void fuzz_outside(struct test_vm *t, uint8_t what)
{
    if (!(fuzz_mode & 2))
        virtio_balloon_set_target(t->dev, (uint64_t)what << 16, NULL);
}
