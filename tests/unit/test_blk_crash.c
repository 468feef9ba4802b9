// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-blk over a copy-on-write layer when operations overlap in any order
 * and the power fails at any moment. The I/O ring is replaced by one that lets
 * started operations end in random order and remembers every write until a
 * later fsync has covered it. At a crash some of the others, torn at sectors,
 * reach the disk. Then every sector has to hold what was last flushed or
 * something written since: never zeros that nobody wrote, never the leftovers of
 * another layer. The same again with operations that fail or do less.
 */

#include <fcntl.h>

#include "../../hypervisor/base/fd.h"
#include "../../snapshot/overlay.h"
#include "../tap.h"
#include "vmm_double.h"

#define DISK     (64u * 4096u)
#define SECTOR   512u
#define SECTORS  (DISK / SECTOR)
#define DATA_OFF 8192u /* of the layer file: behind header and bitmap */
#define FILE_LEN (DATA_OFF + DISK)

/* ---- the disk under the layer file ---------------------------------------------------------
 */

static int top_fd; /* what the kernel's cache holds */
static uint8_t durable[FILE_LEN], cached[FILE_LEN];

static struct unsynced {
    uint64_t off;
    uint32_t len;
    uint8_t *data;
} pending[4096];
static unsigned npending;

static void remember(uint64_t off, const uint8_t *data, uint32_t len)
{
    if (npending == ARRAY_LEN(pending))
        abort();
    struct unsynced *u = &pending[npending++];
    *u = (struct unsynced){off, len, malloc(len)};
    memcpy(u->data, data, len);
    memcpy(cached + off, data, len);
}

/* Marks are written by the device itself, not through the ring: notice them. */
static void notice_marks(void)
{
    uint8_t now[DATA_OFF];
    CHECK(fd_pread_full(top_fd, now, sizeof now, 0) == 0);
    if (memcmp(now, cached, sizeof now) != 0)
        remember(0, now, sizeof now);
}

static void apply(uint8_t *disk, const struct unsynced *u, bool torn)
{
    for (uint32_t at = 0; at < u->len; at += SECTOR) {
        if (!torn || random() % 2)
            memcpy(disk + u->off + at, u->data + at, MIN(SECTOR, u->len - at));
    }
}

static void forget(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free(pending[i].data);
    memmove(pending, pending + n, (npending - n) * sizeof pending[0]);
    npending -= n;
}

/* ---- the ring -------------------------------------------------------------------------------
 */

enum kind { READ, WRITE, SYNC, PUNCH, OTHER };
struct fake {
    struct ring_op *op;
    enum kind kind;
    int fd;
    const struct iovec *iov;
    unsigned n;
    uint64_t off, len;
    unsigned covers; /* fsync: this many of the pending writes */
};
struct ring {
    struct fake ops[256];
    unsigned n;
    void (*kicked)(void *ctx);
    void *ctx;
    bool kick;
};

int ring_open(struct ring **ret, unsigned entries, struct err *e)
{
    (void)entries;
    (void)e;
    *ret = calloc(1, sizeof **ret);
    return 0;
}
void ring_free(struct ring *r)
{
    free(r);
}
static void start(struct ring *r, struct fake f)
{
    if (r->n == ARRAY_LEN(r->ops) || f.op->armed)
        abort();
    f.op->armed = true;
    notice_marks();
    f.covers = npending;
    r->ops[r->n++] = f;
}
void ring_readv(struct ring *r, struct ring_op *op, int fd, const struct iovec *iov, unsigned n,
                uint64_t off)
{
    start(r, (struct fake){.op = op, .kind = READ, .fd = fd, .iov = iov, .n = n, .off = off});
}
void ring_writev(struct ring *r, struct ring_op *op, int fd, const struct iovec *iov,
                 unsigned n, uint64_t off)
{
    start(r, (struct fake){.op = op, .kind = WRITE, .fd = fd, .iov = iov, .n = n, .off = off});
}
void ring_fdatasync(struct ring *r, struct ring_op *op, int fd)
{
    start(r, (struct fake){.op = op, .kind = SYNC, .fd = fd});
}
void ring_fallocate(struct ring *r, struct ring_op *op, int fd, int mode, uint64_t off,
                    uint64_t len)
{
    (void)mode;
    start(r, (struct fake){.op = op, .kind = PUNCH, .fd = fd, .off = off, .len = len});
}
void ring_poll(struct ring *r, struct ring_op *op, int fd, unsigned events)
{
    (void)r;
    (void)op;
    (void)fd;
    (void)events;
}
void ring_watch(struct ring *r, struct ring_op *op, int fd, unsigned events)
{
    ring_poll(r, op, fd, events); /* doorbells are not rung in this test */
}
void ring_timer(struct ring *r, struct ring_op *op, uint64_t ns)
{
    (void)r;
    (void)op;
    (void)ns;
}
void ring_soon(struct ring *r, struct ring_op *op)
{
    start(r, (struct fake){.op = op, .kind = OTHER});
}
void ring_cancel(struct ring *r, struct ring_op *op)
{
    (void)r;
    (void)op;
}
void ring_kick(struct ring *r)
{
    r->kick = true;
}
void ring_on_kick(struct ring *r, void (*kicked)(void *ctx), void *ctx)
{
    r->kicked = kicked;
    r->ctx = ctx;
}

static bool faults;      /* some operations go wrong */
static bool sync_failed; /* an fsync has */
static bool no_holes;    /* the file system has no holes */

/* Pretends that less, or nothing, was possible. */
static unsigned limit_len(unsigned len)
{
    if (!faults || random() % 12)
        return len;
    return random() % 2 ? 0 : (unsigned)random() % len / SECTOR * SECTOR;
}

static int write_some(const struct fake *f)
{
    unsigned total = 0, done = 0;
    for (unsigned i = 0; i < f->n; i++)
        total += (unsigned)f->iov[i].iov_len;
    total = limit_len(total);
    for (unsigned i = 0; i < f->n && done < total; i++) {
        unsigned len = MIN((unsigned)f->iov[i].iov_len, total - done);
        CHECK(fd_pwrite_full(f->fd, f->iov[i].iov_base, len, f->off + done) == 0);
        remember(f->off + done, f->iov[i].iov_base, len);
        done += len;
    }
    return done ? (int)done : -ENOSPC;
}

static int perform(const struct fake *f)
{
    ssize_t n;
    switch (f->kind) {
    case READ:
        if (faults && random() % 40 == 0)
            return -EIO;
        n = preadv(f->fd, f->iov, (int)f->n, (off_t)f->off);
        return n < 0 ? -errno : (int)n;
    case WRITE:
        return write_some(f);
    case PUNCH: {
        if (no_holes)
            return -EOPNOTSUPP;
        uint8_t *zeros = calloc(1, f->len);
        CHECK(fd_pwrite_full(f->fd, zeros, f->len, f->off) == 0);
        remember(f->off, zeros, (uint32_t)f->len);
        free(zeros);
        return 0;
    }
    case SYNC:
        if (!faults || random() % 60)
            return 0;
        sync_failed = true;
        return -EIO;
    default:
        return 0;
    }
}

/* One kick or one randomly chosen operation. */
int ring_turn(struct ring *r, bool wait, struct err *e)
{
    (void)wait;
    (void)e;
    if (r->kick) {
        r->kick = false;
        r->kicked(r->ctx);
        return 0;
    }
    if (r->n == 0)
        return 0;
    unsigned i = (unsigned)random() % r->n;
    struct fake f = r->ops[i];
    r->ops[i] = r->ops[--r->n];
    int res = perform(&f);
    if (f.kind == SYNC && res == 0) {
        for (unsigned k = 0; k < f.covers; k++)
            apply(durable, &pending[k], false);
        forget(f.covers);
        for (unsigned k = 0; k < r->n; k++)
            r->ops[k].covers -= MIN(r->ops[k].covers, f.covers);
    }
    f.op->armed = false;
    f.op->done(f.op, res);
    notice_marks();
    return 0;
}

/* ---- what sectors may hold ------------------------------------------------------------------
 */

/* A sector's content is its number and a version; base and lower layer are version 0. */
static struct {
    uint32_t flushed; /* this version or a later one must be there */
    uint32_t last;    /* newest version ever sent */
    uint32_t done;    /* newest version the guest knows is written */
    uint32_t zeroed;  /* newest version that was zeros */
} sectors[SECTORS];

static void fill_sector(uint8_t *p, uint32_t sector, uint32_t version)
{
    for (unsigned i = 0; i < SECTOR; i += 8) {
        put_le32(p + i, sector ^ 0xabcd1234u);
        put_le32(p + i + 4, version);
    }
}

static bool sector_ok(const uint8_t *p, uint32_t sector, uint32_t *version)
{
    uint8_t want[SECTOR] = {0};
    if (memcmp(p, want, SECTOR) == 0) {
        *version = sectors[sector].zeroed;
        return *version > 0 && *version >= sectors[sector].flushed;
    }
    *version = get_le32(p + 4);
    fill_sector(want, sector, *version);
    return memcmp(p, want, SECTOR) == 0 && *version >= sectors[sector].flushed &&
           *version <= sectors[sector].last;
}

/* ---- the guest ------------------------------------------------------------------------------
 */

static struct test_vm t;
static int base_fd;

#define SLOTS 4u
static struct slot {
    bool busy, flush, zero;
    uint16_t head;
    uint32_t sector, n;
    uint32_t upto[SECTORS]; /* flush: what was done when it was sent */
} slots[SLOTS];

static uint64_t slot_at(unsigned i)
{
    return TEST_BUFS + i * 0x40000ull;
}

static bool overlaps(uint32_t sector, uint32_t n)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *s = &slots[i];
        if (s->busy && !s->flush && sector < s->sector + s->n && s->sector < sector + n)
            return true;
    }
    return false;
}

static uint32_t versions;

static void issue(unsigned i)
{
    struct slot *s = &slots[i];
    uint8_t *h = tv_at(&t, slot_at(i));
    uint64_t data = slot_at(i) + 0x1000, status = slot_at(i) + 0x800;
    memset(h, 0, 16);
    s->flush = random() % 6 == 0;
    s->zero = random() % 6 == 0;
    s->sector = (uint32_t)random() % SECTORS;
    s->n = 1 + (uint32_t)random() % (random() % 3 ? 10 : 60);
    s->n = MIN(s->n, SECTORS - s->sector);
    if (!s->flush && overlaps(s->sector, s->n))
        return;
    s->busy = true;
    *tv_at(&t, status) = 0xaa;
    struct test_buf b[3] = {{slot_at(i), 16, false}};
    unsigned n = 1;
    if (s->flush) {
        put_le32(h, 4);
        for (unsigned k = 0; k < SECTORS; k++)
            s->upto[k] = sectors[k].done;
    } else {
        put_le32(h, s->zero ? 13 : 1);
        put_le64(h + 8, s->sector);
        versions++;
        for (uint32_t k = 0; k < s->n; k++) {
            if (!s->zero)
                fill_sector(tv_at(&t, data + k * SECTOR), s->sector + k, versions);
            else
                sectors[s->sector + k].zeroed = versions;
            sectors[s->sector + k].last = versions;
        }
        if (s->zero) {
            memset(tv_at(&t, data), 0, 16);
            put_le64(tv_at(&t, data), s->sector);
            put_le32(tv_at(&t, data) + 8, s->n);
        }
        b[n++] = (struct test_buf){data, s->zero ? 16 : s->n * SECTOR, false};
    }
    b[n++] = (struct test_buf){status, 1, true};
    s->head = tv_add(&t, 0, b, n);
    tv_write(&t, T_NOTIFY, 0);
}

static void collect(void)
{
    uint32_t id, len;
    while (tv_used(&t, 0, &id, &len)) {
        for (unsigned i = 0; i < SLOTS; i++) {
            struct slot *s = &slots[i];
            if (!s->busy || s->head != id)
                continue;
            uint8_t status = *tv_at(&t, slot_at(i) + 0x800);
            s->busy = false;
            CHECK(status == 0 || (faults && status == 1));
            /* An fsync that failed may have lost anything: nothing is safe any more. */
            CHECK(!s->flush || status != 0 || !sync_failed);
            if (status != 0)
                continue;
            for (uint32_t k = 0; k < SECTORS; k++) {
                if (s->flush)
                    sectors[k].flushed = MAX(sectors[k].flushed, s->upto[k]);
                else if (k >= s->sector && k < s->sector + s->n)
                    sectors[k].done = sectors[k].last;
            }
        }
    }
}

/* The layer file as it is found after the power is back; false when a sector is wrong. */
static bool check_disk(const uint8_t *image, uint32_t *found)
{
    int fd = memfd_create("after", MFD_CLOEXEC);
    struct overlay *o = NULL;
    bool ok = fd >= 0 && fd_pwrite_full(fd, image, FILE_LEN, 0) == 0 &&
              overlay_open(&o, fd, false, NULL) == 0;
    for (uint32_t s = 0; ok && s < SECTORS; s++) {
        uint8_t p[SECTOR];
        uint64_t off = overlay_has(o, s / 8) ? overlay_offset(o, 0) : 0;
        int from = off ? fd : base_fd;
        if (fd_pread_full(from, p, SECTOR, off + s * SECTOR) < 0 ||
            !sector_ok(p, s, &found[s])) {
            printf("# sector %u (%s): version %u, flushed %u, last %u\n", s,
                   off ? "layer" : "base", found[s], sectors[s].flushed, sectors[s].last);
            ok = false;
        }
    }
    overlay_free(o);
    close(fd);
    return ok;
}

static bool crash(void)
{
    static uint8_t image[FILE_LEN];
    uint32_t found[SECTORS];
    memcpy(image, durable, FILE_LEN);
    for (unsigned i = 0; i < npending; i++) {
        if (random() % 2)
            apply(image, &pending[i], random() % 2);
    }
    return check_disk(image, found);
}

static void start_machine(void)
{
    tv_vm_init(&t);
    t.m.disks[0] = (struct ctl_disk){.nlayers = 2, .size = DISK};
    t.fds.layers[0][0] = fcntl(base_fd, F_DUPFD_CLOEXEC, 3);
    t.fds.layers[0][1] = fcntl(top_fd, F_DUPFD_CLOEXEC, 3);
    CHECK(tv_make(&t, &virtio_blk_ops, NULL) == 0);
    CHECK(t.dev->ops->start(t.dev, NULL) == 0);
    CHECK(tv_activate(&t, TEST_F_VERSION_1, 1));
    memset(slots, 0, sizeof slots);
}

static bool run(unsigned seed)
{
    bool ok = true;
    srandom(seed);
    sync_failed = false;
    no_holes = seed % 2;
    memset(sectors, 0, sizeof sectors);
    versions = 0;
    top_fd = memfd_create("top", MFD_CLOEXEC);
    CHECK(overlay_create(top_fd, DISK, NULL) == 0);
    CHECK(fd_pread_full(top_fd, durable, FILE_LEN, 0) == 0);
    /* Leftovers of writes before an earlier crash, never marked. */
    memset(durable + DATA_OFF, 0xee, DISK);
    CHECK(fd_pwrite_full(top_fd, durable, FILE_LEN, 0) == 0);
    memcpy(cached, durable, FILE_LEN);
    start_machine();
    for (unsigned step = 0; ok && step < 500; step++) {
        unsigned i = (unsigned)random() % SLOTS;
        if (random() % 3 == 0 && !slots[i].busy)
            issue(i);
        else
            tv_turn(&t, false);
        collect();
        if (step % 5 == 0)
            ok = crash();
    }
    /* Let it come to rest: then exactly the last version of everything. */
    CHECK(tv_quiesce(&t));
    collect();
    uint32_t found[SECTORS];
    if (!faults)
        ok = ok && npending == 0 && check_disk(durable, found);
    for (uint32_t s = 0; ok && !faults && s < SECTORS; s++)
        ok = found[s] == sectors[s].last || slots[0].busy || slots[1].busy || slots[2].busy ||
             slots[3].busy;
    forget(npending);
    tv_vm_free(&t);
    close(top_fd);
    if (!ok)
        printf("# seed %u\n", seed);
    return ok;
}

static void runs(void)
{
    uint8_t p[SECTOR];
    base_fd = memfd_create("base", MFD_CLOEXEC);
    for (uint32_t s = 0; s < SECTORS; s++) {
        fill_sector(p, s, 0);
        CHECK(fd_pwrite_full(base_fd, p, SECTOR, s * SECTOR) == 0);
    }
    for (unsigned seed = 1; seed <= 25; seed++) {
        if (!CHECK(run(seed)))
            break;
    }
    close(base_fd);
}

TEST(any_order_any_crash)
{
    runs();
}

TEST(with_faults)
{
    faults = true;
    runs();
}

int main(void)
{
    RUN(any_order_any_crash);
    RUN(with_faults);
    return TAP_DONE();
}
