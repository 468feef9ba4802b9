// SPDX-License-Identifier: Apache-2.0
/*
 * The api role: everything that faces the network, as one process without
 * privileges. Opens the state, listens, and serves until SIGTERM.
 */
#ifndef DORMOUSE_API_ROLE_H
#define DORMOUSE_API_ROLE_H

#include "config.h"

/* Runs the role; `sock` leads to the privileged parent. The process's exit status. */
int role_run(const struct config *c, int sock);

#endif
