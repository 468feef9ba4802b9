// SPDX-License-Identifier: Apache-2.0
/*
 * The two machines of an image build: the one that executes the Dockerfile and
 * the one whose snapshot becomes the image. Private to the build pipeline
 * (fleet_build.c), which has parsed and checked everything that goes in.
 */
#ifndef DORMOUSE_API_BUILD_VM_H
#define DORMOUSE_API_BUILD_VM_H

#include "../hypervisor/base/err.h"
#include "buildlog.h"
#include "dockerfile.h"
#include "fleet_priv.h"

struct build {
    struct fleet *f;
    struct build *next; /* fleet.building; jlock */
    struct store_version v;
    struct image_config config;
    struct dockerfile df;
    struct buildlog log;
    struct vmm *vmm; /* written with jlock held: the end of the daemon kills it */
    int dir;         /* images/<build id> */
    int base, disk, boot, context, console;
    uint64_t disk_size, context_size;
    uint32_t vcpus;
    uint32_t ip;                  /* of its machines, one after the other */
    uint64_t mem_bytes, admitted; /* the latter while it is counted */
    unsigned step, steps;         /* [2/5] */
    struct ctl_saved saved;
    struct layer *layer; /* below the image; NULL: none */
    const char *code;    /* what kind of failure it is, for the reason */
};

/* Executes the steps on b->base + b->disk; the layer is complete and closed to writes when it
 * returns 0. */
int build_execute(struct build *b, struct err *e);
/* Starts the application on a layer of its own (b->boot), waits until it is ready, and saves
 * disk and memory. */
int build_snapshot(struct build *b, struct err *e);
/* Restores the snapshot once and calls /validate. */
int build_validate(struct build *b, struct err *e);
/* Ends the machine that is up, if any. */
void build_stop(struct build *b);

#endif
