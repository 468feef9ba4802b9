// SPDX-License-Identifier: Apache-2.0
/* virtio-net with a packet socket pair in place of the tap. */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "../tap.h"
#include "fake_tap.h"
#include "vmm_double.h"

#define MRG    (1ull << 15)
#define TSO4   (1ull << 7)
#define CSUM   (1ull << 1)
#define MAC    (1ull << 5)
#define PLAIN  (TEST_F_VERSION_1 | TEST_F_EVENT_IDX | MAC)
#define HDR    12u
#define RX_AT  TEST_BUFS
#define TX_AT  (TEST_BUFS + (2u << 20))
#define RX_GAP 0x20000u

static struct test_vm t;
static int peer;

static void make(uint64_t limit_ops)
{
    int sp[2], size = 1 << 20;
    tv_vm_init(&t);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sp) == 0);
    CHECK(setsockopt(sp[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    peer = sp[1];
    fcntl(peer, F_SETFL, O_NONBLOCK);
    static const uint8_t mac[6] = {2, 0, 0, 1, 2, 3};
    t.fds.tap = sp[0];
    memcpy(t.m.mac, mac, sizeof mac);
    t.m.net_limit_ops = limit_ops;
    CHECK(tv_make(&t, &virtio_net_ops, NULL) == 0);
}

static void begin(uint64_t features)
{
    make(0);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0 && tv_activate(&t, features, 2));
}

static void end(void)
{
    close(peer);
    tv_vm_free(&t);
}

static void give(unsigned n, uint32_t size)
{
    for (unsigned i = 0; i < n; i++) {
        struct test_buf b = {RX_AT + t.q[0].next_desc * RX_GAP / 2, size, true};
        tv_add(&t, 0, &b, 1);
    }
    tv_notify(&t, 0);
}

static uint8_t packet[70000];

static void send_host(size_t len, unsigned seed)
{
    memset(packet, 0, HDR);
    for (size_t i = HDR; i < len; i++)
        packet[i] = (uint8_t)(seed + i * 7 + i / 251);
    CHECK(write(peer, packet, len) == (ssize_t)len);
}

/* The packet that was sent last arrives over `n` buffers. */
static bool arrives(size_t len, unsigned n)
{
    size_t got = 0;
    for (unsigned i = 0; i < n; i++) {
        uint32_t id, part;
        if (!tv_wait_used(&t, 0, &id, &part))
            return false;
        const uint8_t *d = mem_at(&t.mem, t.q[0].desc + 16ull * id, 16);
        uint8_t *p = tv_at(&t, get_le64(d));
        if (part > get_le32(d + 8))
            return false;
        if (i == 0 && get_le16(p + 10) != n) {
            printf("# %u buffers in the header, want %u\n", get_le16(p + 10), n);
            return false;
        }
        if (i == 0)
            put_le16(p + 10, 0);
        if (memcmp(p, packet + got, part) != 0)
            return false;
        got += part;
    }
    return got == len;
}

static bool nothing(unsigned q)
{
    uint32_t id, len;
    for (unsigned i = 0; i < 5; i++)
        tv_turn(&t, false);
    return !tv_used(&t, q, &id, &len);
}

TEST(config)
{
    begin(PLAIN);
    static const uint8_t mac[6] = {2, 0, 0, 1, 2, 3};
    for (unsigned i = 0; i < 6; i++)
        CHECK(bus_read(&t.bus, MAP_VIRTIO + 0x100 + i, 1) == mac[i]);
    CHECK(bus_read(&t.bus, MAP_VIRTIO + 0x106, 2) == 1);
    end();
}

TEST(transmit)
{
    begin(PLAIN);
    uint8_t *p = tv_at(&t, TX_AT), back[2000];
    memset(p, 0, HDR);
    for (unsigned i = HDR; i < 1000; i++)
        p[i] = (uint8_t)(i * 3);
    struct test_buf b[3] = {{TX_AT, HDR, false},
                            {TX_AT + HDR, 100, false},
                            {TX_AT + HDR + 100, 1000 - HDR - 100, false}};
    tv_add(&t, 1, b, 3);
    struct test_buf whole = {TX_AT, 1000, false};
    tv_add(&t, 1, &whole, 1);
    tv_notify(&t, 1);
    uint32_t id, len;
    for (unsigned i = 0; i < 2; i++) {
        CHECK(tv_wait_used(&t, 1, &id, &len) && len == 0);
        CHECK(read(peer, back, sizeof back) == 1000 && memcmp(back, p, 1000) == 0);
    }
    struct ctl_stats s = {0};
    t.dev->ops->stats(t.dev, &s);
    CHECK(s.net_tx_bytes == 2000 && s.net_rx_bytes == 0);
    end();
}

/* What is no packet is dropped, and handed back. */
TEST(transmit_nonsense)
{
    begin(PLAIN);
    static const struct test_buf bad[] = {{TX_AT, 1, false},
                                          {TX_AT, HDR, false},
                                          {TX_AT, HDR + 13, false},
                                          {TX_AT, 66000, false},
                                          {TX_AT, 2000, true}};
    uint32_t id, len;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        tv_add(&t, 1, &bad[i], 1);
        tv_notify(&t, 1);
        CHECK(tv_wait_used(&t, 1, &id, &len));
    }
    uint8_t c;
    CHECK(read(peer, &c, 1) < 0 && errno == EAGAIN);
    CHECK(!(tv_read(&t, T_STATUS) & 64));
    end();
}

TEST(receive)
{
    begin(PLAIN);
    send_host(100, 1); /* before there are buffers */
    CHECK(nothing(0));
    give(4, 2048);
    CHECK(arrives(100, 1));
    send_host(HDR + 1514, 2);
    CHECK(arrives(HDR + 1514, 1));
    send_host(60, 3);
    CHECK(arrives(60, 1));
    send_host(61, 4);
    CHECK(arrives(61, 1) && nothing(0));
    send_host(62, 5); /* out of buffers */
    CHECK(nothing(0));
    give(1, 2048);
    CHECK(arrives(62, 1));
    end();
}

/* Large packets over many small buffers. */
TEST(receive_merged)
{
    begin(PLAIN | MRG | TSO4 | CSUM);
    give(10, 4096);
    send_host(5000, 1);
    CHECK(nothing(0)); /* the largest packet would not fit yet */
    give(5, 16384);
    CHECK(arrives(5000, 2));
    give(1, 16384);
    send_host(65000, 2);
    CHECK(arrives(65000, 8 + 2)); /* 8 of 4096, 2 of 16384 */
    end();
}

/* Buffers too small for what may come, without merging: the driver is wrong. */
TEST(small_buffers)
{
    begin(PLAIN);
    give(1, 1000);
    CHECK(tv_read(&t, T_STATUS) & 64);
    end();
    begin(PLAIN | MRG);
    struct test_buf b = {RX_AT, 11, true}; /* not even the header */
    tv_add(&t, 0, &b, 1);
    tv_notify(&t, 0);
    CHECK(tv_read(&t, T_STATUS) & 64);
    end();
    begin(PLAIN);
    struct test_buf r = {RX_AT, 2000, false}; /* not writable */
    tv_add(&t, 0, &r, 1);
    tv_notify(&t, 0);
    CHECK(tv_read(&t, T_STATUS) & 64);
    end();
}

/* The peer is slow: packets wait in the ring and none is lost or doubled. */
TEST(backpressure)
{
    begin(PLAIN);
    int sent = 0, got = 0, size = 4608;
    struct test_buf b = {TX_AT, 1000, false};
    uint32_t id, len;
    uint8_t back[1000];
    CHECK(setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
    for (bool full = false; sent < 2000 && !full;) {
        put_le32(tv_at(&t, TX_AT) + HDR, (uint32_t)sent);
        tv_add(&t, 1, &b, 1);
        tv_notify(&t, 1);
        sent++;
        full = !tv_used(&t, 1, &id, &len);
    }
    CHECK(sent < 2000); /* the last one waits */
    for (unsigned i = 0; got < sent && i < 10000; i++) {
        if (read(peer, back, sizeof back) == 1000) {
            CHECK(get_le32(back + HDR) == (uint32_t)got);
            got++;
        }
        tv_turn(&t, false);
    }
    CHECK(got == sent && tv_used(&t, 1, &id, &len));
    end();
}

TEST(snapshot)
{
    struct dstate_writer w;
    begin(PLAIN | MRG);
    give(6, 2048);
    send_host(100, 1);
    CHECK(arrives(100, 1));
    CHECK(tv_quiesce(&t) && tv_save(&t, &w, NULL) == 0);
    send_host(200, 2);
    CHECK(nothing(0));
    t.dev->ops->resume(t.dev); /* goes on here … */
    CHECK(arrives(200, 1));
    struct test_vm old = t;
    int old_peer = peer;
    make(0);
    memcpy(t.mem.host, old.mem.host, TEST_RAM);
    memcpy(t.q, old.q, sizeof t.q);
    /* … and, as if the second packet had not been, there. */
    t.q[0].used_idx = 1;
    put_le16(tv_at(&t, t.q[0].used + 2), 1);
    CHECK(tv_load(&t, w.b.data, w.b.len, NULL) == 0);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0);
    send_host(300, 3);
    CHECK(arrives(300, 1));
    buf_free(&w.b);
    end();
    close(old_peer);
    tv_vm_free(&old);
}

TEST(limit)
{
    make(20);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0 && tv_activate(&t, PLAIN, 2));
    struct test_buf b = {TX_AT, 100, false};
    uint32_t id, len;
    struct timespec a, z;
    for (unsigned i = 0; i < 20; i++) {
        tv_add(&t, 1, &b, 1);
        tv_notify(&t, 1);
        CHECK(tv_wait_used(&t, 1, &id, &len));
    }
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (unsigned i = 0; i < 4; i++) {
        tv_add(&t, 1, &b, 1);
        tv_notify(&t, 1);
        CHECK(tv_wait_used(&t, 1, &id, &len));
    }
    clock_gettime(CLOCK_MONOTONIC, &z);
    CHECK((z.tv_sec - a.tv_sec) * 1000 + (z.tv_nsec - a.tv_nsec) / 1000000 >= 100);
    end();
}

/* The other end goes away: no busy loop, no harm. */
TEST(gone)
{
    begin(PLAIN);
    give(4, 2048);
    close(peer);
    for (unsigned i = 0; i < 10; i++)
        tv_turn(&t, false);
    struct test_buf b = {TX_AT, 100, false};
    uint32_t id, len;
    signal(SIGPIPE, SIG_IGN);
    tv_add(&t, 1, &b, 1);
    tv_notify(&t, 1);
    CHECK(tv_wait_used(&t, 1, &id, &len));
    peer = -1;
    tv_vm_free(&t);
}

TEST(needs_a_tap)
{
    tv_vm_init(&t);
    struct err e = ERR_INIT;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    t.fds.tap = fd;
    CHECK(tv_make(&t, &virtio_net_ops, &e) < 0 && e.hint[0]);
    CHECK(fcntl(fd, F_GETFD) < 0);
    t.dev = NULL;
    tv_vm_free(&t);
}

int main(void)
{
    RUN(config);
    RUN(transmit);
    RUN(transmit_nonsense);
    RUN(receive);
    RUN(receive_merged);
    RUN(small_buffers);
    RUN(backpressure);
    RUN(snapshot);
    RUN(limit);
    RUN(gone);
    RUN(needs_a_tap);
    return TAP_DONE();
}
