// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of the fleet share. Lock order: fleet.lock, then a vm's lock,
 * then those inside io, pool and jobs; none is held over a wait for a guest. An
 * operation on a microVM sets `busy` and then works without the lock; everybody
 * else waits on its condition variable.
 */
#ifndef DORMOUSE_API_FLEET_PRIV_H
#define DORMOUSE_API_FLEET_PRIV_H

#include <pthread.h>

#include "applog.h"
#include "config_json.h"
#include "drift.h"
#include "fleet.h"
#include "fleet_io.h"
#include "fsm.h"
#include "layers.h"
#include "pool.h"
#include "seal.h"
#include "snapfiles.h"
#include "store_checkpoint.h"
#include "uuid.h"
#include "vmm.h"

#define FLEET_BUCKETS 4096u
/* Generous: they are for guests that hang. On a host with an instruction-counted clock time
 * leaps ahead whenever a disk is waited for. */
#define RESTORE_LIMIT_MS 300000 /* load, link and GP_RESTORED each: who is slow is not lost */
#define FREEZE_LIMIT_MS  300000
/* No balloon: with free-page reporting every clone goes through all of its free memory in its
 * first half minute, in sixteen rounds two seconds apart (the guest kernel's pace), and copies
 * the page structures it marks. Measured, 2 GiB guest: 1480 page faults instead of 530, and
 * eight times the CPU time. Snapshots leave out what is free without it (snapshot/freemap.h).
 */
#define FLEET_BALLOON 0
#define SAVE_LIMIT_MS 600000
#define HOLD_LIMIT_MS 60000 /* fleet_acquire on a microVM that is not up yet */

/* ---- images ------------------------------------------------------------------- */

/* What is known of how well an image's working set fits; fleet_drift.c. */
struct image_drift {
    struct drift seen; /* these three are the thread's that looks at runs */
    unsigned records;
    uint64_t next_record; /* ns */
    uint64_t next;        /* atomic: no run is looked at before, ns */
    bool record;          /* atomic: the next run gets no list, and says what it touched */
};

struct image { /* a built version with its files open; shared by all its microVMs */
    struct image *next;
    unsigned refs; /* fleet.lock */
    char name[NAME_CAP], file_id[40];
    uint32_t major;
    uint32_t vcpus;
    uint64_t mem_bytes, disk_bytes;
    int base, disk, boot, mem; /* base file, frozen layers, memory snapshot */
    struct layer *layer;       /* below the memory snapshot; NULL: none */
    int workset;               /* pages it touches first; -1: not recorded, or of no use */
    struct image_drift drift;
    bool prefetch; /* they are made present at a restore, not before */
    struct image_config config;
};

struct image_meta { /* images/<file_id>/meta */
    char base[16];
    uint32_t vcpus;
    uint64_t mem_bytes;
};

/* ---- microVMs ----------------------------------------------------------------- */

struct fork_source { /* what a fork's children begin with; fleet_fork.c */
    struct fork_source *next;
    unsigned refs;        /* fleet.lock */
    char file[LAYER_CAP]; /* checkpoints/<uuid of the fork>; goes with the last one */
    int mem;              /* the same, open */
    int layers[DISK_FROZEN_MAX];
    unsigned nlayers;
};

struct phases { /* where the time of a start or resume went, ns */
    uint64_t begin, embryo, load, guest, hook, end;
    bool pooled;
};

struct fvm {
    struct fleet *f;
    struct fvm *next_id, *next_label; /* hash chains; fleet.lock */
    unsigned refs;                    /* fleet.lock */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    enum vm_state state;
    bool busy;        /* an operation owns it */
    bool kill_wanted; /* terminate came while busy */
    bool lost_queued;
    bool admitted; /* counts as memory in use; fleet.lock */
    char kill_reason[REASON_CAP];
    struct store_vm row;
    struct image *image; /* NULL until first used */
    struct vmm *vmm;     /* NULL unless a process runs it */
    int dir;             /* vms/<id>, -1 */
    uint32_t ip;         /* for life */
    unsigned in_flight;
    uint64_t idle_since;        /* now_ns() of the last activity */
    struct store_disk disk;     /* its frozen layers, and which file is on top */
    bool flatten_queued;        /* a job will make the chain of those shorter; lock */
    bool rejoining;             /* its rows are being changed to the shorter chain; lock */
    struct fork_source *source; /* until it has started; NULL: it begins from its image */
    bool first_request;         /* has yet to end, of one that began from its image; lock */
    bool recording;             /* it began without a working set, for a new one */
    bool new_dir;               /* its directory may not be durable yet */
    bool cut;                   /* the next restore is a way back in time */
    struct fleet_target *bound; /* requests with a connection into it; lock */
    unsigned passage;           /* counts the ways back; lock */
    struct applog log;
    struct row_later *later;        /* its row on the way to the store; the owner's */
    bool untold;                    /* the last resume is not in the log yet */
    struct phases started, resumed; /* the last times; for fleet_info.h */
};

/* ---- jobs --------------------------------------------------------------------- */

enum job_kind {
    JOB_START,
    JOB_ADOPT,
    JOB_IDLE,
    JOB_EXPIRE,
    JOB_STALE,
    JOB_LOST,
    JOB_END,
    JOB_FLATTEN,
    JOB_DRIFT,
    JOB_BUILD
};

struct job {
    struct job *next;
    enum job_kind kind;
    struct fvm *vm; /* with a reference */
    char image[NAME_CAP];
    uint32_t major;
};

/* A row on its way to the store beside other work. */
struct row_write {
    struct row_write *next;
    const struct store_vm *row;
    bool done;
    int result;
    struct err err;
};

struct job_queue {
    struct job *head, **tail;
    unsigned threads, idle, max;
};

struct fleet_table; /* fleet_table.c */

struct fleet {
    struct fleet_config c;
    struct fleet_table *table;
    char boot_id[40];
    struct store *store;
    struct artifacts *artifacts;
    struct fleet_io *io;
    struct pool *pool;
    int state_dir, images_dir, vms_dir, disks_dir, checkpoints_dir;
    int kernel, initrd;
    struct layers *layers;
    struct seal *seal; /* NULL: snapshots are not sealed */
    uint32_t dns[FLEET_DNS_MAX];
    unsigned ndns;
    uint32_t host_cpus;
    uint64_t host_mem;

    pthread_mutex_t lock;
    struct fvm *by_id[FLEET_BUCKETS], *by_label[FLEET_BUCKETS];
    struct image *images;
    struct fork_source *sources;
    uint64_t addresses[PRIV_ADDRESSES / 64]; /* taken */
    uint32_t address_hint;
    uint64_t mem_live; /* baseline bytes of machines that run */
    unsigned live;
    uint64_t mem_available, mem_sampled; /* what the host had free, and when */
    int meminfo;                         /* /proc/meminfo */

    pthread_mutex_t ended_lock; /* before `lock`: checkpoints of microVMs that have ended */
    pthread_mutex_t gate_lock;  /* machines that are coming up right now */
    pthread_cond_t gate_cond;
    unsigned gate_in;

    pthread_mutex_t jlock;
    pthread_cond_t jcond, wcond, tcond;
    bool stop, writer_stop, timer_kick;
    struct job_queue lives, builds, chores, looks; /* the last two: a thread each */
    struct build *building;                        /* those under way */
    uint64_t build_mem;                            /* of their machines */
    struct row_write *writes, **writes_tail;
    uint64_t next_wake; /* when the timers look next; jlock */
    pthread_t timer_thread, writer_thread;
    bool timer_on, writer_on;
    unsigned workers; /* threads that run; they end on stop */
};

/* fleet.c */
struct fvm *fleet_vm_new(struct fleet *f, struct store_vm *row); /* takes the row's strings */
struct fvm *fleet_vm_find(struct fleet *f, const char *id);      /* with a reference; or NULL */
void fleet_vm_put(struct fleet *f, struct fvm *vm);
void fleet_vm_forget(struct fleet *f, struct fvm *vm); /* out of the tables */
void fleet_vm_lost(void *ctx); /* from the I/O thread, ctx: struct fvm */
/* fleet_room.c */
/* -ENOSPC when the host cannot take one more; unadmit may be called at any time. */
int fleet_admit(struct fleet *f, struct fvm *vm, struct err *e);
uint64_t fleet_disk_free(const struct fleet *f); /* of the file system with the state */
/* The same, after suspending microVMs that are idle, which takes its time. fresh: a new disk,
 * too.
 */
int fleet_admit_or_make_room(struct fleet *f, struct fvm *vm, bool fresh, struct err *e);
void fleet_admit_anyhow(struct fleet *f, struct fvm *vm);
void fleet_unadmit(struct fleet *f, struct fvm *vm);
/* A builder's memory, which is not promised twice. wait: until other builds are done, else
 * -EAGAIN. -ENOMEM when the host has none left. */
int fleet_admit_build(struct fleet *f, uint64_t bytes, bool wait, struct err *e);
void fleet_unadmit_build(struct fleet *f, uint64_t bytes);
/* Waits until nobody is at work on it, asks the table, takes it. -EINVAL with a sentence. */
int fleet_begin(struct fvm *vm, enum vm_event ev, struct err *e);
/* Moves on while busy; the row's state follows. */
void fleet_step(struct fvm *vm, enum vm_event ev);
void fleet_end(struct fvm *vm); /* not busy any more */

/* fleet_addr.c */
int fleet_address_take(struct fleet *f, uint32_t *ret, struct err *e);
bool fleet_address_keep(struct fleet *f, uint32_t ip); /* false: not one, or taken */
void fleet_address_drop(struct fleet *f, uint32_t ip);

/* fleet_run.c: the caller holds `busy`; they leave it in a state that rests */
int vm_open_dir(struct fleet *f, struct fvm *vm, struct err *e);
int vm_start(struct fleet *f, struct fvm *vm);
int vm_suspend(struct fleet *f, struct fvm *vm, struct err *e);
/* Without `wait` it returns as soon as the guest runs; its row follows. */
int vm_resume(struct fleet *f, struct fvm *vm, bool wait, struct err *e);
void vm_own_process(struct fvm *vm, struct vmm *v); /* as vm->vmm */
void vm_write_running(struct fleet *f, struct fvm *vm);
void vm_unuse_disk(struct fvm *vm); /* nothing ran: snapshot and disk belong together again */
void vm_back_to_sleep(struct fleet *f, struct fvm *vm); /* a resume that never ran */
void vm_tell_resumed(struct fvm *vm);                   /* when nobody waits any more */
void vm_settle(struct fvm *vm);                         /* until its row is in the store */
void vm_drop_process(struct fleet *f, struct fvm *vm);
void vm_close_dir(struct fvm *vm);
/* State must be one from which EV_TERMINATE leads on, or TERMINATING. */
void vm_terminate(struct fleet *f, struct fvm *vm, bool hook, const char *reason);

/* fleet_guest.c: what is said to the guest */
uint64_t guest_cpu_usec(const struct fleet *f, const struct vmm *v); /* so far; 0: not known */
/* For the log: whether a machine that does not answer was at work, or waited for the host. */
void guest_silent(const struct fleet *f, const struct vmm *v, const char *what);
int guest_restored(struct fleet *f, struct vmm *v, const struct fvm *vm, uint32_t ip,
                   bool fresh, const char *name, struct err *e);
int guest_net(struct fleet *f, struct vmm *v, uint32_t ip, const char *hostname, struct err *e);
int guest_freeze(struct vmm *v, bool image, struct err *e);
int guest_thaw(struct vmm *v, struct err *e); /* this same machine goes on */
/* 0 when the application answered 200, else the sentence for stateReason is in e. */
int guest_hook(struct vmm *v, const struct image_config *c, enum image_hook_id hook,
               const char *vm_id, const char *payload, const char *env, struct err *e);
/* The variables of one microVM, a JSON object, as a file that a shell can read. */
int guest_environment(struct vmm *v, const char *env, struct err *e);
void iso_duration(uint32_t seconds, char *ret, size_t cap);
/* Restores a process into a machine: image layers, optional session layer and disk. */
struct restore_fds {
    int console, session_mem, session_disk; /* -1: none */
    bool cold;                              /* no working set */
    const int *layers;                      /* frozen ones below session_disk, bottom first */
    unsigned nlayers;
};
int guest_load(struct vmm *v, const struct image *img, const struct restore_fds *fds,
               struct err *e);
/* First message on a stream of its own, and the guest's answer to it; not a byte more is read.
 */
int guest_stream_begin(struct glink *g, uint16_t type, const struct tlv_writer *w,
                       uint64_t deadline, struct err *e);
/* Full or difference snapshot of a frozen guest into an empty file. */
int guest_save(struct vmm *v, bool full, int fd, struct ctl_saved *ret, struct err *e);
/* The same for an image over a memory layer. */
int guest_save_over(struct vmm *v, const struct layer *l, int fd, struct ctl_saved *ret,
                    struct err *e);

/* fleet_image.c */
int image_get(struct fleet *f, const char *name, uint32_t major, struct image **ret,
              struct err *e);
void image_put(struct fleet *f, struct image *img);
void image_free_all(struct fleet *f);
/* For the pool: what an embryo needs to be prepared; false when the image has no working set.
 */
bool image_for_pool(const struct image *img, struct pool_image *ret);
/* Opens the memory layer that img->mem names, if any. */
int image_layer(struct fleet *f, struct image *img, struct err *e);
int image_meta_write(int dir, const struct image_meta *m, struct err *e);
int image_meta_read(int dir, struct image_meta *m, struct err *e);
int image_base_open(struct fleet *f, const char *base, int *ret_fd, uint64_t *ret_size,
                    struct err *e);
/* Peak size of a machine for a baseline, capped by this host. */
void image_peak(const struct fleet *f, uint32_t mem_mib, uint32_t *vcpus, uint64_t *mem_bytes);
int overlay_make(int dir, const char *name, uint64_t size, int *ret_fd, struct err *e);

/* fleet_jobs.c */
int jobs_open(struct fleet *f, struct err *e);
int jobs_start_timer(struct fleet *f, struct err *e);
void jobs_close(struct fleet *f);
void job_push(struct fleet *f, enum job_kind kind, struct fvm *vm, const char *image,
              uint32_t major);
void row_write_begin(struct fleet *f, struct row_write *w, const struct store_vm *row);
int row_write_end(struct fleet *f, struct row_write *w, struct err *e);

/* fleet_idle.c */
void *fleet_timer_main(void *arg);
/* Something of this microVM became due earlier than it was. */
void fleet_timer_update(struct fleet *f, const struct fvm *vm);

/* fleet_build.c */
void fleet_build_job(struct fleet *f, const char *image, uint32_t major);
/* With jlock: ends the machines of all builds, so that they fail soon. */
void build_cancel_all(struct fleet *f);
/* The end of a build in the rows of version and image; reason NULL: it succeeded. */
int fleet_build_result(struct fleet *f, struct store_version *v, const char *reason,
                       struct err *e);

/* fleet_table.c: what of running microVMs survives a kill of this process */
int table_open(struct fleet *f, struct err *e);
void table_close(struct fleet *f);
/* Before a machine is loaded in the slot, after, and when its process is being ended. */
void table_begin(struct fleet *f, uint32_t slot, uint32_t ip, uint64_t generation);
void table_loaded(struct fleet *f, uint32_t slot);
void table_end(struct fleet *f, uint32_t slot);
void table_idle(struct fleet *f, uint32_t slot, uint64_t since);
void table_logged(struct fleet *f, uint32_t slot, uint64_t seq);
struct table_entry {
    uint32_t slot;
    bool loaded; /* false: it was not loaded yet, unless its process is there */
    uint64_t generation, idle_since, last_seq;
};
bool table_find(struct fleet *f, uint32_t ip, struct table_entry *ret);

/* fleet_adopt.c */
struct found { /* a slot in use at start */
    uint32_t slot;
    int ctl, pidfd; /* -1: its process has ended */
    bool taken;
};
struct found_list {
    struct found *v;
    size_t n;
};
int adopt_list(struct fleet *f, struct found_list *l, struct err *e);
struct found *adopt_find(struct found_list *l, uint32_t slot); /* or NULL */
/* vm is VM_RUNNING, or VM_RESUMING when it may not have been told that it was restored. */
int adopt_begin(struct fleet *f, struct fvm *vm, struct found *o, const struct table_entry *t);
/* Ends the processes nobody took, frees the list; returns how many they were. */
unsigned adopt_end(struct fleet *f, struct found_list *l);
void vm_adopt(struct fleet *f, struct fvm *vm); /* JOB_ADOPT */

/* reconcile.c */
int fleet_reconcile(struct fleet *f, struct err *e);

/* fleet_open.c: to sleep, or to its end, as the daemon stops */
void fleet_end_machine(struct fleet *f, struct fvm *vm);

/* fleet_disk.c: the layers of a session's disk */
struct open_disk {
    int fd[DISK_FROZEN_MAX];
    unsigned n;
};
void disk_close(struct open_disk *l);
int disk_open(struct fleet *f, const struct store_disk *d, struct open_disk *ret,
              struct err *e);
bool disk_there(struct fleet *f, const struct store_disk *d);
/* Those of a session that rests: they may be joined to others meanwhile. */
int vm_disk_layers(struct fvm *vm, struct open_disk *ret, struct err *e);
/* The layer on top, for reading and writing. */
int vm_disk_open(const struct fvm *vm, struct err *e);
/* A paused machine goes on over these layers, with `top` to write to. */
int disk_switch(struct fvm *vm, const struct open_disk *l, int top, struct err *e);
/* Removes the files of layers that no disk has any more. */
void disk_collect(struct fleet *f);
uint64_t fleet_allocated(int dir, const char *path); /* bytes of the file system; 0: no file */
/* fleet_flatten.c: queues a job if a microVM's chain of layers is too long; for all of them */
void flatten_want(struct fleet *f, struct fvm *vm);
void flatten_all(struct fleet *f);
void fleet_flatten(struct fleet *f, struct fvm *vm); /* JOB_FLATTEN */
/* fleet_drift.c: at the start of a microVM from its image; true: without its working set */
bool drift_start(struct fleet *f, struct fvm *vm);
/* With vm->lock, at the end of its first request: whether it is to be asked. */
bool drift_wanted(const struct fvm *vm, uint64_t began);
void fleet_drift(struct fleet *f, struct fvm *vm); /* JOB_DRIFT */
/* What a microVM that has ended holds of layers, and unless `keep` its checkpoints. */
void checkpoints_end(struct fleet *f, const char *vm_id, bool keep);
/* Checkpoints of microVMs that are forgotten, layers of those that have ended. */
void checkpoints_forget(struct fleet *f);
/* After a restart: the same, and files without a row. Returns how many. */
unsigned checkpoints_clean(struct fleet *f);

double realtime_s(void);

#endif
