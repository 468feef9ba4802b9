// SPDX-License-Identifier: Apache-2.0
/* TCP connections by name. "localhost" and all names below it are this machine. */
#ifndef DORMOUSE_CLI_DIAL_H
#define DORMOUSE_CLI_DIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "../../hypervisor/base/err.h"

bool name_is_local(const char *host);
/* A connected, non-blocking socket. deadline as clock_ms() has it. */
int dial(const char *host, uint16_t port, int64_t deadline, int *ret_fd, struct err *e);

#endif
