// SPDX-License-Identifier: Apache-2.0
/* PL011 serial port: the guest's console, written to a bounded log. */
#ifndef DORMOUSE_DEV_UART_H
#define DORMOUSE_DEV_UART_H

#include "dev.h"

struct uart_config {
    int log_fd;              /* where console bytes go; kept open by the caller */
    int input_fd;            /* typed bytes, or -1 */
    uint64_t log_limit;      /* bytes written at most; 0: no limit */
    bool interactive;        /* write each byte at once, not each line */
    const char *watch;       /* call `seen` when the console prints this, or NULL */
    void (*seen)(void *ctx); /* on a vCPU thread */
    void *seen_ctx;
};

int dev_uart_new(struct dev **ret, const struct dev_env *env, const struct uart_config *c,
                 struct err *e);
/* Writes out what is buffered. */
void dev_uart_flush(struct dev *d);
/* The last bytes printed, NUL-terminated. */
void dev_uart_tail(struct dev *d, char *ret, size_t size);

#endif
