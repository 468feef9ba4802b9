// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon's order of saving, publishing and deleting, over a disk that loses
 * power after every call (tests/fault/disk.h). After each cut, with every choice
 * of what survived of the unsynced writes and names where there are up to 256 of
 * them, a restart finds the old or the new state, whole, and nothing is left
 * that nobody owns. Then each call fails once, in every way it can.
 */
#include "../../api/durable.h"
#include "../../api/seal.h"
#include "../../api/snapfiles.h"
#include "../../snapshot/snapfile_layout.h"
#include "../fault/disk.h"
#include "../tap.h"
#include "snap_sample.h"

#define CHOICES  256u /* of what survives, for each cut */
#define DISK_LEN 8192u
#define VM       "vm"
#define LAYERS   "layers"

enum state { ST_PENDING, ST_RUNNING, ST_SUSPENDED, ST_ENDING, ST_ENDED, ST_BUILT, ST_GONE };

struct world {
    struct disk disk;
    enum state state; /* the database's row, and always durable */
    uint64_t generation;
    enum state next;
    struct sample s;
    uint8_t content[DISK_LEN]; /* of disk.ovl */
    struct seal *seal;
    bool resuming;
};

/* ---- what the machine and the database do ---- */

static int save(void *ctx, int fd, struct err *e)
{
    struct world *w = ctx;
    struct dstate_writer state = sample_state(w->generation);
    struct snap_info info = sample_info(0);
    struct snap_result result;
    struct snap_source src = {.mem = w->s.mem,
                              .candidates = w->s.candidates,
                              .base = w->s.base,
                              .base_stored = w->s.stored,
                              .deltas = w->seal != NULL,
                              .io = &w->disk.io};
    int r = snap_write(fd, &info, state.b.data, state.b.len, &src, &result, e);
    buf_free(&state.b);
    return r;
}

static int commit(void *ctx, struct err *e)
{
    struct world *w = ctx;
    int r = disk_step(&w->disk);
    if (r < 0)
        return err_sys(e, -r, "write the row");
    w->state = w->next;
    return 0;
}

static int commit_as(struct world *w, enum state next)
{
    w->next = next;
    return commit(w, NULL);
}

/* The guest writes: some pages of memory, some of the disk. */
static void guest_works(struct world *w, int dir)
{
    static const uint16_t pages[] = {2, 50, 900};
    for (unsigned i = 0; i < 3; i++) {
        sample_fill(w->s.mem, pages[i] + w->generation, w->generation + 1);
        sample_mark(w->s.candidates, pages[i] + w->generation);
    }
    int fd = disk_open(&w->disk, dir, "disk.ovl", O_RDWR, 0);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *p = w->content + i * 4096 + 512; /* behind the header */
        memset(p, (int)(w->generation * 16 + i + 1), 1024);
        snap_io_write_full(&w->disk.io, fd, p, 1024, i * 4096 + 512);
    }
    disk_close(&w->disk, fd);
}

static struct snapfiles_steps steps_of(struct world *w)
{
    return (struct snapfiles_steps){save, commit, w};
}

static int suspend(struct world *w)
{
    const struct snapfiles_steps s = steps_of(w);
    int root = disk_open_dir(&w->disk, ""), dir = disk_open_dir(&w->disk, VM);
    uint64_t bytes;
    w->next = ST_SUSPENDED;
    int r = snapfiles_suspend(&w->disk.io, w->seal, w->generation == 1 ? root : -1, dir, 0,
                              w->generation, &s, &bytes, NULL);
    disk_close(&w->disk, dir);
    disk_close(&w->disk, root);
    return r;
}

/* ---- the worlds before ---- */

static struct sample shared; /* an image, made once; the session's part is each world's */

static void world_new(struct world *w, struct seal *seal)
{
    memset(w, 0, sizeof *w);
    disk_init(&w->disk);
    w->seal = seal;
    w->s = shared;
    memcpy(w->s.mem, w->s.base, SAMPLE_MEM);
    memset(w->s.candidates, 0, SAMPLE_PAGES / 8);
}

/* A session that runs for the first time; not even its directory is durable. */
static void before_first(struct world *w)
{
    disk_mkdir(&w->disk, DISK_ROOT, VM);
    int dir = disk_open_dir(&w->disk, VM);
    int fd = disk_open(&w->disk, dir, "disk.ovl", O_RDWR | O_CREAT, 0600);
    disk_truncate(&w->disk, fd, DISK_LEN);
    disk_close(&w->disk, fd);
    w->generation = 1;
    w->state = ST_RUNNING;
    guest_works(w, dir);
    disk_close(&w->disk, dir);
}

/* One that has slept once, runs, and has changed memory and disk since. */
static void before_second(struct world *w)
{
    before_first(w);
    if (suspend(w) < 0)
        abort();
    disk_sync_all(&w->disk);
    w->generation = 2;
    w->state = ST_RUNNING;
    int dir = disk_open_dir(&w->disk, VM);
    guest_works(w, dir);
    disk_close(&w->disk, dir);
}

static void before_build(struct world *w)
{
    disk_mkdir(&w->disk, DISK_ROOT, VM);
    disk_mkdir(&w->disk, DISK_ROOT, LAYERS);
    disk_sync_all(&w->disk);
    w->generation = 1;
    w->state = ST_PENDING;
}

/* ---- what is done ---- */

static int end(struct world *w)
{
    int r = commit_as(w, ST_ENDING);
    int dir = disk_open_dir(&w->disk, VM);
    if (r == 0)
        r = snapfiles_end(&w->disk.io, dir, NULL);
    disk_close(&w->disk, dir);
    return r < 0 ? r : commit_as(w, ST_ENDED);
}

/* The row follows beside the restore; the guest writes and flushes before it is there. */
static int resume(struct world *w)
{
    int dir = disk_open_dir(&w->disk, VM), fd = disk_open(&w->disk, dir, "disk.ovl", O_RDWR, 0);
    int r = fd < 0 ? fd : snapfiles_use(&w->disk.io, fd, w->generation + 1, NULL);
    uint8_t byte = 0xee;
    for (unsigned i = 0; i < 3 && r == 0; i++) {
        r = snap_io_write_full(&w->disk.io, fd, &byte, 1, 4096 + i * 600);
        if (r == 0 && i == 1)
            r = disk_sync(&w->disk, fd);
    }
    if (r == 0)
        r = commit_as(w, ST_RUNNING);
    if (fd >= 0)
        disk_close(&w->disk, fd);
    disk_close(&w->disk, dir);
    return r;
}

static void before_resume(struct world *w)
{
    before_first(w);
    if (suspend(w) < 0)
        abort();
    disk_sync_all(&w->disk);
    w->resuming = true;
}

/* An image's layer: written whole, and its name says which. */
static int save_layer(void *ctx, int fd, char ret_name[SNAPFILES_LAYER], struct err *e)
{
    struct world *w = ctx;
    const uint8_t id[32] = {0xab};
    (void)e;
    snapfiles_layer_name(ret_name, id);
    return snap_io_write_full(&w->disk.io, fd, w->s.mem, DISK_LEN, 0);
}

static int build(struct world *w)
{
    const struct snapfiles_steps s = steps_of(w);
    struct disk *d = &w->disk;
    int root = disk_open_dir(d, ""), dir = disk_open_dir(d, VM);
    int fd = disk_open(d, dir, "disk.ovl", O_RDWR | O_CREAT, 0600), r = fd;
    memset(w->content, 7, sizeof w->content);
    if (r >= 0)
        r = snap_io_write_full(&d->io, fd, w->content, DISK_LEN, 0);
    if (r >= 0)
        r = disk_sync(d, fd);
    if (fd >= 0)
        disk_close(d, fd);
    int layers = disk_open_dir(d, LAYERS);
    if (r >= 0)
        r = snapfiles_layer(&d->io, layers, save_layer, w, NULL);
    disk_close(d, layers);
    if (r >= 0)
        r = snapfiles_write(&d->io, w->seal, dir, "mem.snap", &s, NULL, NULL);
    if (r >= 0)
        r = durable_write_io(&d->io, dir, "meta", "shape\n", 6, 0600, NULL);
    if (r >= 0)
        r = disk_sync(d, root);
    if (r >= 0)
        r = commit_as(w, ST_BUILT);
    disk_close(d, dir);
    disk_close(d, root);
    return r;
}

/* The row goes first: files without a row are removed by the next start. */
static int forget(struct world *w)
{
    int r = commit_as(w, ST_GONE);
    int root = disk_open_dir(&w->disk, "");
    if (r == 0)
        r = snapfiles_drop_tree(&w->disk.io, root, VM);
    disk_close(&w->disk, root);
    return r;
}

/* ---- the restart: what reconcile.c decides, and what must be true then ---- */

static bool same_file(struct world *w, int dir, const char *name, const void *want, size_t len)
{
    uint8_t got[DISK_LEN];
    struct stat st;
    int fd = disk_open(&w->disk, dir, name, O_RDWR, 0);
    if (fd < 0)
        return false;
    bool same = fstat(fd, &st) == 0 && (size_t)st.st_size == len &&
                fd_pread_full(fd, got, len, 0) == 0 && memcmp(got, want, len) == 0;
    disk_close(&w->disk, fd);
    return same;
}

static bool same_memory(struct world *w, int dir, const char *name)
{
    struct snap_file f;
    uint8_t page[SNAP_PAGE];
    uint64_t *covered = snap_bitmap_new(SAMPLE_MEM), counter = 0;
    struct dstate_reader machine;
    int fd = disk_open(&w->disk, dir, name, O_RDWR, 0);
    if (fd < 0 || snap_open(&f, fd, NULL, NULL) < 0)
        return false;
    bool same = !w->seal || seal_check(w->seal, fd, NULL) == 0;
    for (size_t i = 0; i < f.nruns; i++) {
        struct snap_run run = snap_run_at(f.index, i);
        for (uint32_t k = 0; k < run.count; k++) {
            const uint8_t *want = w->s.mem + (uint64_t)(run.page + k) * SNAP_PAGE;
            memset(page, 0, sizeof page);
            if (!(run.flags & SNAP_RUN_ZERO))
                same &= fd_pread_full(fd, page, SNAP_PAGE, run.off + k * SNAP_PAGE) == 0;
            same &= memcmp(page, want, SNAP_PAGE) == 0;
            sample_mark(covered, run.page + k);
        }
    }
    struct snap_delta d = {.next = 0};
    for (size_t pos = 0;
         snap_next_delta(f.deltas, f.deltas_len, &pos, SAMPLE_PAGES, &d, NULL) > 0;) {
        memcpy(page, w->s.base + (uint64_t)d.page * SNAP_PAGE, SNAP_PAGE);
        snap_delta_apply(&d, page);
        same &= memcmp(page, w->s.mem + (uint64_t)d.page * SNAP_PAGE, SNAP_PAGE) == 0;
        sample_mark(covered, d.page);
    }
    for (uint64_t p = 0; p < SAMPLE_PAGES; p++)
        same &= snap_bit(covered, p) ||
                memcmp(w->s.base + p * SNAP_PAGE, w->s.mem + p * SNAP_PAGE, SNAP_PAGE) == 0;
    same &= dr_find(f.state, f.state_len, SNAP_TAG_MACHINE, 0, &machine, NULL) == 0 &&
            dr_u64(&machine, SNAP_MACHINE_COUNTER, &counter, NULL) == 0 &&
            counter == w->generation;
    snap_free(&f);
    disk_close(&w->disk, fd);
    free(covered);
    return same;
}

static const struct disk_names *names_in(struct world *w, const char *name)
{
    int at = names_find(&w->disk.inodes[DISK_ROOT].now, name);
    return at < 0 ? NULL : &w->disk.inodes[w->disk.inodes[DISK_ROOT].now.inode[at]].now;
}

static bool drop_layer(void *arg, const char *name)
{
    struct world *w = arg;
    int layers = disk_open_dir(&w->disk, LAYERS);
    snapfiles_drop_layer(&w->disk.io, layers, name);
    disk_close(&w->disk, layers);
    return true;
}

/* An image that counts has its layer; without one, none stays (api/layers.c). */
static const char *restart_layers(struct world *w)
{
    static const uint8_t id[32] = {0xab};
    char name[SNAPFILES_LAYER];
    const char *wrong = NULL;
    int layers = disk_open_dir(&w->disk, LAYERS);
    if (layers < 0)
        return NULL; /* a world without them */
    snapfiles_layer_name(name, id);
    if (w->state == ST_BUILT) {
        wrong =
            same_file(w, layers, name, w->s.mem, DISK_LEN) ? NULL : "the layer is not whole";
    } else {
        w->disk.io.list(w->disk.io.ctx, layers, drop_layer, w);
        wrong = names_in(w, LAYERS)->n ? "a layer that no image names stays" : NULL;
    }
    disk_close(&w->disk, layers);
    return wrong;
}

/* NULL, or what is wrong. */
static const char *restart(struct world *w)
{
    const struct snap_io *io = &w->disk.io;
    char name[SNAPFILES_NAME];
    const char *wrong = NULL;
    int dir = disk_open_dir(&w->disk, VM);
    snapfiles_name(name, w->generation);
    switch (w->state) {
    case ST_RUNNING:
    case ST_ENDING: /* a session that runs ends with its host */
        if (dir >= 0)
            snapfiles_clean(io, dir, 0, 0);
        if (dir >= 0 && names_in(w, VM)->n)
            wrong = "files of an ended session stay";
        break;
    case ST_ENDED:
        if (dir >= 0 && names_in(w, VM)->n)
            wrong = "files of a session came back after its end";
        break;
    case ST_SUSPENDED:
        if (w->resuming && dir >= 0 && !snapfiles_intact(io, dir, 0, w->generation)) {
            /* It ran: ended, as reconcile.c does it. */
            snapfiles_clean(io, dir, 0, 0);
            w->state = ST_ENDED;
            wrong = names_in(w, VM)->n ? "files of an ended session stay" : NULL;
        } else if (dir < 0 || !snapfiles_intact(io, dir, 0, w->generation))
            wrong = "the row says suspended, and the files are not there";
        else if (!same_file(w, dir, "disk.ovl", w->content, DISK_LEN))
            wrong = "the disk is not what it was";
        else if (!same_memory(w, dir, name))
            wrong = "the memory is not what it was";
        else if (snapfiles_clean(io, dir, 0, w->generation), names_in(w, VM)->n != 2)
            wrong = "files that nobody owns stay";
        else if (!snapfiles_intact(io, dir, 0, w->generation))
            wrong = "the cleaning took too much";
        break;
    case ST_PENDING: /* a build cut short */
        if (dir >= 0 && snapfiles_drop_image(io, dir, NULL) < 0)
            wrong = "the results of a cut build cannot be removed";
        else if (dir >= 0 && names_in(w, VM)->n)
            wrong = "files of a cut build stay";
        break;
    case ST_BUILT:
        if (dir < 0 || !same_file(w, dir, "disk.ovl", w->content, DISK_LEN) ||
            !same_file(w, dir, "meta", "shape\n", 6) || !same_memory(w, dir, "mem.snap"))
            wrong = "the image is not whole";
        break;
    case ST_GONE: { /* directories that no row names */
        int root = disk_open_dir(&w->disk, "");
        if (dir >= 0 && snapfiles_drop_tree(io, root, VM) < 0)
            wrong = "a directory nobody owns cannot be removed";
        else if (names_in(w, VM))
            wrong = "a directory nobody owns stays";
        disk_close(&w->disk, root);
        break;
    }
    }
    if (dir >= 0)
        disk_close(&w->disk, dir);
    return wrong ? wrong : restart_layers(w);
}

/* ---- every cut, every choice ---- */

struct choice {
    uint64_t bits;
    struct sample_rng rng;
};

static bool keep_event(void *arg, unsigned i)
{
    struct choice *c = arg;
    return i < 64 && c->bits >> i & 1;
}

static uint64_t tear(void *arg)
{
    struct choice *c = arg;
    return sample_random(&c->rng);
}

typedef void before_fn(struct world *w);
typedef int act_fn(struct world *w);

static unsigned trials;

/* One run with a cut before call `cut` (counted from 1). Returns how many events were open. */
static unsigned one_cut(before_fn *before, act_fn *act, struct seal *seal, unsigned cut,
                        struct choice c, bool torn, bool *ret_end)
{
    struct world w;
    world_new(&w, seal);
    before(&w);
    w.disk.calls = 0;
    w.disk.cut_at = cut;
    int r = act(&w);
    *ret_end = !w.disk.dead;
    if (*ret_end && r < 0)
        printf("# failed without a fault: %d\n", r);
    unsigned open = w.disk.nevents;
    disk_power_cycle(&w.disk, keep_event, torn ? tear : NULL, &c);
    const char *wrong = restart(&w);
    trials++;
    if (!CHECK(wrong == NULL))
        printf("# cut before call %u, survivors %llx%s: %s\n", cut, (unsigned long long)c.bits,
               torn ? ", torn" : "", wrong);
    /* And once more: the restart itself leaves nothing open that matters. */
    c.bits = 0;
    disk_power_cycle(&w.disk, keep_event, NULL, &c);
    wrong = restart(&w);
    if (!CHECK(wrong == NULL))
        printf("# second restart after call %u: %s\n", cut, wrong);
    disk_free(&w.disk);
    return open;
}

/* The kernel writes back the pages of one file in the order in which they were written. */
static void every_cut_in_order(before_fn *before, act_fn *act)
{
    bool end = false;
    for (unsigned cut = 1; !end && !tap_.test_failed; cut++) {
        struct choice c = {.bits = 0};
        unsigned open = one_cut(before, act, NULL, cut, c, false, &end);
        for (unsigned n = 1; n <= open && !tap_.test_failed; n++) {
            c.bits = (1ull << n) - 1;
            one_cut(before, act, NULL, cut, c, false, &end);
        }
    }
}

static void every_cut(before_fn *before, act_fn *act, struct seal *seal)
{
    struct sample_rng rng = {99};
    bool end = false;
    for (unsigned cut = 1; !end && !tap_.test_failed; cut++) {
        struct choice c = {.bits = 0, .rng = {cut}};
        unsigned open = one_cut(before, act, seal, cut, c, false, &end);
        bool all = open < 8;
        unsigned n = all ? 1u << open : CHOICES;
        for (unsigned i = 1; i < n && !tap_.test_failed; i++) {
            c.bits = all ? i : i == 1 ? UINT64_MAX : sample_random(&rng);
            one_cut(before, act, seal, cut, c, false, &end);
            if (i % 4 == 0)
                one_cut(before, act, seal, cut, c, true, &end);
        }
        CHECK(cut < 100);
    }
}

/* ---- every fault of every call ---- */

static void every_fault(before_fn *before, act_fn *act, struct seal *seal)
{
    static const int faults[] = {-ENOSPC, -EIO, -EDQUOT, -EINTR, 1};
    for (unsigned f = 0; f < ARRAY_LEN(faults); f++) {
        bool hit = true;
        for (unsigned call = 1; hit && !tap_.test_failed; call++) {
            struct world w;
            struct choice c = {.bits = UINT64_MAX};
            world_new(&w, seal);
            before(&w);
            enum state was = w.state;
            w.disk.calls = 0;
            w.disk.fail_at = call;
            w.disk.fail_with = faults[f];
            int r = act(&w);
            hit = w.disk.failed;
            w.disk.fail_at = 0;
            trials++;
            /* A failed step is told, and the row does not move beyond it. */
            bool ended = w.state != was && w.state != ST_ENDING;
            if (!CHECK(r < 0 || ended))
                printf("# call %u with %d: %d, state %d\n", call, faults[f], r, w.state);
            if (c.bits) /* half of the time everything survives */
                c.bits = call % 2 ? UINT64_MAX : 0;
            disk_power_cycle(&w.disk, keep_event, NULL, &c);
            const char *wrong = restart(&w);
            if (!CHECK(wrong == NULL))
                printf("# call %u with %d: %s\n", call, faults[f], wrong);
            disk_free(&w.disk);
        }
    }
}

/* After a fault the same session can be suspended again. */
static void again_after_faults(struct seal *seal)
{
    static const int faults[] = {-ENOSPC, -EIO};
    unsigned lost = 0;
    for (unsigned f = 0; f < ARRAY_LEN(faults); f++) {
        bool hit = true;
        for (unsigned call = 1; hit && !tap_.test_failed; call++) {
            struct world w;
            struct choice c = {.bits = 0};
            world_new(&w, seal);
            before_second(&w);
            w.disk.calls = 0;
            w.disk.fail_at = call;
            w.disk.fail_with = faults[f];
            int r = suspend(&w);
            hit = w.disk.failed;
            lost += r == -ENOTRECOVERABLE;
            /* Only what is removed at the end failed; or it has to end. */
            if (r == 0 || !hit || r == -ENOTRECOVERABLE) {
                disk_free(&w.disk);
                continue;
            }
            w.disk.fail_at = 0;
            w.state = ST_RUNNING;
            int dir = disk_open_dir(&w.disk, VM);
            w.s.mem[0]++; /* it went on in the meantime */
            sample_mark(w.s.candidates, 0);
            disk_close(&w.disk, dir);
            CHECK(suspend(&w) == 0);
            disk_power_cycle(&w.disk, keep_event, NULL, &c);
            const char *wrong = restart(&w);
            trials++;
            if (!CHECK(wrong == NULL))
                printf("# again after call %u with %d: %s\n", call, faults[f], wrong);
            w.s.mem[0] = 0;
            disk_free(&w.disk);
        }
    }
    CHECK(lost == ARRAY_LEN(faults));
}

static struct seal *key;

TEST(first_suspend)
{
    every_cut(before_first, suspend, NULL);
}

TEST(second_suspend)
{
    every_cut(before_second, suspend, NULL);
}

TEST(sealed_suspend)
{
    every_cut(before_second, suspend, key);
}

TEST(resume_and_flush)
{
    every_cut_in_order(before_resume, resume);
}

TEST(end_of_a_session)
{
    every_cut(before_second, end, NULL);
}

TEST(publish_an_image)
{
    every_cut(before_build, build, NULL);
}

TEST(delete_files)
{
    every_cut(before_second, forget, NULL);
}

TEST(faults)
{
    every_fault(before_first, suspend, NULL);
    every_fault(before_second, suspend, key);
    every_fault(before_second, end, NULL);
    every_fault(before_build, build, NULL);
    every_fault(before_second, forget, NULL);
}

TEST(again)
{
    again_after_faults(NULL);
}

static void make_key(void)
{
    char path[] = "/tmp/test_power.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    for (unsigned i = 0; fd >= 0 && i < 64; i++)
        (void)!write(fd, "a", 1);
    struct err e = ERR_INIT;
    if (fd < 0 || seal_open(&key, path, &e) < 0) {
        printf("# %s\n", e.msg);
        abort();
    }
    close(fd);
    unlink(path);
}

int main(void)
{
    int image = sample_memfd("image");
    if (sample_image(&shared, image) < 0)
        abort();
    make_key();
    RUN(first_suspend);
    RUN(second_suspend);
    RUN(sealed_suspend);
    RUN(resume_and_flush);
    RUN(end_of_a_session);
    RUN(publish_an_image);
    RUN(delete_files);
    RUN(faults);
    RUN(again);
    printf("# %u runs that were cut or failed\n", trials);
    sample_free(&shared);
    seal_free(key);
    close(image);
    return TAP_DONE();
}
