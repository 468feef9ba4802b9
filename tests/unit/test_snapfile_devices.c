// SPDX-License-Identifier: Apache-2.0
/*
 * Ten thousand corruptions of the saved state of each virtio device, loaded into
 * a new one: it refuses with a reason, or it runs with what it was told and
 * comes to rest again. The states are the devices' own, saved with queues set
 * up. The seed is fixed.
 */
#include <sys/socket.h>

#include "../../hypervisor/base/log.h"
#include "../../snapshot/overlay.h"
#include "../tap.h"
#include "fake_tap.h"
#include "vmm_double.h"

#define ROUNDS   2000u /* of each of five devices */
#define FEATURES (TEST_F_VERSION_1 | TEST_F_EVENT_IDX)
#define DISK     (1u << 20)

static struct test_vm t;

struct rng {
    uint64_t s;
};

static uint64_t rnd(struct rng *r)
{
    r->s ^= r->s << 13;
    r->s ^= r->s >> 7;
    r->s ^= r->s << 17;
    return r->s;
}

/* ---- the devices ---- */

static int peer = -1;

static void set_blk(void)
{
    int *fds = t.fds.layers[0];
    t.m.disks[0] = (struct ctl_disk){.nlayers = 2, .size = DISK};
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = memfd_create("disk", MFD_CLOEXEC);
        if (fds[i] < 0 ||
            (i == 0 ? ftruncate(fds[i], DISK) : overlay_create(fds[i], DISK, NULL)) < 0)
            abort();
    }
}

static void set_net(void)
{
    int sp[2];
    if (peer >= 0)
        close(peer);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sp) < 0)
        abort();
    peer = sp[1];
    t.fds.tap = sp[0];
    t.m.net_limit_ops = 1000;
}

static int on_connect(void *ctx, uint32_t guest_port, uint32_t host_port, int fd)
{
    (void)ctx;
    (void)guest_port;
    (void)host_port;
    close(fd);
    return -ECONNREFUSED;
}

static void set_vsock(void)
{
    t.hooks.vsock_connect = on_connect;
}

static const struct {
    const char *name;
    const struct virtio_ops *ops;
    void (*set)(void);
    unsigned queues;
} devices[] = {{"rng", &virtio_rng_ops, NULL, 1},
               {"balloon", &virtio_balloon_ops, NULL, 3},
               {"blk", &virtio_blk_ops, set_blk, 1},
               {"net", &virtio_net_ops, set_net, 2},
               {"vsock", &virtio_vsock_ops, set_vsock, 3}};

static void begin(unsigned which)
{
    tv_vm_init(&t);
    if (devices[which].set)
        devices[which].set();
    if (tv_make(&t, devices[which].ops, NULL) < 0)
        abort();
}

/* ---- corruptions ---- */

static uint32_t odd(struct rng *r, uint32_t right)
{
    static const uint32_t v[] = {
        0,    1,     7,     8,      15,      16,         17,         255,        256,
        1024, 32767, 32768, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff};
    uint64_t x = rnd(r);
    return x % 3 == 0 ? right + (uint32_t)(x >> 8 & 7) - 4 : v[x / 3 % ARRAY_LEN(v)];
}

/* The state is one block: twelve bytes of header, then fields with eight each. */
static size_t corrupt(struct rng *r, const uint8_t *good, size_t len, uint8_t *bad)
{
    memcpy(bad, good, len);
    for (uint64_t n = rnd(r) % 3 + 1; n > 0; n--) {
        size_t field = 12, at;
        for (uint64_t skip = rnd(r) % 16; skip > 0; skip--) {
            uint64_t next = field + 8ull + get_le32(bad + field + 4);
            if (!range_ok(next, 8, len))
                break;
            field = next;
        }
        uint32_t size = get_le32(bad + field + 4);
        if (!range_ok(field + 8, size, len))
            break;
        switch (rnd(r) % 6) {
        case 0:
            at = rnd(r) % len;
            bad[at] ^= (uint8_t)(1u << rnd(r) % 8);
            break;
        case 1: /* a number in a value */
            if (size >= 4) {
                at = field + 8 + rnd(r) % (size - 3);
                put_le32(bad + at, odd(r, get_le32(bad + at)));
            }
            break;
        case 2:
            if (size >= 2) {
                at = field + 8 + rnd(r) % (size - 1);
                put_le16(bad + at, (uint16_t)odd(r, get_le16(bad + at)));
            }
            break;
        case 3: /* another field's number */
            put_le16(bad + field, (uint16_t)(rnd(r) % 72));
            break;
        case 4: { /* a length, and the block's with it when it is shorter */
            uint32_t less = size ? (uint32_t)(rnd(r) % size) : 0;
            memmove(bad + field + 8 + less, bad + field + 8 + size, len - field - 8 - size);
            put_le32(bad + field + 4, less);
            len -= size - less;
            put_le32(bad + 8, (uint32_t)(len - 12));
            break;
        }
        default:
            put_le32(bad + field + 4, odd(r, size));
        }
    }
    return len;
}

/* ---- one device ---- */

static void corruptions(unsigned which)
{
    struct rng r = {0x9e3779b97f4a7c15ull + which};
    struct dstate_writer good;
    struct err e = ERR_INIT;
    unsigned refused = 0, silent = 0, restless = 0, ran = 0;
    begin(which);
    t.dev->ops->start(t.dev, NULL);
    CHECK(tv_activate(&t, FEATURES, devices[which].queues) && tv_quiesce(&t));
    CHECK(tv_save(&t, &good, &e) == 0);
    tv_vm_free(&t);
    uint8_t *bad = malloc(good.b.len);
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t len = i ? corrupt(&r, good.b.data, good.b.len, bad) : good.b.len;
        e = (struct err)ERR_INIT;
        begin(which);
        if (tv_load(&t, i ? bad : good.b.data, len, &e) == 0) {
            ran++;
            t.dev->ops->start(t.dev, NULL);
            for (unsigned k = 0; k < 3; k++)
                tv_turn(&t, false);
            for (unsigned q = 0; q < devices[which].queues; q++)
                tv_write(&t, T_NOTIFY, q);
            tv_turn(&t, false);
            restless += !tv_quiesce(&t);
        } else {
            CHECK(i > 0); /* the good one */
            refused++;
            silent += e.msg[0] == '\0';
        }
        tv_vm_free(&t);
    }
    printf("# %s: %u refused, %u ran\n", devices[which].name, refused, ran);
    CHECK(refused > ROUNDS / 10 && ran > ROUNDS / 20);
    CHECK(silent == 0);
    CHECK(restless == 0);
    free(bad);
    buf_free(&good.b);
}

TEST(rng)
{
    corruptions(0);
}

TEST(balloon)
{
    corruptions(1);
}

TEST(blk)
{
    corruptions(2);
}

TEST(net)
{
    corruptions(3);
}

TEST(vsock)
{
    corruptions(4);
}

int main(void)
{
    log_setup(LOG_ERROR, "devices");
    RUN(rng);
    RUN(balloon);
    RUN(blk);
    RUN(net);
    RUN(vsock);
    if (peer >= 0)
        close(peer);
    return TAP_DONE();
}
