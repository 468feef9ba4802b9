// SPDX-License-Identifier: Apache-2.0
/*
 * One stream that the host opened (GP_PORT_STREAM), served by a process of its
 * own: a command, a forwarded port or a file. The process blocks where it
 * likes; init and the other streams do not notice.
 */
#ifndef DORMOUSE_GUEST_SESSION_H
#define DORMOUSE_GUEST_SESSION_H

#include "req.h"

#define SESSION_CHUNK 65536u

struct session_env {
    int stream;
    int app_pidfd; /* of the application's first process, -1: none runs */
    int app_pid;
    int cgroup_dir; /* where commands belong */
    uint8_t *body;  /* the message read last */
    size_t body_cap;
};

/* Reads one message into s->body. 0, or -errno (-ENODATA at the end of the stream). */
int session_read(struct session_env *s, struct req *ret);
/* Sends one message; blocks. 0 or -errno. */
int session_send(const struct session_env *s, uint16_t type, const struct tlv_writer *w);
/* GP_REPLY with ERRNO and TEXT. */
int session_reply(const struct session_env *s, const struct fail *f);
/* Moves this process into the application's mount namespace. */
int session_enter(const struct session_env *s, struct fail *f);

void exec_serve(struct session_env *s, const struct req *r);
void forward_serve(struct session_env *s, const struct req *r);
void file_read_serve(struct session_env *s, const struct req *r);
void file_write_serve(struct session_env *s, const struct req *r);
void file_list_serve(struct session_env *s, const struct req *r);

#endif
