// SPDX-License-Identifier: Apache-2.0
/* Generation id: 16 bytes in the system area that change with every restore, and an
 * interrupt that tells the guest to reseed. */
#ifndef DORMOUSE_DEV_VMGENID_H
#define DORMOUSE_DEV_VMGENID_H

#include "dev.h"

int dev_vmgenid_new(struct dev **ret, const struct dev_env *env, struct err *e);
/* Writes the id; guest memory is mapped, vCPUs are stopped. With `notify` (after the GIC was
 * restored) the guest hears of it. */
int dev_vmgenid_set(struct dev *d, const uint8_t id[16], bool notify, struct err *e);

#endif
