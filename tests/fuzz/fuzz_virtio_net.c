// SPDX-License-Identifier: Apache-2.0
/* A hostile guest against the network device; packets come and go over a socket pair. */
#include "virtio_fuzz.h"

#include <sys/socket.h>

#include "../../hypervisor/virtio_net.h"

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
    struct dev_env env = tv_env(t);
    fuzz_end();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sp) < 0)
        abort();
    struct virtio_net_config c = {.fd = sp[0], .plain = true, .limit_ops = 1000};
    peer = sp[1];
    if (virtio_net_new(&t->dev, &env, 0, &c, NULL) < 0)
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
