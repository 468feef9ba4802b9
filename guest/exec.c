// SPDX-License-Identifier: Apache-2.0
/*
 * GP_EXEC: a command beside the application, in its namespaces, with pipes or a
 * terminal. Answer: GP_REPLY when it was started (or why not), GP_STDOUT and
 * GP_STDERR, at last GP_EXIT. One buffer holds what is on its way to the host;
 * only when it is empty is more read from the command.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>

#include "init.h"
#include "session.h"

#define ENVIRON_MAX (256u * 1024u)

struct exec {
    struct session_env *s;
    struct plan plan;
    pid_t pid;
    int pidfd;
    int in, out, err; /* init's ends; with a terminal all are its master, err -1 */
    bool tty, in_closed, gone, timed_out;
    uint64_t deadline_ns;         /* 0: none */
    uint8_t input[SESSION_CHUNK]; /* one message's data for the command */
    size_t in_off, in_len;
    uint8_t output[SESSION_CHUNK + 64];
    size_t out_off, out_len;
    /* the message that is being read from the stream */
    uint8_t msg[GP_HEADER_SIZE + SESSION_CHUNK + 64];
    size_t msg_len;
};

/* ---- start ---- */

static int open_terminal(struct exec *x, const struct req *r, int *slave, struct fail *f)
{
    char path[64];
    uint32_t rows, cols;
    int unlock = 0;
    struct stat st;
    if (!req_u32(r, GP_T_ROWS, 24, &rows) || !req_u32(r, GP_T_COLS, 80, &cols) ||
        rows > 10000 || cols > 10000)
        return fail_set(f, EINVAL, "ROWS or COLS is malformed");
    text_put(path, sizeof(path), "/proc/%d/root/dev/pts/ptmx", x->s->app_pid);
    x->in = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (x->in < 0 || fstat(x->in, &st) < 0 || !S_ISCHR(st.st_mode) ||
        do_ioctl(x->in, TIOCSPTLCK, &unlock) < 0)
        return fail_sys(f, errno, "open a terminal");
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    do_ioctl(x->in, TIOCSWINSZ, &size);
    *slave = (int)syscall(SYS_ioctl, x->in, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*slave < 0)
        return fail_sys(f, errno, "open a terminal");
    x->out = x->in;
    x->tty = true;
    x->plan.fds[0] = x->plan.fds[1] = x->plan.fds[2] = *slave;
    x->plan.tty = true;
    return 0;
}

static int open_pipes(struct exec *x, int theirs[3], struct fail *f)
{
    int *const ours[3] = {&x->in, &x->out, &x->err};
    for (int i = 0; i < 3; i++) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
            return fail_sys(f, errno, "make a pipe");
        *ours[i] = fds[i == 0];
        theirs[i] = x->plan.fds[i] = fds[i != 0];
        fcntl(*ours[i], F_SETFL, O_NONBLOCK);
    }
    return 0;
}

/* Without an environment of its own a command gets the application's. */
static char **app_environ(int pid, struct fail *f)
{
    char path[48];
    char *text = malloc(ENVIRON_MAX);
    text_put(path, sizeof(path), "/proc/%d/environ", pid);
    ssize_t n = text ? read_file(path, text, ENVIRON_MAX) : -ENOMEM;
    char **list = n >= 0 ? calloc(ENV_MAX + 1, sizeof(*list)) : NULL;
    if (!list) {
        free(text);
        fail_sys(f, n < 0 ? (int)-n : ENOMEM, "read the application's environment");
        return NULL;
    }
    size_t count = 0;
    for (ssize_t at = 0; at < n && count < ENV_MAX; at += (ssize_t)strlen(text + at) + 1)
        list[count++] = text + at;
    return list; /* the text lives as long as this process */
}

/* The application has no terminal, and so most often does not say of what kind one is. */
static char **with_term(char **env)
{
    size_t n = 0;
    for (; env[n]; n++)
        if (strncmp(env[n], "TERM=", 5) == 0)
            return env;
    char **more = calloc(n + 2, sizeof(*more));
    if (!more)
        return NULL;
    memcpy(more, env, n * sizeof(*more));
    static char term[] = "TERM=xterm";
    more[n] = term;
    return more;
}

static int run_child(struct exec *x, struct fail *f)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return fail_sys(f, errno, "make a pipe");
    if (syscall(SYS_setns, x->s->app_pidfd, CLONE_NEWPID) < 0)
        return fail_sys(f, errno, "enter the application's namespaces");
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_INTO_CGROUP,
        .pidfd = (uint64_t)(uintptr_t)&x->pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = (unsigned)x->s->cgroup_dir,
    };
    x->pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (x->pid == 0) {
        struct fail why = {.num = 0};
        plan_exec(&x->plan, &why);
        write_full(pipe_fds[1], &why, sizeof(why));
        _exit(127);
    }
    int err = errno;
    close(pipe_fds[1]);
    if (x->pid < 0)
        return fail_sys(f, err, "start a process");
    /* ends when the program runs, or brings why it does not */
    ssize_t n;
    do {
        n = read(pipe_fds[0], f, sizeof(*f));
    } while (n < 0 && errno == EINTR);
    close(pipe_fds[0]);
    if (n == 0) {
        f->num = 0;
        return 0;
    }
    if (n != (ssize_t)sizeof(*f))
        return fail_set(f, EIO, "the command could not be started");
    f->text[sizeof(f->text) - 1] = '\0';
    return -f->num;
}

static int start(struct exec *x, const struct req *r, struct fail *f)
{
    static char user[256], workdir[1024];
    uint32_t pty, ms;
    int theirs[3] = {-1, -1, -1};
    if (x->s->app_pidfd < 0)
        return fail_set(f, ESRCH, "the application does not run");
    if (!req_str(r, GP_T_USER, user, sizeof(user)) ||
        !req_str(r, GP_T_WORKDIR, workdir, sizeof(workdir)) || !req_u32(r, GP_T_PTY, 0, &pty) ||
        !req_u32(r, GP_T_TIMEOUT_MS, 0, &ms))
        return fail_set(f, EINVAL, "a field of the command is malformed");
    char **argv = req_list(r, GP_T_ARG, ARG_MAX_COUNT, NULL, f);
    char **env = !argv                  ? NULL
                 : req_has(r, GP_T_ENV) ? req_list(r, GP_T_ENV, ENV_MAX, NULL, f)
                                        : app_environ(x->s->app_pid, f);
    if (!env)
        return -f->num;
    if (pty && !(env = with_term(env)))
        return fail_sys(f, ENOMEM, "give the command its environment");
    uint32_t all;
    req_u32(r, GP_T_CAPS_ALL, 0, &all);
    x->plan = (struct plan){.kind = PLAN_JOIN,
                            .argv = argv,
                            .env = env,
                            .user = user,
                            .workdir = workdir,
                            .caps_all = all != 0,
                            .no_new_privs = true,
                            .join_pidfd = x->s->app_pidfd,
                            .cgroup = x->s->cgroup_dir};
    int err = pty ? open_terminal(x, r, &theirs[0], f) : open_pipes(x, theirs, f);
    if (err == 0)
        err = run_child(x, f);
    for (int i = 0; i < 3; i++)
        close_fd(&theirs[i]);
    if (ms)
        x->deadline_ns = now_ns() + ms * MS;
    return err;
}

/* ---- from the command to the host ---- */

static void queue_data(struct exec *x, uint16_t type, int *fd)
{
    uint8_t *data = x->output + GP_HEADER_SIZE + TLV_HEADER_SIZE;
    ssize_t n = read(*fd, data, SESSION_CHUNK - GP_HEADER_SIZE - TLV_HEADER_SIZE);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* a terminal whose last user left says EIO */
        if (x->tty)
            *fd = -1; /* the master stays open as x->in */
        else
            close_fd(fd);
        return;
    }
    struct tlv_writer w =
        tlv_writer_init(x->output + GP_HEADER_SIZE, sizeof(x->output) - GP_HEADER_SIZE);
    tlv_reserve(&w, GP_T_DATA, (size_t)n); /* the data is in place already */
    gp_header_put(x->output, type, 0, (uint32_t)w.len);
    x->out_off = 0;
    x->out_len = GP_HEADER_SIZE + w.len;
}

static int send_some(struct exec *x)
{
    ssize_t n = send(x->s->stream, x->output + x->out_off, x->out_len - x->out_off,
                     MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    x->out_off += (size_t)n;
    return 0;
}

/* ---- from the host to the command ---- */

static void end_input(struct exec *x)
{
    if (x->tty) {
        if (x->in_len + 1 < sizeof(x->input))
            x->input[x->in_len++] = 4; /* end of file, typed */
    } else {
        close_fd(&x->in);
    }
    x->in_closed = true;
}

static void on_message(struct exec *x, const struct req *r)
{
    const uint8_t *d;
    size_t n;
    uint32_t rows, cols;
    if (r->type == GP_STDIN && !x->in_closed) {
        if (!req_find(r, GP_T_DATA, &d, &n) || n == 0) {
            end_input(x);
        } else {
            memcpy(x->input, d, n); /* n fits: the message did */
            x->in_off = 0;
            x->in_len = n;
        }
    } else if (r->type == GP_RESIZE && x->tty && req_u32(r, GP_T_ROWS, 24, &rows) &&
               req_u32(r, GP_T_COLS, 80, &cols)) {
        struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
        do_ioctl(x->in, TIOCSWINSZ, &size);
    }
}

/* Reads what there is of the next message. -errno when the stream ended or is nonsense. */
static int read_some(struct exec *x)
{
    size_t want = GP_HEADER_SIZE;
    struct gp_header h = {.len = 0};
    if (x->msg_len >= GP_HEADER_SIZE) {
        if (!gp_header_get(x->msg, &h) || h.len > sizeof(x->msg) - GP_HEADER_SIZE)
            return -EBADMSG;
        want += h.len;
    }
    if (x->msg_len < want) {
        ssize_t n = recv(x->s->stream, x->msg + x->msg_len, want - x->msg_len, MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
            return -ENODATA;
        x->msg_len += (size_t)n;
    }
    if (x->msg_len == GP_HEADER_SIZE && want == GP_HEADER_SIZE) {
        if (!gp_header_get(x->msg, &h) || h.len > sizeof(x->msg) - GP_HEADER_SIZE)
            return -EBADMSG;
        want += h.len;
    }
    if (x->msg_len < want)
        return 0;
    struct req r = {.type = h.type, .id = h.id, .body = x->msg + GP_HEADER_SIZE, .len = h.len};
    if (!tlv_valid(r.body, r.len))
        return -EBADMSG;
    if (r.len > SESSION_CHUNK)
        return -EBADMSG;
    x->msg_len = 0;
    on_message(x, &r);
    return 0;
}

static void write_input(struct exec *x)
{
    ssize_t n = write(x->in, x->input + x->in_off, x->in_len - x->in_off);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) { /* nobody reads it */
        x->in_off = x->in_len = 0;
        x->in_closed = true;
        if (!x->tty)
            close_fd(&x->in);
        return;
    }
    x->in_off += (size_t)n;
    if (x->in_off == x->in_len)
        x->in_off = x->in_len = 0;
}

/* ---- the loop ---- */

static void kill_all(struct exec *x)
{
    kill(-x->pid, SIGKILL);
    kill(x->pid, SIGKILL);
}

static int wait_ms(const struct exec *x)
{
    if (x->gone)
        return 0; /* only what is there already */
    if (!x->deadline_ns)
        return -1;
    uint64_t now = now_ns();
    return x->deadline_ns <= now ? 0 : (int)((x->deadline_ns - now) / MS + 1);
}

/* One turn. 1 to go on, 0 when all is sent, -errno when the host is gone. */
static int turn(struct exec *x)
{
    bool sending = x->out_off < x->out_len, typing = x->in_off < x->in_len;
    struct pollfd p[5] = {
        {.fd = x->s->stream,
         .events = (short)((sending ? POLLOUT : 0) | (typing || x->gone ? 0 : POLLIN))},
        {.fd = sending ? -1 : x->out, .events = POLLIN},
        {.fd = sending ? -1 : x->err, .events = POLLIN},
        {.fd = typing ? x->in : -1, .events = POLLOUT},
        {.fd = x->gone ? -1 : x->pidfd, .events = POLLIN},
    };
    int ready = poll(p, 5, sending && x->gone ? -1 : wait_ms(x));
    if (ready < 0)
        return errno == EINTR ? 1 : -errno;
    if (ready == 0 && x->gone)
        return 0;
    if (ready == 0 || (x->deadline_ns && !x->gone && now_ns() >= x->deadline_ns)) {
        if (x->deadline_ns && now_ns() >= x->deadline_ns) {
            x->timed_out = true;
            x->deadline_ns = 0;
            kill_all(x);
        }
        return 1;
    }
    int r = 0;
    if (p[0].revents & (POLLERR | POLLHUP) && !(p[0].revents & POLLIN) && !x->gone)
        return -ECONNRESET;
    if (p[0].revents & POLLOUT)
        r = send_some(x);
    if (r == 0 && p[0].revents & POLLIN)
        r = read_some(x);
    if (r < 0)
        return r;
    if (p[3].revents)
        write_input(x);
    if (p[4].revents)
        x->gone = true;
    if (p[1].revents)
        queue_data(x, GP_STDOUT, &x->out);
    else if (p[2].revents)
        queue_data(x, GP_STDERR, &x->err);
    return 1;
}

static void tell_exit(struct exec *x)
{
    int status = 0;
    uint8_t buf[256];
    struct tlv_writer w = tlv_writer_init(buf, sizeof(buf));
    while (waitpid(x->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        tlv_put_u32(&w, GP_T_SIGNAL, (uint32_t)WTERMSIG(status));
    else
        tlv_put_u32(&w, GP_T_EXIT_STATUS, (uint32_t)WEXITSTATUS(status));
    if (x->timed_out)
        tlv_put_str(&w, GP_T_TEXT, "the command was killed: its time was up");
    session_send(x->s, GP_EXIT, &w);
}

void exec_serve(struct session_env *s, const struct req *r)
{
    static struct exec x; /* one a process */
    struct fail f = {.num = 0};
    x = (struct exec){.s = s, .in = -1, .out = -1, .err = -1, .pidfd = -1};
    int err = start(&x, r, &f);
    session_reply(s, &f);
    if (err < 0)
        return;
    do {
        err = turn(&x);
    } while (err > 0);
    if (err < 0) { /* nobody listens any more */
        kill_all(&x);
        return;
    }
    tell_exit(&x);
}
