// SPDX-License-Identifier: Apache-2.0
/*
 * VMGenID by device tree ("microsoft,vmgenid"): the guest's driver maps the page
 * as a device, reads it at boot, and compares it when the interrupt comes. The
 * page lies outside the memory node, so nothing else in the guest uses it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices.h"

#define ID_BYTES 16u

static const struct dev_ops ops = {.name = "vmgenid", DEV_NODE("vmgenid", "microsoft,vmgenid")};

int dev_vmgenid_new(struct dev **ret, struct dev_order *o, struct err *e)
{
    *ret = calloc(1, sizeof **ret);
    if (!*ret)
        return err_sys(e, ENOMEM, "make the generation id");
    return dev_init(*ret, &ops, &o->env, MEM_VMGENID, ID_BYTES, SPI_VMGENID, e);
}

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
