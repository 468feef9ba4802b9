// SPDX-License-Identifier: Apache-2.0
/* The VMM's end of the control socket (messages: ctl.h). */
#ifndef DORMOUSE_CTL_SERVER_H
#define DORMOUSE_CTL_SERVER_H

#include "vm.h"

/* In the jail: sends CTL_READY and listens. listener: where a daemon that was started again may
 * connect, or -1. */
int ctl_server_start(struct vm *vm, int sock, int listener, struct err *e);

#endif
