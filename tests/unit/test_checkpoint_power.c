// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints, ways back and merged layers over a disk that loses power before
 * every call, with every choice of what survived where there are up to 256 of
 * them, torn writes, and a failure of every call (tests/fault/disk.h). After
 * each restart microVM and checkpoint are what their rows say, old or new, and
 * no file is left that nobody has. The order of the calls is that of
 * api/fleet_take.c, fleet_checkpoint.c and fleet_rollback.c.
 */
#include <stdio.h>

#include "../../api/cpfiles.h"
#include "../../hypervisor/base/num.h"
#include "../../snapshot/overlay.h"
#include "../fault/disk.h"
#include "../tap.h"

#define CHOICES 256u
#define BLOCKS  2u
#define SIZE    (BLOCKS * OVERLAY_BLOCK)
#define DATA    8192u /* of the overlay file: header, bitmap, blocks */
#define LAYERS  3u

enum state { RUNS, ASLEEP, ENDED };

struct rows { /* what is in the database: always durable, changed by commit() only */
    enum state vm;
    uint64_t serial, generation;
    unsigned n;
    char layers[LAYERS][8];
    bool cp;
    unsigned cp_n;
    char cp_layers[LAYERS][8];
};

struct facts { /* what memory and disk must hold */
    char memory;
    char blocks[BLOCKS];
};

struct world {
    struct disk disk;
    struct rows rows;
    struct facts vm, cp;
    struct facts vm_next; /* once the rows are the new ones */
    bool committed;
};

/* ---- the database, the guest, the machine ---- */

static int commit(struct world *w, const struct rows *rows)
{
    int r = disk_step(&w->disk);
    if (r < 0)
        return r;
    w->rows = *rows;
    w->committed = true;
    return 0;
}

static int dir_of(struct world *w, const char *name)
{
    return disk_open_dir(&w->disk, name);
}

/* Data, sync, mark, and with `flush` sync. */
static int guest_writes(struct world *w, int fd, unsigned block, char c, bool flush)
{
    uint8_t data[512], marks = 0;
    memset(data, c, sizeof data);
    int r =
        snap_io_write_full(&w->disk.io, fd, data, sizeof data, DATA + block * OVERLAY_BLOCK);
    if (r == 0)
        r = disk_sync(&w->disk, fd);
    if (r == 0)
        r = fd_pread_full(fd, &marks, 1, OVERLAY_BLOCK);
    marks |= (uint8_t)(1u << block);
    if (r == 0)
        r = snap_io_write_full(&w->disk.io, fd, &marks, 1, OVERLAY_BLOCK);
    return r == 0 && flush ? disk_sync(&w->disk, fd) : r;
}

static int write_memory(struct world *w, int fd, char c)
{
    uint8_t data[1024];
    memset(data, c, sizeof data);
    return snap_io_write_full(&w->disk.io, fd, data, sizeof data, 0);
}

/* ---- the worlds before ---- */

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void new_world(struct world *w, enum state state)
{
    memset(w, 0, sizeof *w);
    disk_init(&w->disk);
    disk_mkdir(&w->disk, DISK_ROOT, "vm");
    disk_mkdir(&w->disk, DISK_ROOT, "layers");
    disk_mkdir(&w->disk, DISK_ROOT, "checkpoints");
    int vm = dir_of(w, "vm"), fd;
    must(cpfiles_top(&w->disk.io, vm, 0, SIZE, true, &fd, NULL) == 0);
    must(guest_writes(w, fd, 0, 'a', true) == 0);
    disk_close(&w->disk, fd);
    if (state == ASLEEP) {
        fd = disk_open(&w->disk, vm, "mem.snap.1", O_RDWR | O_CREAT, 0600);
        must(write_memory(w, fd, '1') == 0);
        disk_close(&w->disk, fd);
    }
    disk_close(&w->disk, vm);
    disk_sync_all(&w->disk);
    w->rows = (struct rows){.vm = state, .generation = 1};
    w->vm = (struct facts){.memory = '1', .blocks = {'a', 0}};
    w->vm_next = w->vm;
}

static void asleep(struct world *w)
{
    new_world(w, ASLEEP);
}

static void runs(struct world *w)
{
    new_world(w, RUNS);
}

/* ---- what is done ---- */

/* The first half of fleet_take.c. */
static int begin(struct world *w, int vm, int layers, bool sync, int *ret_top)
{
    const struct snap_io *io = &w->disk.io;
    uint64_t serial = w->rows.serial;
    char id[8];
    snprintf(id, sizeof id, "l%u", (unsigned)serial);
    int r = cpfiles_freeze(io, vm, serial, layers, id, NULL);
    if (r == 0)
        r = cpfiles_top(io, vm, serial + 1, SIZE, sync, ret_top, NULL);
    return r == 0 && sync ? disk_sync(&w->disk, vm) : r;
}

static struct rows with_layer(const struct world *w)
{
    struct rows rows = w->rows;
    snprintf(rows.layers[rows.n++], sizeof rows.layers[0], "l%u", (unsigned)rows.serial);
    rows.serial++;
    return rows;
}

static void give_checkpoint(struct rows *rows)
{
    rows->cp = true;
    rows->cp_n = rows->n;
    memcpy(rows->cp_layers, rows->layers, sizeof rows->layers);
}

static void remove_top(struct world *w, int vm, uint64_t serial)
{
    char name[SNAPFILES_NAME];
    snapfiles_disk(name, serial);
    w->disk.io.unlink(&w->disk, vm, name, false);
}

static int checkpoint_asleep(struct world *w)
{
    int vm = dir_of(w, "vm"), layers = dir_of(w, "layers"), cps = dir_of(w, "checkpoints");
    struct rows rows = with_layer(w);
    char name[SNAPFILES_NAME];
    uint64_t before = w->rows.serial;
    snapfiles_name(name, rows.generation);
    w->cp = w->vm;
    int r = begin(w, vm, layers, true, NULL);
    if (r == 0)
        r = cpfiles_share(&w->disk.io, vm, name, cps, "c1", NULL);
    give_checkpoint(&rows);
    if (r == 0)
        r = commit(w, &rows);
    if (r == 0)
        remove_top(w, vm, before);
    disk_close(&w->disk, vm);
    disk_close(&w->disk, layers);
    disk_close(&w->disk, cps);
    return r;
}

static int checkpoint_running(struct world *w)
{
    const struct snap_io *io = &w->disk.io;
    int vm = dir_of(w, "vm"), layers = dir_of(w, "layers"), cps = dir_of(w, "checkpoints");
    int top = -1, mem = -1, old = -1;
    struct rows rows = with_layer(w);
    uint64_t before = w->rows.serial, bytes;
    char name[SNAPFILES_NAME];
    snapfiles_disk(name, before);
    int r = begin(w, vm, layers, false, &top);
    if (r == 0)
        r = cpfiles_memory(io, cps, "c1", &mem, NULL);
    if (r == 0)
        r = commit(w, &rows); /* the machine writes to the old top still */
    if (r == 0)
        r = old = disk_open(&w->disk, vm, name, O_RDWR, 0);
    if (r >= 0)
        r = guest_writes(w, old, 1, 'b', true);
    if (r == 0)
        r = write_memory(w, mem, '2');
    w->cp = (struct facts){.memory = '2', .blocks = {w->vm.blocks[0], 'b'}};
    if (r == 0) /* switched: it goes on */
        r = guest_writes(w, top, 0, 'z', false);
    w->vm = w->vm_next = (struct facts){.memory = '2', .blocks = {'z', 'b'}};
    if (r == 0)
        remove_top(w, vm, before);
    if (r == 0)
        r = cpfiles_publish(io, NULL, cps, "c1", mem, &bytes, NULL);
    give_checkpoint(&rows);
    if (r == 0)
        r = commit(w, &rows);
    const int fds[] = {vm, layers, cps, top, mem, old};
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            disk_close(&w->disk, fds[i]);
    }
    return r;
}

static int save(void *ctx, int fd, struct err *e)
{
    (void)e;
    return write_memory(ctx, fd, '3');
}

static int commit_sleep(void *ctx, struct err *e)
{
    struct world *w = ctx;
    struct rows rows = w->rows;
    rows.vm = ASLEEP;
    int r = commit(w, &rows);
    return r < 0 ? err_sys(e, -r, "write the row") : 0;
}

static int suspend(struct world *w)
{
    const struct snapfiles_steps s = {.save = save, .commit = commit_sleep, .ctx = w};
    int root = dir_of(w, ""), vm = dir_of(w, "vm");
    uint64_t bytes;
    w->vm.memory = w->vm_next.memory = '3';
    int r = snapfiles_suspend(&w->disk.io, NULL, root, vm, w->rows.serial, w->rows.generation,
                              &s, &bytes, NULL);
    disk_close(&w->disk, vm);
    disk_close(&w->disk, root);
    return r;
}

static int checkpoint_and_sleep(struct world *w)
{
    int r = checkpoint_running(w);
    return r == 0 ? suspend(w) : r;
}

/* One that slept, was checkpointed, and has changed its disk since. */
static void with_checkpoint(struct world *w)
{
    asleep(w);
    must(checkpoint_asleep(w) == 0);
    int vm = dir_of(w, "vm"), fd = disk_open(&w->disk, vm, "disk.1.ovl", O_RDWR, 0);
    must(guest_writes(w, fd, 0, 'q', true) == 0);
    disk_close(&w->disk, fd);
    disk_close(&w->disk, vm);
    disk_sync_all(&w->disk);
    w->vm.blocks[0] = 'q';
    w->vm_next = w->cp;
    w->committed = false;
}

static void with_checkpoint_running(struct world *w)
{
    runs(w);
    must(checkpoint_running(w) == 0);
    disk_sync_all(&w->disk);
    w->vm_next = w->cp;
    w->committed = false;
}

static int rollback(struct world *w)
{
    const struct snap_io *io = &w->disk.io;
    int vm = dir_of(w, "vm"), cps = dir_of(w, "checkpoints");
    struct rows rows = w->rows;
    char name[SNAPFILES_NAME];
    rows.vm = ASLEEP;
    rows.serial++;
    rows.generation++;
    rows.n = rows.cp_n;
    memcpy(rows.layers, rows.cp_layers, sizeof rows.layers);
    snapfiles_name(name, rows.generation);
    int r = cpfiles_top(io, vm, rows.serial, SIZE, true, NULL, NULL);
    if (r == 0)
        r = cpfiles_share(io, cps, "c1", vm, name, NULL);
    if (r == 0)
        r = commit(w, &rows);
    if (r == 0)
        snapfiles_clean(io, vm, rows.serial, rows.generation);
    disk_close(&w->disk, vm);
    disk_close(&w->disk, cps);
    return r;
}

static int delete_checkpoint(struct world *w)
{
    int cps = dir_of(w, "checkpoints");
    struct rows rows = w->rows;
    w->vm_next = w->vm;
    rows.cp = false;
    int r = commit(w, &rows);
    if (r == 0)
        cpfiles_remove(&w->disk.io, cps, "c1");
    disk_close(&w->disk, cps);
    return r;
}

/* Two layers that nobody else has. */
static void with_two_layers(struct world *w)
{
    with_checkpoint(w);
    w->rows.cp = false;
    int vm = dir_of(w, "vm"), layers = dir_of(w, "layers"), cps = dir_of(w, "checkpoints");
    struct rows rows = with_layer(w);
    must(begin(w, vm, layers, true, NULL) == 0 && commit(w, &rows) == 0);
    remove_top(w, vm, 1);
    cpfiles_remove(&w->disk.io, cps, "c1");
    disk_close(&w->disk, vm);
    disk_close(&w->disk, layers);
    disk_close(&w->disk, cps);
    disk_sync_all(&w->disk);
    w->vm_next = w->vm;
}

/* Both layers as one file "m". */
static int join(struct world *w, int layers, const struct overlay_pace *pace)
{
    int fds[2] = {-1, -1}, r = 0;
    for (unsigned i = 0; i < 2 && r >= 0; i++)
        r = fds[i] = disk_open(&w->disk, layers, w->rows.layers[i], O_RDWR, 0);
    if (r >= 0)
        r = cpfiles_merge(&w->disk.io, layers, fds, 2, "m", pace, NULL);
    for (unsigned i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            disk_close(&w->disk, fds[i]);
    }
    return r;
}

static void remove_both(struct world *w, int layers)
{
    cpfiles_remove(&w->disk.io, layers, "l0");
    cpfiles_remove(&w->disk.io, layers, "l1");
}

static int merge(struct world *w)
{
    int layers = dir_of(w, "layers"), r = join(w, layers, NULL);
    struct rows rows = w->rows;
    rows.n = 1;
    snprintf(rows.layers[0], sizeof rows.layers[0], "m");
    if (r == 0)
        r = commit(w, &rows);
    if (r == 0)
        remove_both(w, layers);
    disk_close(&w->disk, layers);
    return r;
}

/* What fleet_flatten.c joins: a checkpoint has both layers, too, and a second one, which stands
 * for another microVM's, the lower. */
static void with_shared_layers(struct world *w)
{
    with_two_layers(w);
    int cps = dir_of(w, "checkpoints");
    int fd = disk_open(&w->disk, cps, "c1", O_RDWR | O_CREAT, 0600);
    must(write_memory(w, fd, '1') == 0);
    disk_close(&w->disk, fd);
    disk_close(&w->disk, cps);
    disk_sync_all(&w->disk);
    w->cp = w->vm;
    give_checkpoint(&w->rows);
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static int flatten(struct world *w)
{
    const struct overlay_pace pace = {.sync_bytes = 1, .stop = never};
    int layers = dir_of(w, "layers"), r = join(w, layers, &pace);
    struct rows rows = w->rows;
    rows.n = 1;
    snprintf(rows.layers[0], sizeof rows.layers[0], "m");
    if (r == 0)
        r = commit(w, &rows); /* the microVM's; another one has the old layers still */
    rows.cp_n = 1;
    snprintf(rows.cp_layers[0], sizeof rows.cp_layers[0], "m");
    if (r == 0)
        r = commit(w, &rows);
    if (r == 0) /* nobody has them any more */
        remove_both(w, layers);
    disk_close(&w->disk, layers);
    return r;
}

static unsigned asked;

static bool at_second(void *ctx)
{
    (void)ctx;
    return ++asked == 2;
}

/* Not wanted any more in the middle: nothing is left, also after a loss of power. */
static int give_up(struct world *w)
{
    const struct overlay_pace pace = {.sync_bytes = 1, .stop = at_second};
    asked = 0;
    int layers = dir_of(w, "layers"), r = join(w, layers, &pace);
    disk_close(&w->disk, layers);
    return r == -ECANCELED ? 0 : r;
}

/* ---- the restart ---- */

static bool same_memory(struct world *w, int dir, const char *name, char want)
{
    uint8_t got[1024];
    struct stat st;
    int fd = disk_open(&w->disk, dir, name, O_RDWR, 0);
    bool same = fd >= 0 && fstat(fd, &st) == 0 && st.st_size == sizeof got &&
                fd_pread_full(fd, got, sizeof got, 0) == 0;
    for (unsigned i = 0; i < sizeof got && same; i++)
        same = got[i] == (uint8_t)want;
    if (fd >= 0)
        disk_close(&w->disk, fd);
    return same;
}

/* Over what is below. */
static bool apply_layer(struct world *w, int dir, const char *name, char blocks[BLOCKS])
{
    struct overlay *o = NULL;
    int fd = disk_open(&w->disk, dir, name, O_RDWR, 0);
    bool ok = fd >= 0 && overlay_open(&o, fd, false, NULL) == 0;
    for (unsigned b = 0; b < BLOCKS && ok; b++) {
        uint8_t data[512];
        if (!overlay_has(o, b))
            continue;
        ok = fd_pread_full(fd, data, sizeof data, overlay_offset(o, b)) == 0;
        for (unsigned i = 0; i < sizeof data && ok; i++)
            ok = data[i] == data[0];
        blocks[b] = (char)data[0];
    }
    overlay_free(o);
    if (fd >= 0)
        disk_close(&w->disk, fd);
    return ok;
}

static bool same_disk(struct world *w, unsigned n, char (*names)[8], const char *top,
                      const struct facts *want)
{
    int layers = dir_of(w, "layers"), vm = dir_of(w, "vm");
    char blocks[BLOCKS] = {0};
    bool ok = true;
    for (unsigned i = 0; i < n && ok; i++)
        ok = apply_layer(w, layers, names[i], blocks);
    if (ok && top)
        ok = apply_layer(w, vm, top, blocks);
    disk_close(&w->disk, layers);
    disk_close(&w->disk, vm);
    return ok && memcmp(blocks, want->blocks, sizeof blocks) == 0;
}

static unsigned names_in(struct world *w, const char *name)
{
    int at = names_find(&w->disk.inodes[DISK_ROOT].now, name);
    return w->disk.inodes[w->disk.inodes[DISK_ROOT].now.inode[at]].now.n;
}

static bool known_layer(void *ctx, const char *name)
{
    const struct rows *r = &((struct world *)ctx)->rows;
    for (unsigned i = 0; i < r->n; i++) {
        if (strcmp(r->layers[i], name) == 0)
            return true;
    }
    for (unsigned i = 0; i < r->cp_n && r->cp; i++) {
        if (strcmp(r->cp_layers[i], name) == 0)
            return true;
    }
    return false;
}

static bool known_checkpoint(void *ctx, const char *name)
{
    return ((struct world *)ctx)->rows.cp && strcmp(name, "c1") == 0;
}

/* As reconcile.c does it. NULL, or what is wrong. */
static const char *restart(struct world *w)
{
    const struct snap_io *io = &w->disk.io;
    struct rows *r = &w->rows;
    char mem[SNAPFILES_NAME], top[SNAPFILES_NAME];
    const char *wrong = NULL;
    int vm = dir_of(w, "vm"), layers = dir_of(w, "layers"), cps = dir_of(w, "checkpoints");
    snapfiles_name(mem, r->generation);
    snapfiles_disk(top, r->serial);
    const struct facts *want = w->committed ? &w->vm_next : &w->vm;
    if (r->vm == RUNS) { /* ends with its host; its checkpoint stays */
        r->vm = ENDED;
        r->n = 0;
    }
    if (r->vm == ASLEEP && !snapfiles_intact(io, vm, r->serial, r->generation))
        wrong = "the row says suspended, and the files are not there";
    else if (r->vm == ASLEEP && !same_memory(w, vm, mem, want->memory))
        wrong = "the memory is not what it was";
    else if (r->vm == ASLEEP && !same_disk(w, r->n, r->layers, top, want))
        wrong = "the disk is not what it was";
    else if (r->cp && !same_memory(w, cps, "c1", w->cp.memory))
        wrong = "the checkpoint's memory is not what it was";
    else if (r->cp && !same_disk(w, r->cp_n, r->cp_layers, NULL, &w->cp))
        wrong = "the checkpoint's disk is not what it was";
    snapfiles_clean(io, vm, r->serial, r->vm == ASLEEP ? r->generation : 0);
    cpfiles_clean(io, layers, known_layer, w);
    cpfiles_clean(io, cps, known_checkpoint, w);
    unsigned known = 0, all = names_in(w, "layers");
    for (unsigned i = 0; i < LAYERS; i++) {
        known += i < r->n;
        bool both = false;
        for (unsigned k = 0; k < r->n && i < r->cp_n; k++)
            both |= strcmp(r->layers[k], r->cp_layers[i]) == 0;
        known += r->cp && i < r->cp_n && !both;
    }
    if (!wrong && (all != known || names_in(w, "checkpoints") != r->cp ||
                   names_in(w, "vm") != (r->vm == ASLEEP ? 2u : 0u)))
        wrong = "files that nobody has stay, or too much was removed";
    disk_close(&w->disk, vm);
    disk_close(&w->disk, layers);
    disk_close(&w->disk, cps);
    return wrong;
}

/* ---- every cut, every choice, every fault ---- */

struct choice {
    uint64_t bits, seed;
};

static bool keep_event(void *arg, unsigned i)
{
    const struct choice *c = arg;
    return i < 64 && c->bits >> i & 1;
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return *seed >> 33;
}

static uint64_t tear(void *arg)
{
    struct choice *c = arg;
    return next_random(&c->seed);
}

typedef void before_fn(struct world *w);
typedef int act_fn(struct world *w);

static unsigned trials;

static void check_restart(struct world *w, struct choice c, bool torn, const char *what,
                          unsigned call)
{
    disk_power_cycle(&w->disk, keep_event, torn ? tear : NULL, &c);
    const char *wrong = restart(w);
    trials++;
    if (!CHECK(wrong == NULL))
        printf("# %s %u, survivors %llx%s: %s\n", what, call, (unsigned long long)c.bits,
               torn ? ", torn" : "", wrong);
    c.bits = 0; /* and once more: the restart itself leaves nothing open that matters */
    disk_power_cycle(&w->disk, keep_event, NULL, &c);
    wrong = restart(w);
    if (!CHECK(wrong == NULL))
        printf("# second restart after %s %u: %s\n", what, call, wrong);
    disk_free(&w->disk);
}

static unsigned one_cut(before_fn *before, act_fn *act, unsigned cut, struct choice c,
                        bool torn, bool *ret_end)
{
    struct world w;
    before(&w);
    w.disk.calls = 0;
    w.disk.cut_at = cut;
    int r = act(&w);
    *ret_end = !w.disk.dead;
    if (*ret_end && !CHECK(r == 0))
        printf("# failed without a fault: %d\n", r);
    unsigned open = w.disk.nevents;
    check_restart(&w, c, torn, "cut before call", cut);
    return open;
}

static void every_cut(before_fn *before, act_fn *act)
{
    uint64_t seed = 99;
    bool end = false;
    for (unsigned cut = 1; !end && !tap_.test_failed; cut++) {
        struct choice c = {.bits = 0, .seed = cut};
        unsigned open = one_cut(before, act, cut, c, false, &end);
        bool all = open < 8;
        unsigned n = all ? 1u << open : CHOICES;
        for (unsigned i = 1; i < n && !tap_.test_failed; i++) {
            c.bits = all      ? i
                     : i == 1 ? UINT64_MAX
                              : next_random(&seed) << 31 ^ next_random(&seed);
            one_cut(before, act, cut, c, i % 4 == 0, &end);
        }
        CHECK(cut < 100);
    }
}

static void every_fault(before_fn *before, act_fn *act)
{
    static const int faults[] = {-ENOSPC, -EIO, 1};
    for (unsigned f = 0; f < ARRAY_LEN(faults); f++) {
        bool hit = true;
        for (unsigned call = 1; hit && !tap_.test_failed; call++) {
            struct world w;
            before(&w);
            w.disk.calls = 0;
            w.disk.fail_at = call;
            w.disk.fail_with = faults[f];
            act(&w);
            hit = w.disk.failed;
            w.disk.fail_at = 0;
            struct choice c = {.bits = call % 2 ? UINT64_MAX : 0};
            check_restart(&w, c, false, "fault at call", call);
        }
    }
}

static void all(before_fn *before, act_fn *act)
{
    every_cut(before, act);
    every_fault(before, act);
}

TEST(of_a_suspended_one)
{
    all(asleep, checkpoint_asleep);
}

TEST(of_a_running_one)
{
    all(runs, checkpoint_running);
}

TEST(and_its_next_sleep)
{
    all(runs, checkpoint_and_sleep);
}

TEST(back_while_suspended)
{
    all(with_checkpoint, rollback);
}

TEST(back_while_running)
{
    all(with_checkpoint_running, rollback);
}

TEST(deleting)
{
    all(with_checkpoint, delete_checkpoint);
}

TEST(merging)
{
    all(with_two_layers, merge);
}

TEST(flattening)
{
    all(with_shared_layers, flatten);
}

TEST(flattening_given_up)
{
    all(with_shared_layers, give_up);
}

int main(void)
{
    RUN(of_a_suspended_one);
    RUN(of_a_running_one);
    RUN(and_its_next_sleep);
    RUN(back_while_suspended);
    RUN(back_while_running);
    RUN(deleting);
    RUN(merging);
    RUN(flattening);
    RUN(flattening_given_up);
    printf("# %u runs that were cut or failed\n", trials);
    return TAP_DONE();
}
