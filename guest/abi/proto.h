// SPDX-License-Identifier: Apache-2.0
/*
 * Messages between the host daemon and dormouse-init, over vsock streams.
 * stdint only: compiled with musl in the guest and glibc on the host.
 *
 * Every message is a 16-byte little-endian header and a body of TLV fields:
 *     u16 tag, u16 zero, u32 length, then `length` bytes (no padding).
 * Lists are repeated fields in order. Unknown tags are skipped, so that old and
 * new sides understand each other; a changed meaning gets a new tag.
 *
 * Streams (all survive a snapshot: the VMM carries them over, so the next
 * message after a restore arrives on the same stream):
 *   port 1024 control: guest connects at start; host sends requests, guest answers
 *             with the same id; guest events have id 0
 *   port 1025 log:     guest connects at start; GP_LOG messages; host answers GP_LOG_ACK
 *   guest port 1026:   host connects; first message GP_EXEC, GP_SHELL or GP_FORWARD,
 *             then that stream belongs to it
 */
#ifndef DORMOUSE_ABI_PROTO_H
#define DORMOUSE_ABI_PROTO_H

#include <stdint.h>

#define GP_MAGIC        0x50474d44u /* "DMGP" */
#define GP_VERSION      1u
#define GP_BODY_MAX     (256u * 1024u)
#define GP_HOST_CID     2u
#define GP_PORT_CONTROL 1024u
#define GP_PORT_LOG     1025u
#define GP_PORT_STREAM  1026u

struct gp_header {
    uint32_t magic;
    uint16_t type;
    uint16_t flags; /* 0 */
    uint32_t id;
    uint32_t len; /* body bytes, <= GP_BODY_MAX */
};

enum gp_type {
    GP_HELLO =
        1,    /* guest: VERSION, UPTIME_NS; first on each stream it opens (STREAM port no.) */
    GP_REPLY, /* guest: ERRNO (0 ok), TEXT, and fields named at the request */

    /* host requests on the control stream */
    GP_NET = 16,   /* IP, PREFIX, GATEWAY, DNS…, HOSTNAME, optional HOST_MAC */
    GP_MOUNT_ROOT, /* DISK serial: mount it as the application's root; once, before START */
    GP_START,      /* ARG…, ENV…, USER, WORKDIR, SIGNAL (of a stop), CAPS_ALL, HOSTNAME */
    GP_HOOK,       /* NAME, PORT, TIMEOUT_MS, optional PAYLOAD + CONTENT_TYPE, RETRY:
                      POST to 127.0.0.1. Reply: STATUS (http, 0 none), OUTCOME, TEXT */
    GP_FREEZE,     /* before a snapshot: TRIM. Freeze the app, wait until the host has every
                      log line (2 s at most), sync, trim. Reply when quiet */
    GP_RESTORED,   /* after a restore: GENERATION, REALTIME_NS, ENTROPY, FRESH, CUT, VM_ID,
                      ENDPOINT, + GP_NET fields. Reseed, step clock, re-address, abort dead TCP,
                      thaw.   On a failure the app stays frozen. Then lines without ack come again
                    */
    GP_THAW,       /* the snapshot is taken and this same machine goes on; optional REALTIME_NS:
                      the clock stood still meanwhile, or RESTORED came late */
    GP_STOP,       /* SIGNAL, TIMEOUT_MS: stop the app, then power off */
    GP_STATS,      /* Reply: MEM_TOTAL, MEM_AVAILABLE, MEM_FREE, PROCS, UPTIME_NS */
    GP_BUILD_STEP, /* builder mode: OP + its fields (below). Output goes to the log stream.
                      Reply: ERRNO, EXIT_STATUS, TEXT */
    GP_BUILD_END,  /* unmount the root cleanly. Reply ERRNO, TEXT */

    /* guest events on the control stream */
    GP_EXITED = 64, /* main process ended: EXIT_STATUS or SIGNAL, TEXT, OOM */

    /* log stream */
    GP_LOG = 80, /* SEQ, REALTIME_NS, SOURCE, DATA (one line or a part, no newline), PARTIAL */
    GP_LOG_ACK,  /* host: SEQ of the last line that is safe; init may forget up to it */

    /* first message on a GP_PORT_STREAM stream, host to guest */
    GP_EXEC = 96, /* ARG…, ENV… (none: the app's), USER, WORKDIR, TIMEOUT_MS, PTY, ROWS, COLS,
                     CAPS_ALL. Guest: GP_REPLY (started, or why not), output, GP_EXIT. The host
                     keeps its side open until then: its end kills the command */
    GP_FORWARD,   /* PORT: raw bytes to 127.0.0.1:PORT of the app after a GP_REPLY */
    GP_STDIN,     /* DATA, 64 KiB at most; empty or absent: end */
    GP_STDOUT,    /* DATA */
    GP_STDERR,    /* DATA */
    GP_RESIZE,    /* ROWS, COLS */
    GP_EXIT,      /* guest: EXIT_STATUS or SIGNAL, TEXT; last message */
    GP_FILE_READ,  /* PATH, OFFSET, LIMIT. Guest: GP_REPLY with DATA each, the last with EOF
                      (1: the file's end, 0: LIMIT) and SIZE, or ERRNO and TEXT */
    GP_FILE_WRITE, /* PATH, MODE, USER, OFFSET (absent or 0: the file begins anew), then
                      GP_STDIN… to its end: GP_REPLY with SIZE, where the data ended. Makes
                      directories */
    GP_FILE_LIST,  /* PATH. Guest: GP_REPLY with ENTRY… each, the last with EOF only */
};

enum gp_tag {
    GP_T_VERSION = 1,  /* u32 */
    GP_T_ERRNO,        /* u32, positive errno or 0 */
    GP_T_TEXT,         /* utf-8 for people */
    GP_T_UPTIME_NS,    /* u64 */
    GP_T_ARG,          /* one argument, no NUL */
    GP_T_ENV,          /* "KEY=value" */
    GP_T_USER,         /* "name", "name:group", "1000:1000"; empty root */
    GP_T_WORKDIR,      /* absolute path */
    GP_T_SIGNAL,       /* u32 */
    GP_T_CAPS_ALL,     /* u32 bool */
    GP_T_HOSTNAME,     /* string */
    GP_T_IP,           /* 4 bytes, network order */
    GP_T_PREFIX,       /* u32 */
    GP_T_GATEWAY,      /* 4 bytes */
    GP_T_DNS,          /* 4 bytes, repeated */
    GP_T_HOST_MAC,     /* 6 bytes: the gateway's, entered as a permanent neighbour */
    GP_T_DISK,         /* serial of the virtio disk */
    GP_T_NAME,         /* hook name: ready validate run resume suspend terminate */
    GP_T_PORT,         /* u32 */
    GP_T_TIMEOUT_MS,   /* u32 */
    GP_T_PAYLOAD,      /* request body */
    GP_T_CONTENT_TYPE, /* string */
    GP_T_RETRY,        /* u32 bool: try again on 503 and connection refused until timeout */
    GP_T_STATUS,       /* u32 http status */
    GP_T_OUTCOME,      /* u32 enum gp_hook_outcome */
    GP_T_GENERATION,   /* u64 counts restores of this machine */
    GP_T_REALTIME_NS,  /* u64 since 1970 */
    GP_T_ENTROPY,      /* 32..512 bytes */
    GP_T_FRESH,        /* u32 bool: a new run from an image (else: resume of a session) */
    GP_T_VM_ID,        /* string */
    GP_T_ENDPOINT,     /* string */
    GP_T_EXIT_STATUS,  /* u32 */
    GP_T_OOM,          /* u32 bool */
    GP_T_SEQ,          /* u64 */
    GP_T_SOURCE,       /* u32: 1 stdout, 2 stderr, 3 init itself, 4 build step */
    GP_T_DATA,         /* bytes */
    GP_T_PARTIAL,      /* u32 bool: the line goes on in the next message */
    GP_T_MEM_TOTAL,    /* u64 bytes */
    GP_T_MEM_AVAILABLE,
    GP_T_PROCS, /* u32 */
    GP_T_OP,    /* u32 enum gp_build_op */
    GP_T_SRC,   /* COPY source inside the context (zip), repeated; may hold wildcards */
    GP_T_DST,   /* COPY destination, absolute; trailing slash: a directory */
    GP_T_CHOWN, /* "user[:group]" or absent */
    GP_T_MODE,  /* u32 permission bits or absent */
    GP_T_SIZE,  /* u64: length of the zip on its disk */
    GP_T_PTY,   /* u32 bool */
    GP_T_ROWS,
    GP_T_COLS,
    GP_T_PATH,
    GP_T_OFFSET, /* u64 */
    GP_T_LIMIT,  /* u64 */
    GP_T_EOF,    /* u32 bool */
    GP_T_ENTRY,  /* "type mode size mtime name" */
    GP_T_SHELL,  /* RUN: ARG… is exec form when absent, else "sh -c" form: u32 bool */
    GP_T_TRIM, /* FREEZE: u32 bool, drop caches and report free pages first (image snapshot) */
    GP_T_STREAM,   /* HELLO: u32 port of this stream */
    GP_T_DROP_IDS, /* FREEZE: u32 bool: image snapshot, forget machine-id etc. */
    GP_T_CUT,      /* RESTORED: u32 bool: connections with the host end, too (a rollback) */
    GP_T_MEM_FREE, /* u64 */
};

enum gp_hook_outcome {
    GP_HOOK_OK = 0, /* 200 */
    GP_HOOK_HTTP,   /* another final status */
    GP_HOOK_TIMEOUT,
    GP_HOOK_REFUSED,  /* never connected within the timeout */
    GP_HOOK_PROTOCOL, /* not HTTP, or the connection broke */
};

enum gp_build_op {
    GP_BUILD_CONTEXT = 1, /* DISK serial, SIZE: the zip; open and check it */
    GP_BUILD_RUN,         /* ARG…, SHELL, ENV…, USER, WORKDIR, network is up */
    GP_BUILD_COPY,        /* SRC…, DST, CHOWN, MODE: from the context */
    GP_BUILD_WORKDIR,     /* DST: mkdir -p */
};

#endif
