// SPDX-License-Identifier: Apache-2.0
/* The VMM's end of the control socket (messages: ctl.h). */
#ifndef DORMOUSE_CTL_SERVER_H
#define DORMOUSE_CTL_SERVER_H

#include "vm.h"

struct ctl_server;

/* Allocates, before the jail. listener: where a daemon that was started again may connect, or
 * -1. */
int ctl_server_new(struct ctl_server **ret, struct vm *vm, int sock, int listener,
                   struct err *e);
/* Sends CTL_READY and listens. */
int ctl_server_start(struct ctl_server *s, struct err *e);

#endif
