// SPDX-License-Identifier: Apache-2.0
/*
 * What the fleet knows of itself, for people: the operations under
 * /dormouse/v1/ ask. Reads only, and never waits for a guest.
 */
#ifndef DORMOUSE_API_FLEET_INFO_H
#define DORMOUSE_API_FLEET_INFO_H

#include <stdbool.h>
#include <stdint.h>

#include "fleet.h"
#include "fsm.h"

/* Where the time of a start or resume went, ms. total 0: there was none since the daemon was
 * started. */
struct fleet_timing {
    double total, embryo, load, guest, hook, end;
    bool pooled; /* the process was ready before */
};

struct fleet_vm_info {
    uint32_t vcpus;
    uint64_t memory_bytes;    /* of the machine at its peak; 0 = unknown */
    uint64_t disk_bytes;      /* allocated by its disk layer */
    uint64_t suspended_bytes; /* allocated by memory and disk of a suspended one, else 0 */
    struct fleet_timing start, resume;
};
/* row: as it is in the store. */
void fleet_vm_info(struct fleet *f, const struct store_vm *row, struct fleet_vm_info *ret);

struct fleet_host_info {
    unsigned slots,
        slots_in_use;           /* processes that run something, or are being made or removed */
    unsigned embryos;           /* processes that wait for something to run */
    unsigned builds;            /* under way or waiting */
    unsigned states[VM_STATES]; /* microVMs that have not ended */
    unsigned cpus;
    uint64_t disk_layers, disk_layer_bytes; /* frozen ones, of all disks and checkpoints */
    uint64_t memory_bytes, memory_in_use;   /* baselines of those that run */
};
void fleet_host_info(struct fleet *f, struct fleet_host_info *ret);

#endif
