// SPDX-License-Identifier: Apache-2.0
/* Memory that is there before the machine: an image's, with its working set mapped. */
#ifndef DORMOUSE_VM_PREPARE_H
#define DORMOUSE_VM_PREPARE_H

#include "machine.h"

struct prepared {
    struct snap_file image;
    bool ready;
    void (*done)(struct vm *vm, void *ctx);
    void *ctx;
};

/* Of an embryo, in the I/O thread. Takes what it keeps out of `fds`; done() follows, perhaps at
 * once. After an error the embryo is of no more use. */
int machine_prepare(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                    void (*done)(struct vm *vm, void *ctx), void *ctx, struct err *e);
/* For an embryo that waits: KVM lays in pages for its tables at a vCPU's first fault, so the
 * first vCPU has one now. */
int machine_first_fault(struct vm *vm, struct err *e);
/* Which pages a restored machine has touched, to an empty file. */
int machine_workset(struct vm *vm, int fd, struct err *e);

#endif
