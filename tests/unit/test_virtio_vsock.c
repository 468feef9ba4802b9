// SPDX-License-Identifier: Apache-2.0
/* virtio-vsock: a guest made of packets on one side, sockets on the other. */
#include <fcntl.h>
#include <sys/socket.h>

#include "../../guest/abi/proto.h"
#include "../tap.h"
#include "vmm_double.h"

#define FEATURES (TEST_F_VERSION_1 | TEST_F_EVENT_IDX)
#define CID      3u
#define RXBUF    4096u
#define RX_AT    TEST_BUFS
#define TX_AT    (TEST_BUFS + (1u << 20))

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

static struct test_vm t;

/* What the machine was told of. */
static struct {
    int fd, refuse;
    uint32_t guest_port, host_port;
    unsigned calls;
} told;

static int on_connect(void *ctx, uint32_t guest_port, uint32_t host_port, int fd)
{
    (void)ctx;
    told.calls++;
    told.guest_port = guest_port;
    told.host_port = host_port;
    if (told.refuse) {
        close(fd);
        return -ECONNREFUSED;
    }
    told.fd = fd;
    return 0;
}

static void make(void)
{
    memset(&told, 0, sizeof told);
    told.fd = -1;
    tv_vm_init(&t);
    t.hooks.vsock_connect = on_connect;
    CHECK(tv_make(&t, &virtio_vsock_ops, NULL) == 0);
}

/* n receive buffers */
static void give(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned slot = t.q[0].avail_idx % TEST_QSIZE;
        struct test_buf b = {RX_AT + slot * RXBUF, RXBUF, true};
        tv_add(&t, 0, &b, 1);
    }
    tv_notify(&t, 0);
}

static void begin(void)
{
    make();
    CHECK(t.dev->ops->start(t.dev, NULL) == 0 && tv_activate(&t, FEATURES, 3));
    give(8);
}

struct packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, alloc, fwd;
    uint8_t data[RXBUF];
};

/* Sends from the guest; `claim` is the length in the header, `len` what is there. */
static void send_raw(const struct packet *p, const void *data, uint32_t len)
{
    uint8_t *h = tv_at(&t, TX_AT);
    put_le64(h, p->src_cid);
    put_le64(h + 8, p->dst_cid);
    put_le32(h + 16, p->src_port);
    put_le32(h + 20, p->dst_port);
    put_le32(h + 24, p->len);
    put_le16(h + 28, p->type);
    put_le16(h + 30, p->op);
    put_le32(h + 32, p->flags);
    put_le32(h + 36, p->alloc);
    put_le32(h + 40, p->fwd);
    if (len)
        memcpy(h + 44, data, len);
    struct test_buf b[2] = {{TX_AT, 44, false}, {TX_AT + 44, len, false}};
    tv_add(&t, 1, b, len ? 2 : 1);
    tv_notify(&t, 1);
    uint32_t id, n;
    CHECK(tv_wait_used(&t, 1, &id, &n));
}

static uint32_t alloc_ = 65536, fwd_;

static void send_op(uint16_t op, uint32_t port, uint32_t host_port, const void *data,
                    uint32_t len)
{
    struct packet p = {.src_cid = CID,
                       .dst_cid = 2,
                       .src_port = port,
                       .dst_port = host_port,
                       .len = len,
                       .type = 1,
                       .op = op,
                       .flags = op == SHUTDOWN ? 3 : 0,
                       .alloc = alloc_,
                       .fwd = fwd_};
    send_raw(&p, data, len);
}

/* Receives in the guest; false when nothing comes. The buffer goes back. */
static bool recv_packet(struct packet *p)
{
    uint32_t id, len;
    bool got = false;
    for (unsigned i = 0; i < 40 && !got; i++) {
        got = tv_used(&t, 0, &id, &len);
        if (!got) {
            tv_turn(&t, false);
            usleep(200);
        }
    }
    if (!got)
        return false;
    const uint8_t *d = mem_at(&t.mem, t.q[0].desc + 16ull * id, 16);
    const uint8_t *h = tv_at(&t, get_le64(d));
    memset(p, 0, sizeof *p);
    p->src_cid = get_le64(h);
    p->dst_cid = get_le64(h + 8);
    p->src_port = get_le32(h + 16);
    p->dst_port = get_le32(h + 20);
    p->len = get_le32(h + 24);
    p->type = get_le16(h + 28);
    p->op = get_le16(h + 30);
    p->flags = get_le32(h + 32);
    p->alloc = get_le32(h + 36);
    p->fwd = get_le32(h + 40);
    CHECK(len == 44 + p->len && p->len <= RXBUF - 44 && p->src_cid == 2 && p->dst_cid == CID);
    memcpy(p->data, h + 44, p->len);
    give(1);
    return true;
}

static bool expect(uint16_t op, uint32_t port, uint32_t host_port)
{
    struct packet p;
    if (!recv_packet(&p)) {
        printf("# no packet, expected op %u\n", op);
        return false;
    }
    if (p.op != op || p.dst_port != port || p.src_port != host_port) {
        printf("# got op %u %u<-%u, expected op %u %u<-%u\n", p.op, p.dst_port, p.src_port, op,
               port, host_port);
        return false;
    }
    return true;
}

static bool nothing(void)
{
    struct packet p;
    return !recv_packet(&p);
}

/* A connection from the guest; returns the host's end. */
static int connect_guest(uint32_t port, uint32_t host_port)
{
    send_op(REQUEST, port, host_port, NULL, 0);
    CHECK(expect(RESPONSE, port, host_port));
    CHECK(told.guest_port == port && told.host_port == host_port && told.fd >= 0);
    int fd = told.fd;
    told.fd = -1;
    return fd;
}

TEST(guest_connects)
{
    begin();
    CHECK(tv_read(&t, 0x100) == CID);
    int fd = connect_guest(5000, 1024);
    char buf[100];
    send_op(RW, 5000, 1024, "hello", 5);
    CHECK(read(fd, buf, sizeof buf) == 5 && memcmp(buf, "hello", 5) == 0);
    CHECK(write(fd, "world!", 6) == 6);
    struct packet p;
    CHECK(recv_packet(&p) && p.op == RW && p.len == 6 && memcmp(p.data, "world!", 6) == 0);
    CHECK(p.alloc == 65536 && p.fwd == 5 && p.type == 1 && p.dst_port == 5000);
    send_op(CREDIT_REQUEST, 5000, 1024, NULL, 0);
    CHECK(expect(CREDIT_UPDATE, 5000, 1024));
    /* The guest closes: all it sent arrives, then the end, and it gets its RST. */
    send_op(RW, 5000, 1024, "bye", 3);
    send_op(SHUTDOWN, 5000, 1024, NULL, 0);
    CHECK(expect(RST, 5000, 1024));
    CHECK(read(fd, buf, sizeof buf) == 3 && read(fd, buf, sizeof buf) == 0);
    close(fd);
    tv_vm_free(&t);
}

TEST(host_connects)
{
    begin();
    int sp[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) == 0);
    CHECK(virtio_vsock_open(t.dev, 1026, sp[0], NULL) == 0);
    struct packet p;
    CHECK(recv_packet(&p) && p.op == REQUEST && p.dst_port == 1026);
    uint32_t port = p.src_port;
    CHECK(write(sp[1], "early", 5) == 5 && nothing()); /* not before the answer */
    send_op(RESPONSE, 1026, port, NULL, 0);
    CHECK(recv_packet(&p) && p.op == RW && memcmp(p.data, "early", 5) == 0);
    CHECK(nothing());
    CHECK(write(sp[1], "late", 4) == 4);
    CHECK(recv_packet(&p) && p.op == RW && memcmp(p.data, "late", 4) == 0);
    /* The host's end of its direction, then of both. */
    CHECK(shutdown(sp[1], SHUT_WR) == 0);
    CHECK(recv_packet(&p) && p.op == SHUTDOWN && p.flags == 2);
    send_op(RW, 1026, port, "answer", 6);
    char buf[10];
    CHECK(read(sp[1], buf, 10) == 6);
    close(sp[1]);
    CHECK(recv_packet(&p) && p.op == SHUTDOWN && p.flags == 3);
    send_op(RST, 1026, port, NULL, 0);
    CHECK(nothing());
    send_op(RW, 1026, port, "x", 1); /* it is gone */
    CHECK(expect(RST, 1026, port));
    tv_vm_free(&t);
}

TEST(host_refused)
{
    begin();
    int sp[2];
    char c;
    struct packet p;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) == 0);
    CHECK(virtio_vsock_open(t.dev, 9, sp[0], NULL) == 0);
    CHECK(recv_packet(&p) && p.op == REQUEST);
    send_op(RST, 9, p.src_port, NULL, 0);
    tv_turn(&t, false);
    CHECK(read(sp[1], &c, 1) == 0);
    close(sp[1]);
    /* The host gives up before the guest has answered. */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) == 0);
    CHECK(virtio_vsock_open(t.dev, 9, sp[0], NULL) == 0);
    CHECK(recv_packet(&p) && p.op == REQUEST);
    close(sp[1]);
    CHECK(expect(RST, 9, p.src_port));
    send_op(RESPONSE, 9, p.src_port, NULL, 0);
    CHECK(expect(RST, 9, p.src_port));
    tv_vm_free(&t);
    /* No driver: an error at once. */
    make();
    struct err e = ERR_INIT;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) == 0);
    CHECK(virtio_vsock_open(t.dev, 9, sp[0], &e) == -ENOTCONN);
    CHECK(read(sp[1], &c, 1) == 0);
    close(sp[1]);
    tv_vm_free(&t);
}

TEST(refuses_guest)
{
    begin();
    told.refuse = 1;
    send_op(REQUEST, 1, 4711, NULL, 0);
    CHECK(expect(RST, 1, 4711) && told.calls == 1);
    told.refuse = 0;
    /* The same ports twice: confused, both go. */
    int fd = connect_guest(1, 1024);
    send_op(REQUEST, 1, 1024, NULL, 0);
    CHECK(expect(RST, 1, 1024));
    char c;
    tv_turn(&t, false);
    CHECK(read(fd, &c, 1) == 0);
    close(fd);
    tv_vm_free(&t);
}

TEST(nonsense)
{
    begin();
    int fd = connect_guest(5, 1024);
    const struct packet good = {
        .src_cid = CID, .dst_cid = 2, .src_port = 5, .dst_port = 1024, .type = 1, .op = RW};
    struct packet p = good;
    p.src_cid = 99; /* foreign addresses: ignored */
    send_raw(&p, NULL, 0);
    p = good;
    p.dst_cid = CID;
    send_raw(&p, NULL, 0);
    CHECK(nothing());
    static const uint16_t ops[] = {RW, RESPONSE, SHUTDOWN, CREDIT_UPDATE, CREDIT_REQUEST,
                                   0,  77};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) { /* no such connection */
        send_op(ops[i], 6, 1024, NULL, 0);
        CHECK(expect(RST, 6, 1024));
    }
    send_op(RST, 6, 1024, NULL, 0);
    CHECK(nothing());
    p = good; /* another type: refused in kind */
    p.type = 2;
    send_raw(&p, NULL, 0);
    struct packet r;
    CHECK(recv_packet(&r) && r.op == RST && r.type == 2);
    /* Longer than what is there; at most data of the packet counts. */
    p = good;
    p.len = 6;
    send_raw(&p, "12345", 5);
    CHECK(expect(RST, 5, 1024));
    p.len = UINT32_MAX;
    send_raw(&p, "12345", 5);
    CHECK(expect(RST, 5, 1024));
    char buf[20];
    CHECK(recv(fd, buf, 20, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    p.len = 3;
    send_raw(&p, "12345", 5);
    CHECK(read(fd, buf, 20) == 3);
    send_op(0, 5, 1024, NULL, 0); /* an operation that is none ends it */
    CHECK(expect(RST, 5, 1024));
    close(fd);
    /* A packet shorter than its header. */
    struct test_buf b = {TX_AT, 43, false};
    tv_add(&t, 1, &b, 1);
    tv_notify(&t, 1);
    uint32_t id, n;
    CHECK(tv_wait_used(&t, 1, &id, &n) && nothing());
    CHECK(!(tv_read(&t, T_STATUS) & 64));
    tv_vm_free(&t);
}

TEST(credit_of_guest)
{
    begin();
    alloc_ = 10000;
    fwd_ = 0;
    int fd = connect_guest(5, 1024);
    char data[20000], back[20000];
    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 31);
    CHECK(write(fd, data, sizeof data) == sizeof data);
    struct packet p;
    uint32_t got = 0;
    while (recv_packet(&p)) {
        CHECK(p.op == RW);
        memcpy(back + got, p.data, p.len);
        got += p.len;
    }
    CHECK(got == 10000); /* not a byte more than the guest has room for */
    fwd_ = 6000;
    send_op(CREDIT_UPDATE, 5, 1024, NULL, 0);
    while (recv_packet(&p)) {
        memcpy(back + got, p.data, p.len);
        got += p.len;
    }
    CHECK(got == 16000);
    fwd_ = 20000; /* more than was sent: room that makes no sense */
    alloc_ = 100;
    send_op(CREDIT_UPDATE, 5, 1024, NULL, 0);
    CHECK(nothing());
    fwd_ = 16000;
    alloc_ = 65536;
    send_op(CREDIT_UPDATE, 5, 1024, NULL, 0);
    while (recv_packet(&p)) {
        memcpy(back + got, p.data, p.len);
        got += p.len;
    }
    CHECK(got == sizeof data && memcmp(data, back, sizeof data) == 0);
    fwd_ = 0;
    close(fd);
    tv_vm_free(&t);
}

TEST(credit_of_host)
{
    begin();
    int fd = connect_guest(5, 1024);
    static char data[16384];
    static char all[1 << 20];
    size_t sent = 0, got = 0;
    uint32_t fwd = 0;
    struct packet p;
    /* The host does not read: the guest may fill our buffer and the socket's, no more. */
    for (unsigned i = 0; i < 64; i++) {
        while (recv_packet(&p))
            fwd = p.fwd;
        if (65536 - (sent - fwd) < sizeof data)
            break;
        for (unsigned k = 0; k < sizeof data; k++)
            data[k] = (char)((sent + k) * 7 / 3);
        send_op(RW, 5, 1024, data, sizeof data);
        sent += sizeof data;
    }
    CHECK(sent >= 65536 && sent < 1 << 20 && fwd < sent);
    /* It reads: everything arrives in order, and room is told. */
    while (got < sent) {
        ssize_t n = recv(fd, all + got, sizeof all - got, MSG_DONTWAIT);
        if (n > 0)
            got += (size_t)n;
        else
            tv_turn(&t, true);
    }
    unsigned bad = 0;
    for (size_t i = 0; i < sent; i++)
        bad += all[i] != (char)(i * 7 / 3);
    CHECK(got == sent && bad == 0);
    while (recv_packet(&p))
        fwd = p.fwd;
    CHECK(sent - fwd < 16384 + 1);
    /* Beyond the credit: RST. */
    for (unsigned i = 0; i < 64 && recv(fd, all, 1, MSG_DONTWAIT) < 0; i++) {
        send_op(RW, 5, 1024, data, sizeof data);
        if (recv_packet(&p) && p.op == RST)
            break;
        send_op(RW, 5, 1024, data, sizeof data);
        if (recv_packet(&p) && p.op == RST)
            break;
    }
    close(fd);
    tv_vm_free(&t);
}

TEST(over_credit)
{
    begin();
    int fd = connect_guest(5, 1024);
    int small = 1;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    static char data[32768];
    struct packet p;
    bool reset = false;
    for (unsigned i = 0; i < 100 && !reset; i++) {
        send_op(RW, 5, 1024, data, sizeof data);
        while (!reset && recv_packet(&p))
            reset = p.op == RST;
    }
    CHECK(reset);
    close(fd);
    tv_vm_free(&t);
}

TEST(no_receive_buffers)
{
    make();
    CHECK(t.dev->ops->start(t.dev, NULL) == 0 && tv_activate(&t, FEATURES, 3));
    for (uint32_t i = 0; i < 600; i++) { /* more resets than are remembered: it stops taking */
        struct packet p = {.src_cid = CID, .dst_cid = 2, .src_port = i, .type = 1, .op = RW};
        uint8_t *h = tv_at(&t, TX_AT);
        memset(h, 0, 44);
        put_le64(h, p.src_cid);
        put_le64(h + 8, 2);
        put_le32(h + 16, i);
        put_le16(h + 28, 1);
        put_le16(h + 30, RW);
        struct test_buf b = {TX_AT, 44, false};
        uint32_t id, n;
        tv_add(&t, 1, &b, 1);
        tv_notify(&t, 1);
        if (!tv_used(&t, 1, &id, &n)) {
            CHECK(i > 400 && i < 600);
            break;
        }
        CHECK(i < 599);
    }
    unsigned resets = 0;
    struct packet p;
    give(8);
    while (recv_packet(&p))
        resets += p.op == RST;
    CHECK(resets > 500); /* all of them, and the one that waited */
    tv_vm_free(&t);
}

TEST(small_receive_buffer)
{
    make();
    CHECK(t.dev->ops->start(t.dev, NULL) == 0 && tv_activate(&t, FEATURES, 3));
    struct test_buf b = {RX_AT, 43, true};
    tv_add(&t, 0, &b, 1);
    tv_notify(&t, 0);
    send_op(RW, 1, 1, NULL, 0);
    CHECK(tv_read(&t, T_STATUS) & 64);
    tv_vm_free(&t);
}

TEST(reset)
{
    begin();
    int fd = connect_guest(5, 1024);
    char c;
    tv_reset(&t);
    tv_turn(&t, false);
    CHECK(read(fd, &c, 1) == 0);
    close(fd);
    CHECK(tv_activate(&t, FEATURES, 3));
    give(8);
    fd = connect_guest(5, 1024);
    close(fd);
    tv_vm_free(&t);
}

TEST(many)
{
    begin();
    int fds[300], n = 0;
    for (uint32_t i = 0; i < 300; i++) {
        send_op(REQUEST, 10000 + i, 1024, NULL, 0);
        struct packet p;
        CHECK(recv_packet(&p));
        if (p.op != RESPONSE) {
            CHECK(p.op == RST);
            break;
        }
        fds[n++] = told.fd;
        told.fd = -1;
    }
    CHECK(n == 256);
    for (int i = 0; i < n; i++)
        close(fds[i]);
    for (int i = 0; i < n; i++) {
        struct packet p;
        CHECK(recv_packet(&p) && p.op == SHUTDOWN && p.flags == 3);
        send_op(RST, p.dst_port, 1024, NULL, 0);
    }
    tv_turn(&t, false);
    int fd = connect_guest(5, 1024); /* places are free again */
    close(fd);
    tv_vm_free(&t);
}

/* ---- snapshots ----------------------------------------------------------------------------
 */

/* Takes the device into a new machine. */
static void move(bool load_ok)
{
    struct dstate_writer w;
    struct err e = ERR_INIT;
    CHECK(tv_quiesce(&t));
    CHECK(tv_save(&t, &w, &e) == 0);
    struct test_vm old = t;
    make();
    memcpy(t.mem.host, old.mem.host, TEST_RAM);
    memcpy(t.q, old.q, sizeof t.q);
    if (!CHECK((tv_load(&t, w.b.data, w.b.len, &e) == 0) == load_ok))
        printf("# %s\n", e.msg);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0);
    tv_turn(&t, false);
    tv_vm_free(&old);
    buf_free(&w.b);
}

TEST(survives)
{
    begin();
    char buf[100];
    int fd = connect_guest(5, GP_PORT_CONTROL);
    send_op(RW, 5, GP_PORT_CONTROL, "one", 3);
    CHECK(read(fd, buf, sizeof buf) == 3);
    move(true);
    CHECK(read(fd, buf, sizeof buf) == 0); /* the old machine is gone */
    close(fd);
    CHECK(told.calls == 1 && told.guest_port == 5 && told.host_port == GP_PORT_CONTROL);
    fd = told.fd;
    struct packet p;
    CHECK(recv_packet(&p) && p.op == CREDIT_UPDATE && p.fwd == 3);
    send_op(RW, 5, GP_PORT_CONTROL, "two", 3);
    CHECK(read(fd, buf, sizeof buf) == 3 && memcmp(buf, "two", 3) == 0);
    CHECK(write(fd, "three", 5) == 5);
    CHECK(recv_packet(&p) && p.op == RW && p.len == 5 && p.fwd == 6);
    move(true); /* again */
    close(fd);
    fd = told.fd;
    CHECK(expect(CREDIT_UPDATE, 5, GP_PORT_CONTROL));
    CHECK(write(fd, "four", 4) == 4);
    CHECK(recv_packet(&p) && p.op == RW && p.len == 4);
    close(fd);
    tv_vm_free(&t);
}

/* Bytes under way in both directions at the moment of the snapshot. */
TEST(bytes_under_way)
{
    begin();
    static char data[16384], all[1 << 20];
    char back[8000];
    struct packet p;
    uint32_t fwd = 0;
    size_t sent = 0, got = 0;
    alloc_ = 1000;
    int fd = connect_guest(5, GP_PORT_LOG);
    for (unsigned i = 0; i < 64; i++) { /* until the device has to keep some */
        while (recv_packet(&p))
            fwd = p.fwd;
        if (65536 - (sent - fwd) < sizeof data)
            break;
        for (unsigned k = 0; k < sizeof data; k++)
            data[k] = (char)((sent + k) * 7 / 3);
        send_op(RW, 5, GP_PORT_LOG, data, sizeof data);
        sent += sizeof data;
    }
    for (unsigned i = 0; i < sizeof back; i++)
        back[i] = (char)(i * 31);
    CHECK(write(fd, back, sizeof back) == sizeof back);
    size_t to_guest = 0;
    char seen[8000];
    while (recv_packet(&p) && p.op == RW) {
        memcpy(seen + to_guest, p.data, p.len);
        to_guest += p.len;
    }
    CHECK(to_guest == 1000);
    ssize_t n;
    /* What the host's old socket holds is the host's; the rest comes on the new one. */
    int old_fd = fd;
    move(true);
    fd = told.fd;
    while ((n = recv(old_fd, all + got, sizeof all - got, MSG_DONTWAIT)) > 0)
        got += (size_t)n;
    CHECK(got < sent);
    close(old_fd);
    while (got < sent) {
        n = recv(fd, all + got, sizeof all - got, MSG_DONTWAIT);
        if (n > 0)
            got += (size_t)n;
        else
            tv_turn(&t, true);
    }
    unsigned bad = 0;
    for (size_t i = 0; i < sent; i++)
        bad += all[i] != (char)(i * 7 / 3);
    CHECK(bad == 0);
    alloc_ = 65536;
    send_op(CREDIT_UPDATE, 5, GP_PORT_LOG, NULL, 0);
    while (recv_packet(&p)) {
        if (p.op != RW)
            continue;
        memcpy(seen + to_guest, p.data, p.len);
        to_guest += p.len;
    }
    CHECK(to_guest == sizeof back && memcmp(seen, back, sizeof back) == 0);
    close(fd);
    tv_vm_free(&t);
}

/* The same, but the machine goes on instead of being moved. */
TEST(save_and_go_on)
{
    begin();
    struct dstate_writer w;
    struct packet p;
    alloc_ = 10;
    int fd = connect_guest(5, GP_PORT_LOG);
    CHECK(write(fd, "0123456789abcdef", 16) == 16);
    CHECK(recv_packet(&p) && p.len == 10);
    CHECK(tv_quiesce(&t) && tv_save(&t, &w, NULL) == 0);
    buf_free(&w.b);
    t.dev->ops->resume(t.dev);
    CHECK(write(fd, "XYZ", 3) == 3);
    alloc_ = 65536;
    send_op(CREDIT_UPDATE, 5, GP_PORT_LOG, NULL, 0);
    CHECK(recv_packet(&p) && p.len == 6 && memcmp(p.data, "abcdef", 6) == 0);
    CHECK(recv_packet(&p) && p.len == 3 && memcmp(p.data, "XYZ", 3) == 0);
    close(fd);
    tv_vm_free(&t);
}

TEST(others_are_reset)
{
    begin();
    int sp[2];
    struct packet p;
    int a = connect_guest(5, 4711), b = connect_guest(6, GP_PORT_LOG);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) == 0);
    CHECK(virtio_vsock_open(t.dev, 1026, sp[0], NULL) == 0);
    CHECK(recv_packet(&p) && p.op == REQUEST);
    uint32_t port = p.src_port;
    send_op(RESPONSE, 1026, port, NULL, 0);
    close(b); /* a log stream that the host has ended */
    CHECK(expect(SHUTDOWN, 6, GP_PORT_LOG));
    move(true);
    CHECK(told.calls == 0);
    unsigned seen = 0;
    for (unsigned i = 0; i < 3; i++) {
        CHECK(recv_packet(&p) && p.op == RST);
        seen |= p.dst_port == 5 ? 1u : p.dst_port == 6 ? 2u : p.dst_port == 1026 ? 4u : 0;
    }
    CHECK(seen == 7 && nothing());
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) == 0);
    CHECK(virtio_vsock_open(t.dev, 1026, sp[0], NULL) == 0);
    CHECK(recv_packet(&p) && p.op == REQUEST && p.src_port != port);
    close(sp[1]);
    close(a);
    tv_vm_free(&t);
}

/* Not taken from the transmit ring before the snapshot: taken afterwards. */
TEST(ring_in_flight)
{
    begin();
    int fd = connect_guest(5, GP_PORT_CONTROL);
    CHECK(tv_quiesce(&t));
    uint8_t *h = tv_at(&t, TX_AT);
    memset(h, 0, 44);
    put_le64(h, CID);
    put_le64(h + 8, 2);
    put_le32(h + 16, 5);
    put_le32(h + 20, GP_PORT_CONTROL);
    put_le32(h + 24, 2);
    put_le16(h + 28, 1);
    put_le16(h + 30, RW);
    put_le32(h + 36, 65536);
    h[44] = 'o';
    h[45] = 'k';
    struct test_buf b = {TX_AT, 46, false};
    tv_add(&t, 1, &b, 1);
    move(true);
    close(fd);
    char buf[4];
    CHECK(recv(told.fd, buf, 4, MSG_DONTWAIT) == 2);
    close(told.fd);
    tv_vm_free(&t);
}

/* Bytes of the list of connections, replaced one at a time. */
TEST(forged_connections)
{
    static const struct {
        unsigned at;
        uint8_t byte;
        bool ok;
    } cases[] = {{0, 9, true},   {4, 9, false}, {20, 1, false}, {24, 1, false},
                 {28, 1, false}, {28, 2, true}, {31, 1, false}, {16, 0xff, true}};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct dstate_writer w;
        begin();
        int fd = connect_guest(5, GP_PORT_CONTROL);
        CHECK(tv_quiesce(&t) && tv_save(&t, &w, NULL) == 0);
        size_t pos = 12;
        while (get_le16(w.b.data + pos) != 64)
            pos += 8 + get_le32(w.b.data + pos + 4);
        CHECK(get_le32(w.b.data + pos + 4) == 40);
        w.b.data[pos + 8 + cases[i].at] = cases[i].byte;
        tv_vm_free(&t);
        close(fd);
        make();
        if (!CHECK((tv_load(&t, w.b.data, w.b.len, NULL) == 0) == cases[i].ok))
            printf("# case %u\n", i);
        tv_vm_free(&t);
        buf_free(&w.b);
    }
}

int main(void)
{
    RUN(guest_connects);
    RUN(host_connects);
    RUN(host_refused);
    RUN(refuses_guest);
    RUN(nonsense);
    RUN(credit_of_guest);
    RUN(credit_of_host);
    RUN(over_credit);
    RUN(no_receive_buffers);
    RUN(small_receive_buffer);
    RUN(reset);
    RUN(many);
    RUN(survives);
    RUN(bytes_under_way);
    RUN(save_and_go_on);
    RUN(others_are_reset);
    RUN(ring_in_flight);
    RUN(forged_connections);
    return TAP_DONE();
}
