// SPDX-License-Identifier: Apache-2.0
/* Waiting that an interrupt ends; see cli.h. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli.h"

void wait_begin(struct cli *c)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    if (c->sigfd >= 0)
        return;
    c->sigfd = signalfd(-1, &set, SFD_CLOEXEC);
    if (c->sigfd >= 0 && sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
        close(c->sigfd);
        c->sigfd = -1;
    }
}

int wait_for(struct cli *c, int ms)
{
    struct pollfd p = {.fd = c->sigfd, .events = POLLIN};
    int64_t deadline = clock_ms() + ms;
    for (;;) {
        int64_t left = deadline - clock_ms();
        if (left < 0)
            return CLI_OK;
        int n = poll(&p, 1, (int)left);
        if (n > 0)
            return CLI_INTERRUPTED;
        if (n == 0 || errno != EINTR)
            return CLI_OK;
    }
}
