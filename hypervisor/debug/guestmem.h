// SPDX-License-Identifier: Apache-2.0
/* Guest memory by the addresses that a parked vCPU would use. I/O thread. */
#ifndef DORMOUSE_DEBUG_GUESTMEM_H
#define DORMOUSE_DEBUG_GUESTMEM_H

#include "../vm.h"

/* Copies what is mapped and RAM, up to the first byte that is not; how many bytes. A write
 * passes by the guest's own page permissions. */
size_t guest_read(struct vcpu *v, uint64_t va, void *data, size_t len);
size_t guest_write(struct vcpu *v, uint64_t va, const void *data, size_t len);

#endif
