// SPDX-License-Identifier: Apache-2.0
/* A hostile guest's packets and rings against vsock, with hosts that come and go. */
#include "virtio_fuzz.h"

#include <sys/socket.h>

static int ends[8] = {-1, -1, -1, -1, -1, -1, -1, -1};

static void keep(int fd)
{
    for (unsigned i = 0; i < ARRAY_LEN(ends); i++) {
        if (ends[i] < 0) {
            ends[i] = fd;
            return;
        }
    }
    close(fd);
}

static void fuzz_end(void)
{
    for (unsigned i = 0; i < ARRAY_LEN(ends); i++) {
        if (ends[i] >= 0)
            close(ends[i]);
        ends[i] = -1;
    }
}

static int on_connect(void *ctx, uint32_t guest_port, uint32_t host_port, int fd)
{
    (void)ctx;
    (void)guest_port;
    if (host_port % 5 == 4) {
        close(fd);
        return -ECONNREFUSED;
    }
    keep(fd);
    return 0;
}

static void fuzz_make(struct test_vm *t)
{
    t->hooks.vsock_connect = on_connect;
    if (tv_make(t, &virtio_vsock_ops, NULL) < 0)
        abort();
}

static bool has_room(struct test_vm *t, unsigned q)
{
    return t->q[q].desc && (uint16_t)(t->q[q].avail_idx -
                                      get_le16(tv_at(t, t->q[q].used + 2))) < TEST_QSIZE / 2;
}

/* A packet with a sound header, which plain bytes seldom make, and a place for an answer. */
static void packet(struct test_vm *t, uint8_t what)
{
    uint8_t *h = tv_at(t, TEST_BUFS + 0x20000);
    uint16_t op = what >> 2 & 7;
    bool answer = op == 2; /* RESPONSE, to one of the host's connections */
    memset(h, 0, 44);
    put_le64(h, 3);
    put_le64(h + 8, 2);
    put_le32(h + 16, answer ? what & 3 : 7u + (what & 1));
    put_le32(h + 20, answer ? 0x40000001u + (what >> 5 & 1) : 1024u + (what >> 1 & 1));
    put_le32(h + 24, what & 64 ? 3000 : 0);
    put_le16(h + 28, 1);
    put_le16(h + 30, op);
    put_le32(h + 32, what >> 5);
    put_le32(h + 36, 5000);
    struct test_buf b[2] = {{TEST_BUFS + 0x20000, 44, false}, {TEST_BUFS, 3000, false}};
    struct test_buf in = {TEST_BUFS + 0x30000, 2000, true};
    if (has_room(t, 0))
        tv_add(t, 0, &in, 1);
    tv_write(t, T_NOTIFY, 0);
    if (has_room(t, 1))
        tv_add(t, 1, b, what & 64 ? 2 : 1);
    tv_write(t, T_NOTIFY, 1);
}

static void fuzz_outside(struct test_vm *t, uint8_t what)
{
    static uint8_t data[8192];
    int *fd = &ends[what >> 2 & 7], sp[2];
    if (what & 128) {
        packet(t, what);
        return;
    }
    switch (what & 3) {
    case 0:
        if (*fd >= 0)
            (void)!send(*fd, data, (what & 0x7f) * 50u, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 1:
        if (*fd >= 0)
            (void)!recv(*fd, data, sizeof data, MSG_DONTWAIT);
        break;
    case 2:
        if (*fd >= 0 && (what & 64))
            shutdown(*fd, SHUT_WR);
        else if (*fd >= 0)
            close(take_fd(fd));
        break;
    default:
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) < 0)
            abort();
        keep(sp[1]);
        virtio_vsock_open(t->dev, what >> 2 & 3, sp[0], NULL);
        break;
    }
}
