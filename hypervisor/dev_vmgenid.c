// SPDX-License-Identifier: Apache-2.0
/*
 * VMGenID by device tree ("microsoft,vmgenid"): the guest's driver maps the page
 * as a device, reads it at boot, and compares it when the interrupt comes. The
 * page lies outside the memory node, so nothing else in the guest uses it.
 */
#include <errno.h>
#include <string.h>

#include "devices.h"

#define ID_BYTES 16u

const struct dev_ops dev_vmgenid_ops = {
    .name = "vmgenid",
    .size = sizeof(struct dev),
    .base = MEM_VMGENID,
    .len = ID_BYTES,
    .spi = SPI_VMGENID,
    DEV_NODE("vmgenid", "microsoft,vmgenid"),
};

int dev_vmgenid_set(struct dev *d, const uint8_t id[16], bool notify, struct err *e)
{
    void *p = mem_at(d->env.mem, MEM_VMGENID, ID_BYTES);
    if (!p)
        return err_set(e, EINVAL, "no memory for the generation id");
    memcpy(p, id, ID_BYTES);
    /* The guest may read past the caches. */
    __asm__ volatile("dc cvac, %0\n\tdsb ish" : : "r"(p) : "memory");
    if (notify)
        dev_interrupt(d);
    return 0;
}
