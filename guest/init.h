// SPDX-License-Identifier: Apache-2.0
/*
 * The whole state of dormouse-init and the handlers of the host's requests.
 * One process, one loop; a handler either replies at once or keeps the
 * request's id and replies when its event comes.
 */
#ifndef DORMOUSE_GUEST_INIT_H
#define DORMOUSE_GUEST_INIT_H

#include <sys/socket.h>

#include "chan.h"
#include "logs.h"
#include "proc.h"
#include "req.h"
#include "upstream.h"

#define RUN_DIR        "/run/dormouse" /* init's files, shown to the application one by one */
#define CGROUP_DIR     "/sys/fs/cgroup/app"
#define PORT_CONTEXT   "/dev/disk-context"
#define ENV_MAX        512
#define ARG_MAX_COUNT  4096
#define DNS_MAX        3
#define SESSIONS_MAX   64
#define UPSTREAMS_MAX  8
#define UPSTREAM_LINKS 32
#define HOOK_NAME_MAX  16
#define HOOK_BODY_MAX  (64u * 1024u)
#define HOOK_REPLY_MAX 16384u

/* Files whose content follows the machine's identity; kept open, rewritten in place. */
enum ident_file {
    IDENT_GENERATION, /* in the application's /run/dormouse */
    IDENT_VM_ID,
    IDENT_ENDPOINT,
    IDENT_HOSTNAME, /* /etc/hostname and so on */
    IDENT_HOSTS,
    IDENT_RESOLV,
    IDENT_MACHINE_ID,
    IDENT_BOOT_ID,
    IDENT_COUNT,
};

struct net {
    int rtnl, diag; /* netlink sockets, -1: not open */
    int index;      /* of eth0, 0: none */
    uint32_t seq;
    bool up;
    uint8_t ip[4], gateway[4], mac[6];
    uint32_t prefix;
    bool has_mac;
    bool listed; /* `dying` holds the connections there were at the freeze */
    struct diag_request *dying;
    size_t ndying;
};

struct app {
    struct proc proc;
    bool mounted, writable;
    bool starting, running, exited;
    struct fail start_result;
    uint32_t start_id, stop_id; /* requests waiting for an answer; 0: none */
    char disk[24];
    int uts; /* its UTS namespace, for the hostname; -1 */
    int stop_signal;
    bool own_hostname;
    int status;
    bool oom;
    struct timer stop_timer;
    uint64_t ooms; /* counted before it started */
};

struct freezer {
    int freeze, kill;                  /* cgroup.freeze, cgroup.kill; -1: no such file */
    int events_fd, main_dir, exec_dir; /* the last 0 until boot_exec_cgroup() */
    struct ev events;
    struct timer limit;
    uint32_t id; /* FREEZE waiting, 0: none */
    bool frozen, trim;
};

struct hook {
    struct ev ev;
    struct timer limit, again;
    uint32_t id; /* 0: idle */
    uint16_t port;
    bool retry, refused, sent_all, lingering;
    uint64_t deadline_ns, pause_ns;
    uint32_t timeout_ms;
    char name[HOOK_NAME_MAX];
    uint8_t *out;
    size_t out_len, out_off;
    char *in;
    size_t in_len;
};

struct build {
    struct proc proc;
    uint32_t id;        /* step waiting, 0: none */
    struct fail result; /* of the child's work, or of the start of a RUN */
    int status;         /* of the RUN */
    uint64_t ooms;      /* counted before it */
    char disk[24];
    uint64_t size; /* of the zip; 0: no context */
    bool checking; /* the step is the look at the context */
};

struct session {
    struct proc proc;
    bool used;
};

/* One direction of a link: what was read and is not written yet. */
struct upstream_lane {
    uint8_t *buf;
    size_t off, len;
    bool ended, told; /* the source has no more; the destination knows */
};

/* A client of an upstream, and the connection there. */
struct upstream_link {
    struct upstreams *all;
    struct loop *loop;
    const struct upstream_spec *spec;
    struct ev local, remote;
    int local_fd, remote_fd; /* local -1: free */
    int state;
    struct timer timer;
    uint64_t deadline_ns, pause_ns;
    struct upstream_lane out, back;
    bool asked; /* the last bytes went to the upstream */
    uint16_t dns_id;
    unsigned turn; /* of the name servers */
};

struct upstream_listener {
    struct ev ev;
    struct upstreams *all;
    const struct upstream_spec *spec;
    int fd;
};

struct upstreams {
    struct loop *loop;
    struct upstream_spec *specs;
    struct upstream_listener listeners[2 * UPSTREAMS_MAX];
    size_t nlisteners;
    struct upstream_link links[UPSTREAM_LINKS];
    bool paused; /* nothing is taken from clients */
    void (*settled)(void *ctx);
    void *settled_ctx;
    struct timer limit;
};

struct init {
    struct loop loop;
    struct chan ctl, log_chan;
    struct timer ctl_retry, log_retry;
    uint64_t ctl_pause, log_pause;
    int ident[IDENT_COUNT];
    int random; /* /dev/urandom, for the entropy ioctls */
    char hostname[65];
    uint8_t dns[DNS_MAX][4];
    size_t ndns;
    struct logs logs;
    struct procs procs;
    struct net net;
    struct app app;
    struct freezer freezer;
    struct hook hook;
    struct build build;
    struct upstreams upstreams;
    struct ev listener;
    struct session sessions[SESSIONS_MAX];
    struct timer power_timer;
    bool ending; /* power off when the control stream closes or the timer fires */
};

/* ---- ctl.c ---- */
int init_setup(struct init *in); /* everything but the streams; 0 or -errno */
int init_adopt(struct init *in, int ctl_fd, int log_fd); /* takes connected streams over */
void init_connect(struct init *in);                      /* or makes them, and keeps them up */
void ctl_fail(struct init *in, uint32_t id, const struct fail *f); /* f NULL: success */
void ctl_reply(struct init *in, uint32_t id, const struct reply *rp);
void ctl_event(struct init *in, uint16_t type, const struct tlv_writer *w);

/* ---- boot.c ---- */
int boot_mounts(void);
int boot_files(struct init *in);
int boot_cgroups(struct init *in);
void boot_exec_cgroup(struct init *in); /* unless it is there */
/* Ends the machine, after unmounting what can be lost. */
_Noreturn void power_off(void);

/* ---- app.c ---- */
void app_init(struct init *in);
void app_mount_root(struct init *in, const struct req *r);
void app_start(struct init *in, const struct req *r);
void app_stop(struct init *in, const struct req *r);
void app_stats(struct init *in, const struct req *r);
/* Tells the host that the application ended; again when the first time was lost. */
void app_tell_end(struct init *in);
int app_unmount(struct init *in, struct fail *f);
uint64_t oom_count(void);
int disk_find(const char *serial, char *path, size_t size, struct fail *f);
/* The files every sandbox shows; for a build only those of the network. */
size_t app_binds(bool build, const struct bind **ret);

/* ---- net.c ---- */
int net_init(struct net *n);
/* Reads NET's fields; applies them in one batch of netlink messages. */
int net_apply(struct init *in, const struct req *r, struct fail *f);
void net_request(struct init *in, const struct req *r);

/* ---- sockdiag.c ---- */
/* Notes the TCP connections to other machines. 0 or -errno. */
int tcp_list(struct net *n);
void tcp_forget(struct net *n);
/* Aborts those noted, or else those there are; the ones with `keep_peer` (4 bytes, or NULL) as
 * the other end stay. Returns how many or -errno. */
int tcp_abort(struct net *n, const uint8_t *keep_peer);

/* ---- ident.c ---- */
void ident_hostname(struct init *in, const char *name);
void ident_hosts(struct init *in);
void ident_resolv(struct init *in);
void ident_put(struct init *in, enum ident_file which, const char *text);
/* New machine-id and boot id. */
void ident_fresh(struct init *in);

/* ---- freeze.c ---- */
void freezer_init(struct init *in);
void freeze_request(struct init *in, const struct req *r);
void thaw_request(struct init *in, const struct req *r);
int thaw(struct init *in);
void cgroup_kill(struct init *in);
/* Tells the disk which blocks are free. */
void trim_disk(void);

/* ---- restore.c ---- */
/* The clock as the request says; absent: as it is. */
int step_clock(const struct req *r, struct fail *f);
void restore_request(struct init *in, const struct req *r);

/* ---- hooks.c ---- */
void hook_init(struct init *in);
void hook_request(struct init *in, const struct req *r);

/* ---- build.c ---- */
void build_init(struct init *in);
void build_step(struct init *in, const struct req *r);
void build_end(struct init *in, const struct req *r);

/* ---- upstream.c ---- */
void upstreams_init(struct init *in);
/* Listens for the upstreams that the environment declares. 0 or -errno. */
int upstreams_start(struct init *in, char *const *env, struct fail *f);
/* Takes no more from clients; calls back when all was answered, or soon anyway. */
void upstreams_settle(struct init *in, void (*fn)(void *ctx), void *ctx);
void upstreams_go_on(struct init *in);
/* Drops the connections of before, keeps the clients that lose nothing by it. */
void upstreams_restored(struct init *in, bool fresh);

/* ---- session.c ---- */
int session_listen(struct init *in);
void session_accept(struct init *in, int fd);

#endif
