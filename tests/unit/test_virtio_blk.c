// SPDX-License-Identifier: Apache-2.0
/* virtio-blk end to end over raw and layered disks, driven through real rings. */
#include <fcntl.h>

#include "../../hypervisor/base/fd.h"
#include "../../snapshot/overlay.h"
#include "../tap.h"
#include "vmm_double.h"

#define DISK     (2u << 20)
#define BASE_LEN ((1u << 20) + 1000u) /* the base file ends inside a block */
#define SECTOR   512u
#define FEATURES (TEST_F_VERSION_1 | TEST_F_EVENT_IDX)

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };

static struct test_vm t;
static uint8_t model[DISK];

static int file(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

static int base_file(void)
{
    int fd = file("base");
    memset(model, 0, sizeof model);
    for (unsigned i = 0; i < BASE_LEN; i++)
        model[i] = (uint8_t)(i / SECTOR * 7 + i);
    CHECK(fd_pwrite_full(fd, model, BASE_LEN, 0) == 0);
    return fd;
}

/* A lower layer that changes some blocks. */
static int lower_layer(void)
{
    int fd = file("lower");
    struct overlay *o;
    CHECK(overlay_create(fd, DISK, NULL) == 0 && overlay_open(&o, fd, true, NULL) == 0);
    for (unsigned b = 3; b < DISK / 4096; b += 11) {
        memset(model + b * 4096, (int)b, 4096);
        CHECK(fd_pwrite_full(fd, model + b * 4096, 4096, overlay_offset(o, b)) == 0);
        overlay_set(o, b, 1);
    }
    overlay_stage(o);
    CHECK(overlay_flush(o, NULL) == 0);
    overlay_free(o);
    return fd;
}

static int top_layer(void)
{
    int fd = file("top");
    CHECK(overlay_create(fd, DISK, NULL) == 0);
    return fd;
}

static int dup_fd(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static void make_idle(const int *fds, unsigned n, bool readonly)
{
    struct err e = ERR_INIT;
    tv_vm_init(&t);
    t.m.disks[0] = (struct ctl_disk){
        .nlayers = n, .size = DISK, .flags = readonly ? CTL_DISK_READONLY : 0};
    for (unsigned i = 0; i < n; i++)
        t.fds.layers[0][i] = dup_fd(fds[i]);
    memcpy(t.m.disks[0].serial, "serial-0123456789abc", 20);
    if (!CHECK(tv_make(&t, &virtio_blk_ops, &e) == 0)) {
        printf("# %s\n", e.msg);
        exit(1);
    }
}

static void make(const int *fds, unsigned n, bool readonly)
{
    make_idle(fds, n, readonly);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0);
    uint64_t f = FEATURES | 1u << 2 | 1u << 6 | 1u << 9;
    CHECK(tv_activate(&t, f, 1));
}

#define HDR    TEST_BUFS
#define STATUS (TEST_BUFS + 0x800)
#define DATA   (TEST_BUFS + 0x1000)

/* Slots for several requests at once; data of `slot` is at DATA + slot * 1 MiB. */
static uint64_t data_at(unsigned slot)
{
    return DATA + slot * (1ull << 20);
}

static uint16_t submit(unsigned slot, uint32_t type, uint64_t sector, uint32_t len)
{
    uint64_t hdr = HDR + slot * 16, status = STATUS + slot, data = data_at(slot);
    uint8_t *h = tv_at(&t, hdr);
    put_le32(h, type);
    put_le32(h + 4, 0);
    put_le64(h + 8, sector);
    *tv_at(&t, status) = 0xaa;
    struct test_buf b[5] = {{hdr, 16, false}};
    unsigned n = 1;
    if (len) { /* in three odd pieces */
        uint32_t a = len / 3, c = len / 2;
        bool in = type == IN || type == GET_ID;
        if (a > 0 && c > a) {
            b[n++] = (struct test_buf){data, a, in};
            b[n++] = (struct test_buf){data + a, c - a, in};
            b[n++] = (struct test_buf){data + c, len - c, in};
        } else {
            b[n++] = (struct test_buf){data, len, in};
        }
    }
    b[n++] = (struct test_buf){status, 1, true};
    return tv_add(&t, 0, b, n);
}

static int wait_one(unsigned slot)
{
    uint32_t id, len;
    tv_notify(&t, 0);
    return tv_wait_used(&t, 0, &id, &len) ? *tv_at(&t, STATUS + slot) : -1;
}

static int request(uint32_t type, uint64_t sector, uint32_t len)
{
    submit(0, type, sector, len);
    return wait_one(0);
}

static int trim(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    uint8_t *d = tv_at(&t, data_at(0));
    put_le64(d, sector);
    put_le32(d + 8, sectors);
    put_le32(d + 12, flags);
    return request(type, 0, 16);
}

static bool same_as_model(void)
{
    for (uint32_t off = 0; off < DISK; off += 1u << 19) {
        if (request(IN, off / SECTOR, 1u << 19) != 0)
            return false;
        if (memcmp(tv_at(&t, data_at(0)), model + off, 1u << 19) != 0) {
            for (uint32_t i = 0; i < 1u << 19; i++) {
                if (tv_at(&t, data_at(0))[i] != model[off + i]) {
                    printf("# disk differs from the model at %u\n", off + i);
                    return false;
                }
            }
        }
    }
    return true;
}

static void fill(unsigned slot, uint32_t len, unsigned seed)
{
    uint8_t *p = tv_at(&t, data_at(slot));
    for (uint32_t i = 0; i < len; i++)
        p[i] = (uint8_t)(seed + i * 13 + i / 256);
}

TEST(config)
{
    int base = base_file();
    make(&base, 1, true);
    CHECK(tv_read(&t, 0x100) == DISK / SECTOR && tv_read(&t, 0x104) == 0);
    tv_write(&t, 0x14, 0);
    uint32_t f = tv_read(&t, 0x10);
    CHECK((f & 1u << 5) && !(f & (1u << 13 | 1u << 14)));
    CHECK(request(GET_ID, 0, 20) == 0);
    CHECK(memcmp(tv_at(&t, data_at(0)), "serial-0123456789abc", 20) == 0);
    CHECK(request(GET_ID, 0, 7) == 0);
    CHECK(request(FLUSH, 0, 0) == 0);
    CHECK(request(OUT, 0, 512) == 1);
    CHECK(request(77, 0, 512) == 2);
    CHECK(same_as_model());
    tv_vm_free(&t);
    close(base);
}

TEST(bounds)
{
    int base = base_file();
    make(&base, 1, false);
    static const struct {
        uint64_t sector;
        uint32_t len;
    } bad[] = {{DISK / SECTOR, 512},
               {DISK / SECTOR - 1, 1024},
               {UINT64_MAX, 512},
               {UINT64_MAX / 512, 512},
               {UINT64_MAX / 512 + 1, 512},
               {1ull << 55, 512},
               {0, 100},
               {0, 0}};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(request(IN, bad[i].sector, bad[i].len) == 1);
        CHECK(request(OUT, bad[i].sector, bad[i].len) == 1);
    }
    CHECK(trim(DISCARD, DISK / SECTOR, 1, 0) == 1);
    CHECK(trim(ZEROES, UINT64_MAX, 1, 0) == 1);
    CHECK(trim(ZEROES, 0, UINT32_MAX, 0) == 2);
    CHECK(trim(DISCARD, 0, 8, 1) == 2);
    CHECK(trim(ZEROES, 0, 8, 2) == 2);
    CHECK(request(DISCARD, 0, 32) == 2); /* two segments */
    CHECK(same_as_model());
    tv_vm_free(&t);
    close(base);
}

TEST(malformed)
{
    int base = base_file();
    static const struct test_buf shapes[][2] = {
        {{HDR, 15, false}, {STATUS, 1, true}},  /* header too short */
        {{HDR, 16, false}, {DATA, 512, false}}, /* no status */
        {{STATUS, 1, true}, {DATA, 16, true}},  /* no header */
    };
    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        make(&base, 1, false);
        tv_add(&t, 0, shapes[i], 2);
        tv_notify(&t, 0);
        CHECK(tv_read(&t, T_STATUS) & 64);
        tv_reset(&t);
        CHECK(tv_activate(&t, FEATURES, 1) && request(IN, 0, 512) == 0);
        tv_vm_free(&t);
    }
    close(base);
}

static void random_ops(unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        unsigned sector = (unsigned)random() % (DISK / SECTOR);
        unsigned n = 1 + (unsigned)random() % (random() % 4 ? 20 : 200);
        n = MIN(n, DISK / SECTOR - sector);
        uint32_t len = n * SECTOR;
        int r;
        switch (random() % 6) {
        case 0:
            r = trim(ZEROES, sector, n, random() & 1);
            memset(model + sector * SECTOR, 0, len);
            break;
        case 1:
            r = request(IN, sector, len);
            if (memcmp(tv_at(&t, data_at(0)), model + sector * SECTOR, len) != 0)
                r = -2;
            break;
        case 2:
            r = request(FLUSH, 0, 0);
            break;
        case 3: /* content is anything after a discard: write it again */
            r = trim(DISCARD, sector, n, 0);
            if (r != 0)
                break;
            /* fall through */
        default:
            fill(0, len, i);
            memcpy(model + sector * SECTOR, tv_at(&t, data_at(0)), len);
            r = request(OUT, sector, len);
            break;
        }
        if (r != 0) {
            printf("# operation %u on sector %u, %u sectors: %d\n", i, sector, n, r);
            CHECK(r == 0);
            return;
        }
    }
}

TEST(raw)
{
    int base = base_file();
    make(&base, 1, false);
    srandom(1);
    random_ops(400);
    CHECK(same_as_model());
    tv_vm_free(&t);
    /* What was written is in the file. */
    make(&base, 1, true);
    CHECK(same_as_model());
    tv_vm_free(&t);
    close(base);
}

TEST(layers)
{
    int fds[3] = {base_file(), lower_layer(), top_layer()};
    static uint8_t before[2][DISK + 8192];
    make(fds, 3, false);
    CHECK(pread(fds[0], before[0], BASE_LEN, 0) == BASE_LEN);
    CHECK(pread(fds[1], before[1], DISK + 8192, 0) == DISK + 8192);
    CHECK(same_as_model());
    srandom(2);
    random_ops(800);
    CHECK(same_as_model());
    CHECK(request(FLUSH, 0, 0) == 0);
    tv_vm_free(&t);
    /* Flushed: another machine sees the same through the files. */
    make(fds, 3, true);
    CHECK(same_as_model());
    tv_vm_free(&t);
    /* And the lower layers have not been touched. */
    static uint8_t after[DISK + 8192];
    CHECK(pread(fds[0], after, BASE_LEN, 0) == BASE_LEN &&
          memcmp(after, before[0], BASE_LEN) == 0);
    CHECK(pread(fds[1], after, DISK + 8192, 0) == DISK + 8192 &&
          memcmp(after, before[1], DISK + 8192) == 0);
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
}

/* Writes to parts of the same block, all in flight at once. */
TEST(shared_block)
{
    int fds[3] = {base_file(), lower_layer(), top_layer()};
    make(fds, 3, false);
    srandom(3);
    for (unsigned round = 0; round < 200; round++) {
        unsigned block = (unsigned)random() % (DISK / 4096 - 1);
        bool done[4] = {false};
        for (unsigned s = 0; s < 4; s++) {
            unsigned sector = block * 8 + s * 3; /* the last goes into the next block */
            fill(s, 3 * SECTOR, round * 4 + s);
            memcpy(model + sector * SECTOR, tv_at(&t, data_at(s)), 3 * SECTOR);
            submit(s, OUT, sector, 3 * SECTOR);
            if (s == 1) { /* 4 chains of 5 do not fit at once */
                tv_notify(&t, 0);
                uint32_t id, len;
                for (unsigned k = 0; k < 2; k++)
                    done[k] = tv_wait_used(&t, 0, &id, &len);
            }
        }
        tv_notify(&t, 0);
        uint32_t id, len;
        for (unsigned k = 2; k < 4; k++)
            done[k] = tv_wait_used(&t, 0, &id, &len);
        for (unsigned s = 0; s < 4; s++) {
            if (!done[s] || *tv_at(&t, STATUS + s) != 0) {
                CHECK(!"a write failed");
                return;
            }
        }
    }
    CHECK(same_as_model());
    tv_vm_free(&t);
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
}

/* Without a flush the marks stay in memory; a pause writes them. */
TEST(marks_at_pause)
{
    int fds[2] = {base_file(), top_layer()};
    struct overlay *o;
    make(fds, 2, false);
    fill(0, 8192, 5);
    memcpy(model + 8192, tv_at(&t, data_at(0)), 8192);
    CHECK(request(OUT, 16, 8192) == 0);
    CHECK(overlay_open(&o, fds[1], false, NULL) == 0 && overlay_count(o) == 0);
    overlay_free(o);
    CHECK(tv_quiesce(&t));
    CHECK(overlay_open(&o, fds[1], false, NULL) == 0 && overlay_count(o) == 2);
    overlay_free(o);
    struct dstate_writer w;
    CHECK(tv_save(&t, &w, NULL) == 0);
    struct test_vm old = t;
    make_idle(fds, 2, false);
    memcpy(t.mem.host, old.mem.host, TEST_RAM);
    memcpy(t.q, old.q, sizeof t.q);
    CHECK(tv_load(&t, w.b.data, w.b.len, NULL) == 0);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0);
    CHECK(same_as_model());
    CHECK(request(OUT, 0, 512) == 0);
    memcpy(model, tv_at(&t, data_at(0)), 512);
    CHECK(same_as_model());
    buf_free(&w.b);
    tv_vm_free(&t);
    tv_vm_free(&old);
    close(fds[0]);
    close(fds[1]);
}

/* A pause with requests waiting for the rate limit gives them back to the ring. */
TEST(limits)
{
    int base = base_file();
    tv_vm_init(&t);
    t.m.disks[0] = (struct ctl_disk){.nlayers = 1, .size = DISK, .limit_ops = 20};
    t.fds.layers[0][0] = dup_fd(base);
    CHECK(tv_make(&t, &virtio_blk_ops, NULL) == 0);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0 && tv_activate(&t, FEATURES, 1));
    for (unsigned i = 0; i < 20; i++) /* the burst */
        CHECK(request(IN, 0, 512) == 0);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (unsigned i = 0; i < 5; i++)
        CHECK(request(IN, 0, 512) == 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    int64_t ms = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
    CHECK(ms >= 150); /* five at 20 a second, the first may be free */
    submit(0, IN, 0, 512);
    submit(1, IN, 8, 512);
    tv_notify(&t, 0);
    CHECK(tv_quiesce(&t));
    t.dev->ops->resume(t.dev);
    uint32_t id, len;
    CHECK(tv_wait_used(&t, 0, &id, &len) && tv_wait_used(&t, 0, &id, &len));
    CHECK(*tv_at(&t, STATUS) == 0 && *tv_at(&t, STATUS + 1) == 0);
    tv_vm_free(&t);
    close(base);
}

TEST(refused)
{
    int fds[2] = {base_file(), file("not an overlay")};
    struct err e = ERR_INIT;
    int *taken = t.fds.layers[0];
    tv_vm_init(&t);
    CHECK(tv_make(&t, &virtio_blk_ops, &e) == -EINVAL);
    t.m.disks[0] = (struct ctl_disk){.nlayers = 2, .size = DISK};
    taken[0] = dup_fd(fds[0]);
    taken[1] = dup_fd(fds[1]);
    CHECK(tv_make(&t, &virtio_blk_ops, &e) < 0 && e.num);
    t.m.disks[0] = (struct ctl_disk){.nlayers = 1, .size = 1000};
    taken[0] = dup_fd(fds[0]);
    CHECK(tv_make(&t, &virtio_blk_ops, &e) == -EINVAL);
    CHECK(overlay_create(fds[1], DISK * 2, NULL) == 0);
    t.m.disks[0] = (struct ctl_disk){.nlayers = 2, .size = DISK};
    taken[0] = dup_fd(fds[0]);
    taken[1] = dup_fd(fds[1]);
    CHECK(tv_make(&t, &virtio_blk_ops, &e) == -EINVAL);
    int ro = taken[0] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    t.m.disks[0] = (struct ctl_disk){.nlayers = 1};
    CHECK(tv_make(&t, &virtio_blk_ops, &e) == -EACCES);
    CHECK(fcntl(ro, F_GETFD) < 0); /* taken and closed */
    t.dev = NULL;
    tv_vm_free(&t);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    RUN(config);
    RUN(bounds);
    RUN(malformed);
    RUN(raw);
    RUN(layers);
    RUN(shared_block);
    RUN(marks_at_pause);
    RUN(limits);
    RUN(refused);
    return TAP_DONE();
}
