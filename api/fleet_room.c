// SPDX-License-Identifier: Apache-2.0
/*
 * Who may run: memory, disk and number. A clone shares its image's memory and
 * costs what it writes, so memory is promised more than once: a microVM is
 * admitted while the host really has memory to give, and the baselines together
 * stay below a multiple of it. A suspended microVM takes none; on a full host
 * the one that was idle for longest is suspended for one that is to run.
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "fleet_priv.h"

#define OVERCOMMIT     16u
#define ROOM_PER_START (48ull << 20)     /* what one more may take soon */
#define SAMPLE_NS      (100 * NS_PER_MS) /* how old the host's figure may be */
#define RESERVE(f)     ((f)->host_mem / 16 + (64ull << 20)) /* stays free */
#define DISK_RESERVE   (128ull << 20) /* for what the running ones may write */
#define SLOTS_MAX      (PRIV_SLOTS - 16)
/* Who was asked that lately is not idle: else many that are all in use would only put each
 * other to sleep. */
#define ROOM_IDLE_NS  (5 * NS_PER_S)
#define ROOM_TRIES    4u
#define GONE_LIMIT_MS 5000

/* With f->lock. */
static uint64_t available(struct fleet *f)
{
    char text[512];
    uint64_t now = now_ns(), kib;
    if (f->mem_sampled && now - f->mem_sampled < SAMPLE_NS)
        return f->mem_available;
    ssize_t n = pread(f->meminfo, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, "MemAvailable:");
    at = at ? at + 13 + strspn(at + 13, " ") : "";
    if (parse_u64n(at, strspn(at, "0123456789"), 0, UINT64_MAX >> 10, &kib)) {
        f->mem_available = kib << 10;
        f->mem_sampled = now;
    }
    return f->mem_available;
}

uint64_t fleet_disk_free(const struct fleet *f)
{
    struct statvfs st;
    return fstatvfs(f->state_dir, &st) < 0 ? UINT64_MAX : (uint64_t)st.f_bavail * st.f_frsize;
}

/* With f->lock. */
static void count_in(struct fleet *f, struct fvm *vm)
{
    f->mem_live += (uint64_t)vm->image->config.mem_mib << 20;
    f->live++;
    vm->admitted = true;
}

int fleet_admit(struct fleet *f, struct fvm *vm, struct err *e)
{
    uint64_t bytes = (uint64_t)vm->image->config.mem_mib << 20;
    unsigned most = f->c.max_running ? MIN(f->c.max_running, SLOTS_MAX) : SLOTS_MAX;
    int r = 0;
    pthread_mutex_lock(&f->lock);
    if (!vm->admitted) {
        if (f->live >= most || f->mem_live + bytes > f->host_mem * OVERCOMMIT ||
            available(f) < RESERVE(f) + ROOM_PER_START) {
            r = err_set(e, ENOSPC,
                        "no capacity: %u microVMs run and %llu MiB of memory are left", f->live,
                        (unsigned long long)(f->mem_available >> 20));
        } else {
            f->mem_available -= ROOM_PER_START; /* until the next look at the host */
            count_in(f, vm);
        }
    }
    pthread_mutex_unlock(&f->lock);
    return r;
}

void fleet_admit_anyhow(struct fleet *f, struct fvm *vm)
{
    pthread_mutex_lock(&f->lock);
    if (!vm->admitted)
        count_in(f, vm);
    pthread_mutex_unlock(&f->lock);
}

void fleet_unadmit(struct fleet *f, struct fvm *vm)
{
    pthread_mutex_lock(&f->lock);
    if (vm->admitted) {
        f->mem_live -= (uint64_t)vm->image->config.mem_mib << 20;
        f->live--;
        vm->admitted = false;
    }
    pthread_mutex_unlock(&f->lock);
}

/* ---- making room ---- */

/* With vm->lock: it may be put to sleep by us, and a request wakes it again. */
static bool gives_way(const struct fvm *vm, uint64_t now)
{
    return vm->state == VM_RUNNING && !vm->busy && vm->in_flight == 0 && vm->row.has_idle &&
           vm->row.auto_resume && vm->row.suspended_seconds && vm->vmm &&
           now >= vm->idle_since + ROOM_IDLE_NS;
}

/* The one that was idle for longest, with a reference; NULL: there is none. */
static struct fvm *longest_idle(struct fleet *f)
{
    struct fvm *best = NULL;
    uint64_t now = now_ns(), since = UINT64_MAX;
    pthread_mutex_lock(&f->lock);
    for (unsigned b = 0; b < FLEET_BUCKETS; b++) {
        for (struct fvm *vm = f->by_id[b]; vm; vm = vm->next_id) {
            pthread_mutex_lock(&vm->lock);
            if (gives_way(vm, now) && vm->idle_since < since) {
                best = vm;
                since = vm->idle_since;
            }
            pthread_mutex_unlock(&vm->lock);
        }
    }
    if (best)
        best->refs++;
    pthread_mutex_unlock(&f->lock);
    return best;
}

/* False when nobody can go. */
static bool make_room(struct fleet *f)
{
    struct fvm *vm = longest_idle(f);
    struct err e = ERR_INIT;
    if (!vm)
        return false;
    uint32_t slot = PRIV_SLOTS;
    pthread_mutex_lock(&vm->lock);
    bool mine = gives_way(vm, now_ns()); /* still */
    if (mine) {
        vm->state = (enum vm_state)fsm_next(vm->state, EV_SUSPEND);
        vm->busy = true;
        slot = vm->vmm->slot;
    }
    pthread_mutex_unlock(&vm->lock);
    if (mine) {
        if (vm_suspend(f, vm, &e) == 0)
            log_info("%s was suspended to make room", vm->row.id);
        else
            log_err(LOG_WARN, &e, "suspend an idle microVM to make room");
        fleet_end(vm);
        fleet_io_await_free(f->io, slot, deadline_ms(GONE_LIMIT_MS));
        pthread_mutex_lock(&f->lock);
        f->mem_sampled = 0;
        pthread_mutex_unlock(&f->lock);
    }
    fleet_vm_put(f, vm);
    return true;
}

int fleet_admit_or_make_room(struct fleet *f, struct fvm *vm, bool fresh, struct err *e)
{
    uint64_t left = fresh ? fleet_disk_free(f) : UINT64_MAX;
    if (left < DISK_RESERVE)
        return err_set(e, ENOSPC,
                       "no capacity: %llu MiB are left on the state directory's disk",
                       (unsigned long long)(left >> 20));
    int r = fleet_admit(f, vm, e);
    for (unsigned i = 0; i < ROOM_TRIES && r == -ENOSPC && make_room(f); i++)
        r = fleet_admit(f, vm, e);
    return r;
}

/* ---- builders ---- */

/* With jlock. A builder fills what it is given with files it has read: it is counted whole. */
static bool build_fits(const struct fleet *f, uint64_t bytes)
{
    return f->build_mem == 0 || f->build_mem + bytes <= f->host_mem / 2;
}

int fleet_admit_build(struct fleet *f, uint64_t bytes, bool wait, struct err *e)
{
    int r = 0;
    pthread_mutex_lock(&f->jlock);
    while (wait && !build_fits(f, bytes) && !f->stop)
        pthread_cond_wait(&f->jcond, &f->jlock);
    if (!build_fits(f, bytes))
        r = err_set(e, EAGAIN, "other builds have the memory that this one needs");
    else
        f->build_mem += bytes;
    pthread_mutex_unlock(&f->jlock);
    if (r < 0)
        return r;
    /* What runs gives way as far as it is idle; with less than a start needs it would thrash.
     */
    const uint64_t least = RESERVE(f) + ROOM_PER_START, want = least + bytes / 4;
    uint64_t left;
    unsigned tries = 0;
    do {
        pthread_mutex_lock(&f->lock);
        left = available(f);
        pthread_mutex_unlock(&f->lock);
    } while (left < want && tries++ < ROOM_TRIES && make_room(f));
    if (left >= least)
        return 0;
    fleet_unadmit_build(f, bytes);
    return err_set(e, ENOMEM, "no capacity: %llu MiB of memory are left for a builder",
                   (unsigned long long)(left >> 20));
}

void fleet_unadmit_build(struct fleet *f, uint64_t bytes)
{
    pthread_mutex_lock(&f->jlock);
    f->build_mem -= bytes;
    pthread_cond_broadcast(&f->jcond);
    pthread_mutex_unlock(&f->jlock);
}
