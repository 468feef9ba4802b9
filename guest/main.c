// SPDX-License-Identifier: Apache-2.0
/*
 * dormouse-init: PID 1 of every microVM. It mounts what the kernel offers,
 * connects to the host and does what the host asks, in one loop.
 */
#include <string.h>
#include <unistd.h>

#include "init.h"

int main(void)
{
    static struct init in; /* too large for the stack; passed on as a pointer */
    int r = boot_mounts();
    if (r == 0)
        r = init_setup(&in);
    if (r < 0) {
        complain("set up: %s", strerror(-r));
        power_off();
    }
    init_connect(&in);
    loop_run(&in.loop);
    power_off();
}
