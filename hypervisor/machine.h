// SPDX-License-Identifier: Apache-2.0
/* From an embryo to a machine, from a cold boot or a snapshot, and back to a file. */
#ifndef DORMOUSE_MACHINE_H
#define DORMOUSE_MACHINE_H

#include "devices.h"
#include "vm.h"

void machine_fds_init(struct machine_fds *fds); /* all -1 */
void machine_fds_close(struct machine_fds *fds);
/* A configuration from a message or the command line: counts and sizes in bounds? */
int machine_check(const struct ctl_machine *m, struct err *e);
/* Guest memory is mapped. Takes the descriptors that devices keep out of `fds`. */
int machine_devs(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                 const struct machine_hooks *hooks, struct err *e);

/* Touches the memory in which the usual devices of an embryo will be made. */
void machine_warm(struct vm *vm);
/* Both take what they keep out of `fds`. The embryo is of no more use when they fail. */
int machine_boot(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                 const struct machine_hooks *hooks, struct err *e);
int machine_restore(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                    const struct machine_hooks *hooks, struct err *e);
/* An image's size against what was asked for, and its host against this one. */
int machine_check_image(struct vm *vm, const struct ctl_machine *m, const struct snap_info *s,
                        struct err *e);
/* A paused machine, to an empty file. layer_fd (or -1): a memory layer to save a whole machine
 * over. */
int machine_save(struct vm *vm, int fd, bool full, int layer_fd, struct ctl_saved *ret,
                 struct err *e);
/* A stretch of a paused machine's memory, as a layer. */
int machine_save_layer(struct vm *vm, int fd, const struct ctl_layer *order, struct err *e);

/* ctl_server.c, the machine's end of the control socket (messages: ctl.h). In the jail: sends
 * CTL_READY and listens. listener: where a daemon that was started again may connect, or -1. */
int ctl_server_start(struct vm *vm, int sock, int listener, struct err *e);

#endif
