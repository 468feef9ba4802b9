// SPDX-License-Identifier: Apache-2.0
/*
 * Taps and their addresses by hand-written rtnetlink: no program is run per
 * microVM. Used by the privileged parent only; every input is a number it has
 * checked.
 */
#ifndef DORMOUSE_API_NETLINK_H
#define DORMOUSE_API_NETLINK_H

#include <stdint.h>

#include "../hypervisor/base/err.h"

/* A routing netlink socket for the two calls below. */
int netlink_open(int *ret_fd, struct err *e);

/* Makes tap "dm<slot>" per the address plan in priv.h and brings it up with the host's address
 * and MAC. It disappears with the last descriptor to it. */
int tap_open(int netlink, uint32_t slot, int *ret_fd, int *ret_index, struct err *e);
/* Route to a guest's address through that tap, and a permanent neighbour. */
int tap_address(int netlink, int index, uint32_t ip, struct err *e);

/* A tap that a process which is gone left; -ENOENT when there is none. */
int tap_remove(int netlink, uint32_t slot);

#endif
