// SPDX-License-Identifier: Apache-2.0
/* Makes the devices a machine is configured with, always in the same order. */
#ifndef DORMOUSE_DEV_TABLE_H
#define DORMOUSE_DEV_TABLE_H

#include "ctl.h"
#include "dev_uart.h"
#include "vm.h"

/* Descriptors of one machine; -1: not there. */
struct machine_fds {
    int kernel, initrd, console, tap;
    int snapshots[2]; /* image, session */
    int layer, workset;
    int layers[CTL_DISKS_MAX][CTL_LAYERS_MAX];
};

/* What a machine reports outwards. */
struct machine_hooks {
    /* A guest program connected to a host port; the callee owns the fd. */
    int (*vsock_connect)(void *ctx, uint32_t guest_port, uint32_t host_port, int fd);
    void *ctx;
    const char *watch; /* for uart_config */
    void (*seen)(void *ctx);
    int input_fd;
    bool interactive;
};

void machine_fds_init(struct machine_fds *fds); /* all -1 */
void machine_fds_close(struct machine_fds *fds);
/* A configuration from a message or the command line: counts and sizes in bounds? */
int machine_check(const struct ctl_machine *m, struct err *e);
/* Guest memory is mapped. Takes the descriptors that devices keep out of `fds`. */
int dev_table_make(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                   const struct machine_hooks *hooks, struct err *e);

#endif
