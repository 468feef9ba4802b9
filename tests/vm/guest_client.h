// SPDX-License-Identifier: Apache-2.0
/*
 * A host for one guest: starts dormouse-vmm, speaks the control protocol with
 * it and guest/abi/proto.h with dormouse-init inside. Everything waits with a
 * limit; a failure returns false and says why in the TAP output.
 */
#ifndef DORMOUSE_TESTS_GUEST_CLIENT_H
#define DORMOUSE_TESTS_GUEST_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../guest/abi/tlv.h"
#include "../../hypervisor/base/msg.h"
#include "../../hypervisor/ctl.h"

struct answer {
    uint32_t num, status, outcome, exit_status, signal, oom, eof, procs;
    uint64_t mem_total, mem_available, mem_free, size;
    bool has_exit, has_signal;
    char text[512];
    size_t data_len;
    uint8_t data[65536];
};

struct guest {
    pid_t pid;
    int sock;     /* control socket of the VMM */
    int ctl, log; /* the guest's streams, or -1 */
    uint32_t vmm_id, id;
    struct msg msg;
    uint32_t end;         /* CTL_EXIT_*, 0: alive */
    struct ctl_exit exit; /* what came with it */
    bool event;           /* GP_EXITED came */
    struct answer exited, answer;
    bool hold_logs;    /* read and acknowledge no lines */
    uint64_t last_seq; /* of the lines; 0: none yet */
    unsigned gaps;     /* lines whose number did not follow */
    size_t text_len;
    char text[1 << 20]; /* "SOURCE line\n" for each line */
    int console;        /* our end of the pipe */
};

struct disk {
    const char *path, *serial;
    bool read_only;
};

struct setup {
    const char *vmm, *kernel, *initrd;
    /* Starts a VMM with this control socket in another way than by executing `vmm`; or NULL. */
    pid_t (*spawn)(int ctl);
    int tap; /* 0: a machine without network */
    /* Files of an image and its working set: given to the VMM before it is restored; NULL: no.
     */
    const char *prepare_image, *prepare_workset;
    int layer; /* the memory layer that the image was saved over; 0: none */
};

/* Makes a tap with the addresses 10.9.0.254 and 10.9.0.253 and gives its MAC; -1 on failure. */
int make_tap(uint8_t mac[6]);

bool guest_boot(struct guest *g, const struct setup *s, const struct disk *disks, unsigned n);
bool guest_restore(struct guest *g, const struct setup *s, const struct disk *disks, unsigned n,
                   const char *image, const char *session);
/* The same in two steps: a VMM that waits, and what it is to become. */
bool guest_embryo(struct guest *g, const struct setup *s);
bool guest_load(struct guest *g, const struct setup *s, const struct disk *disks, unsigned n,
                const char *image, const char *session);
/* One order to the VMM; 0 or errno. */
int guest_order(struct guest *g, uint32_t type, const void *body, size_t len, int fd);
/* Pauses and saves to `path`. */
bool guest_save(struct guest *g, const char *path, uint32_t flags, struct ctl_saved *ret);
/* The same of a paused machine, a whole image over a memory layer. */
bool guest_save_over(struct guest *g, const char *path, int layer, struct ctl_saved *ret);
/* Which pages it has touched since its restore, to `path`. */
bool guest_workset(struct guest *g, const char *path);
/* CTL_STOP and the process's end. */
bool guest_kill(struct guest *g);
/* Waits until the machine ended by itself. */
uint32_t guest_ended(struct guest *g);

/* A request on the control stream; its fields in w (NULL: none). Answer in g->answer; true when
 * one came, whatever it says. */
bool guest_ask(struct guest *g, uint16_t type, const struct tlv_writer *w);
/* The same, and the answer must be success. */
bool guest_ok(struct guest *g, uint16_t type, const struct tlv_writer *w);
/* Only sends; guest_answer() waits. */
bool guest_send(struct guest *g, uint16_t type, const struct tlv_writer *w);
bool guest_answer(struct guest *g);
/* Waits for a line that contains the text, after position `from` of g->text. */
bool guest_line(struct guest *g, size_t from, const char *text);
bool guest_exited(struct guest *g); /* waits for GP_EXITED */

/* A stream to the guest with its first message; -1 on failure. */
int stream_open(struct guest *g, uint16_t type, const struct tlv_writer *w);
bool stream_send(int fd, uint16_t type, const struct tlv_writer *w);
/* The next message: its type, 0 at the end; fields in *a. */
uint16_t stream_next(int fd, struct answer *a);

/* GP_EXEC to its end; what it prints goes to `out`. False when it did not start. */
bool guest_command(struct guest *g, struct tlv_writer *w, const char *input, char *out,
                   size_t size, struct answer *last);
bool copy_file(const char *from, const char *to);

#endif
