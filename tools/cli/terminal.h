// SPDX-License-Identifier: Apache-2.0
/* A command with a terminal in a microVM, from the terminal that we run in. */
#ifndef DORMOUSE_CLI_TERMINAL_H
#define DORMOUSE_CLI_TERMINAL_H

#include "cli.h"

/* `start` is the first message, without the window's size, which is added. An exit status; less
 * than 0: the command's own, negative. */
int terminal_run(struct cli *c, const char *path, json_t *start);

#endif
