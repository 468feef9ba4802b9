// SPDX-License-Identifier: Apache-2.0
/* A hostile guest against the network device; packets come and go over a socket pair. */
#include "virtio_fuzz.h"

#include <sys/socket.h>

#include "../unit/fake_tap.h"

static int peer = -1;

static void fuzz_end(void)
{
    if (peer >= 0)
        close(peer);
    peer = -1;
}

static void fuzz_make(struct test_vm *t)
{
    int sp[2];
    fuzz_end();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sp) < 0)
        abort();
    t->fds.tap = sp[0];
    t->m.net_limit_ops = 1000;
    peer = sp[1];
    if (tv_make(t, &virtio_net_ops, NULL) < 0)
        abort();
}

static void fuzz_outside(struct test_vm *t, uint8_t what)
{
    static uint8_t packet[70000];
    (void)t;
    if (what == 0xff)
        shutdown(peer, SHUT_RDWR);
    else if (what & 1)
        (void)!write(peer, packet, what * what + 1u);
    else
        (void)!read(peer, packet, sizeof packet);
}
