// SPDX-License-Identifier: Apache-2.0
/*
 * Many of what guest_drive.c does once: clones of one image, whose first act is to
 * read random numbers, suspends and resumes of one session under load, and memory
 * that is used up again and again. Runs on an arm64 host with KVM.
 *     guest_soak VMM KERNEL INITRD ROOT [DIR]
 * CLONES, CYCLES and ROUNDS in the environment say how many; 100, 1000 and 20 by default.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest_host.h"
#include "guest_net.h"

#define CLONES_MAX 1000
#define EXCHANGES  3         /* requests after each restore */
#define REPLY_LEN  68        /* of the payload's `serve` */
#define CLOCK_LATE 5000000u  /* ns that the guest may take to hear the time */
#define CLOCK_MAX  10000000u /* ns that the guest's clock may be off */

static unsigned count(const char *name, unsigned def)
{
    const char *text = getenv(name);
    int n = text ? atoi(text) : (int)def;
    return n > 0 ? (unsigned)n : def;
}

/* ---- clones ---- */

static char seen[CLONES_MAX][128];

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Two lines have a word in common at the same place. */
static unsigned repeats(unsigned n, unsigned word)
{
    static char words[CLONES_MAX][64];
    unsigned same = 0;
    for (unsigned i = 0; i < n; i++) {
        const char *p = seen[i];
        for (unsigned w = 0; w < word; w++)
            p += strcspn(p, " ") + 1;
        snprintf(words[i], sizeof words[i], "%.*s", (int)strcspn(p, " \n"), p);
    }
    qsort(words, n, sizeof words[0], by_text);
    for (unsigned i = 1; i < n; i++)
        same += strcmp(words[i - 1], words[i]) == 0;
    return same;
}

TEST(clones_never_share_random_numbers)
{
    struct ctl_saved saved;
    struct disk d = root_disk(arg.disk);
    unsigned n = count("CLONES", 100), got = 0;
    n = n > CLONES_MAX ? CLONES_MAX : n;
    if (!machine_up(&g) || !start(&g, ARGS("sh", "-c", "restored && uuid && sleep")) ||
        !CHECK(guest_line(&g, 0, "watching")))
        return;
    freeze(&g, 1);
    CHECK(guest_save(&g, arg.image, CTL_SAVE_FULL, &saved));
    CHECK(guest_kill(&g));
    for (unsigned i = 0; i < n; i++) {
        /* the host's own entropy is the same for all: what differs must come from VMGenID or
         * from the bytes sent, and those differ */
        if (!CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, NULL)) ||
            !restored(&g, true, i + 1, "clone") || !CHECK(guest_line(&g, 0, "uuid ")))
            return;
        const char *line = strstr(g.text, "uuid ");
        snprintf(seen[i], sizeof seen[i], "%.*s", (int)strcspn(line, "\n"), line);
        got++;
        CHECK(guest_kill(&g));
    }
    CHECK(got == n);
    CHECK(repeats(n, 1) == 0); /* the uuid */
    CHECK(repeats(n, 3) == 0); /* getrandom() */
    printf("# %u clones, the last: %s\n", n, seen[n - 1]);
}

/* ---- cycles ---- */

/* What the application says of itself; each number must follow the one before. */
struct series {
    const char *what;
    long next, step;
};

/* Checks the new lines. */
static bool follows(struct series *s, const char *text)
{
    size_t len = strlen(s->what);
    for (const char *p = text; (p = strstr(p, s->what)); p++) {
        long number = atol(p + len);
        if (s->next >= 0 && number != s->next) {
            printf("# %s%ld where %ld was due: %.80s\n", s->what, number, s->next, p);
            return false;
        }
        s->next = number + s->step;
    }
    return true;
}

/* One request over the connection that was opened before the first cycle. The guest's answer
 * has its time: how far off that can be at most, in ns, as this clock stood somewhere between
 * the request and the answer. */
static bool answers(int fd, uint64_t *ret_off)
{
    static unsigned turn;
    static const char ask[] = "GET / HTTP/1.1\r\nHost: soak\r\n\r\n";
    char reply[128], want[16];
    size_t len = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t before = clock_ns();
    bool ok = write(fd, ask, sizeof ask - 1) == (ssize_t)sizeof ask - 1;
    snprintf(want, sizeof want, "\n%08u ", turn);
    while (ok && len < REPLY_LEN && poll(&p, 1, 60000) == 1) {
        ssize_t n = read(fd, reply + len, sizeof reply - 1 - len);
        ok = n > 0;
        len += ok ? (size_t)n : 0;
    }
    uint64_t after = clock_ns();
    reply[len] = '\0';
    const char *at = strstr(reply, want);
    if (!at) {
        printf("# request %u: %.100s\n", turn, reply);
        return false;
    }
    turn++;
    uint64_t now = strtoull(at + strlen(want), NULL, 10);
    uint64_t early = now > before ? now - before : 0, late = after > now ? after - now : 0;
    *ret_off = early > late ? early : late;
    return true;
}

/* The shortest way there and back says it best. */
static bool keeps_serving(int fd, uint64_t *ret_off)
{
    uint64_t off;
    *ret_off = UINT64_MAX;
    for (unsigned i = 0; i < EXCHANGES; i++) {
        if (!answers(fd, &off))
            return false;
        *ret_off = off < *ret_off ? off : *ret_off;
    }
    return true;
}

/* As the daemon does it when the time may have come late. */
static bool set_clock(void)
{
    struct tlv_writer w = fields();
    tlv_put_u64(&w, GP_T_REALTIME_NS, clock_ns());
    return guest_ok(&g, GP_THAW, &w);
}

static int soak_up(const uint8_t mac[6])
{
    struct sockaddr_in to;
    if (!machine_up(&g))
        return -1;
    struct tlv_writer w = fields();
    net_fields(&w, 2, mac);
    CHECK(guest_ok(&g, GP_NET, &w));
    if (!start(&g, ARGS("sh", "-c",
                        "serve 8080 & forks 10 & pipe & redis 6379 & run /bin/redis-server "
                        "--port 6379 --bind 127.0.0.1 --dir /tmp --save  --appendonly yes "
                        "--appendfsync everysec & tick 5 0")) ||
        !CHECK(guest_line(&g, 0, "1 tick 5 ")) || !CHECK(guest_line(&g, 0, "1 serving")) ||
        !CHECK(guest_line(&g, 0, "1 redis at 11\n")) || !CHECK(guest_line(&g, 0, "forked 10")))
        return -1;
    int fd = host_socket(SOCK_STREAM, "10.9.0.2", 8080, &to);
    return CHECK(connect(fd, (struct sockaddr *)&to, sizeof to) == 0) ? fd : -1;
}

TEST(cycles_lose_nothing)
{
    struct ctl_saved saved;
    struct disk d = root_disk(arg.disk);
    struct series series[] = {
        {"1 tick ", -1, 1}, {"1 redis at ", -1, 10}, {"1 pipe at ", -1, 1000}};
    unsigned n = count("CYCLES", 1000), done = 0;
    char path[2][300];
    uint8_t mac[6];
    uint64_t first_free = 0, last_free = 0, pages = 0, off, worst = 0;
    arg.s.tap = make_tap(mac);
    int client = CHECK(arg.s.tap > 0) ? soak_up(mac) : -1;
    if (client < 0 || !CHECK(keeps_serving(client, &off)) || !freeze(&g, 1) ||
        !CHECK(guest_save(&g, arg.image, CTL_SAVE_FULL, &saved)))
        return;
    const char *session = NULL;
    uint32_t procs = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t seq = g.last_seq;
        for (size_t k = 0; k < sizeof series / sizeof series[0]; k++)
            if (!CHECK(follows(&series[k], g.text)))
                return;
        if (!CHECK(g.gaps == 0) || !CHECK(!strstr(g.text, "BROKEN")) ||
            !CHECK(!strstr(g.text, "BACKWARDS")) || !CHECK(guest_kill(&g)) ||
            !CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, session)))
            return;
        g.last_seq = seq;
        struct tlv_writer w = restore_fields(false, i + 1, "session");
        net_fields(&w, 2, mac);
        uint64_t told = clock_ns();
        if (!CHECK(guest_ok(&g, GP_RESTORED, &w)) ||
            (clock_ns() - told > CLOCK_LATE && !CHECK(set_clock())))
            return;
        size_t from = g.text_len;
        if (!CHECK(keeps_serving(client, &off)) || !CHECK(guest_line(&g, from, "1 tick ")) ||
            !CHECK(guest_line(&g, from, "1 redis at ")) || !CHECK(guest_ok(&g, GP_STATS, NULL)))
            return;
        procs = procs ? procs : g.answer.procs;
        if (!CHECK(g.answer.procs == procs))
            return;
        last_free = g.answer.mem_available;
        first_free = i == 4 || first_free == 0 ? last_free : first_free;
        worst = off > worst ? off : worst;
        if (i % 100 == 0)
            printf("# cycle %u: %llu KiB free, clock at most %.3f ms off\n", i,
                   (unsigned long long)last_free >> 10, (double)worst / 1e6);
        snprintf(path[i % 2], sizeof path[0], "%s.%u", arg.session, i % 2);
        if (!freeze(&g, 0) || !CHECK(guest_save(&g, path[i % 2], 0, &saved)))
            return;
        session = path[i % 2];
        pages = saved.pages_stored;
        done++;
    }
    CHECK(done == n);
    CHECK(guest_kill(&g));
    close(client);
    close(arg.s.tap);
    arg.s.tap = 0;
    printf(
        "# %u cycles: %ld ticks, %ld redis writes, %ld through the pipe, free memory %llu -> "
        "%llu KiB, last session %llu pages, clock at most %.3f ms off\n",
        n, series[0].next, series[1].next, series[2].next, (unsigned long long)first_free >> 10,
        (unsigned long long)last_free >> 10, (unsigned long long)pages, (double)worst / 1e6);
    CHECK(worst <= CLOCK_MAX);
    CHECK(last_free + (8u << 20) > first_free); /* Redis's file is in the page cache */
}

/* ---- memory ---- */

/* Three processes and the page cache want more than there is: 3 * 68 + 40 of 230 MiB. */
static bool under_pressure(void)
{
    bool ok = run_in(&g, ARGS("sh", "-c", "pressure 3 68 /opt/filled 40 3"));
    if (!ok)
        printf("# exit %u, signal %u: %.300s\n", last.exit_status, last.signal, out);
    return CHECK(ok) && CHECK(strstr(out, "4 of 4 processes found what they had written"));
}

/* All of it, and more: who asks for that ends, nobody else. */
static bool too_much(void)
{
    struct tlv_writer w = fields();
    args(&w, ARGS("sh", "-c", "memhog"));
    return CHECK(guest_command(&g, &w, NULL, out, sizeof out, &last)) &&
           CHECK(last.has_signal && last.signal == 9);
}

static bool available(uint64_t *ret)
{
    bool ok = CHECK(guest_ok(&g, GP_STATS, NULL));
    *ret = g.answer.mem_available;
    return ok;
}

TEST(memory_holds_under_pressure)
{
    struct ctl_saved saved;
    struct disk d = root_disk(arg.disk);
    unsigned n = count("ROUNDS", 20);
    uint64_t before, after;
    if (!machine_up(&g) || !start(&g, ARGS("sh", "-c", "tick 5 0")) || !under_pressure() ||
        !too_much() || !available(&before))
        return;
    for (unsigned i = 0; i < n; i++) {
        if (!under_pressure() || !too_much() || !available(&after))
            return;
        if (i == 0) { /* goes on elsewhere, with what is left of it */
            if (!freeze(&g, 1) || !CHECK(guest_save(&g, arg.image, CTL_SAVE_FULL, &saved)) ||
                !CHECK(guest_kill(&g)) ||
                !CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, NULL)) ||
                !restored(&g, false, 1, "session"))
                return;
        }
    }
    size_t from = g.text_len;
    CHECK(guest_line(&g, from, "1 tick ")); /* the application was there all the time */
    CHECK(after + (4u << 20) > before);
    printf("# %u rounds: %llu KiB free at first, %llu at last, image %llu pages, %llu free\n",
           n, (unsigned long long)before >> 10, (unsigned long long)after >> 10,
           (unsigned long long)saved.pages_stored, (unsigned long long)saved.pages_free);
    /* Of what was used up nothing is stored but what lies about in pieces. */
    CHECK(saved.pages_free > 30000 && saved.pages_stored < 6000);
    CHECK(guest_kill(&g));
}

int main(int argc, char **argv)
{
    if (!host_args(argc, argv)) {
        fprintf(stderr, "Usage: guest_soak VMM KERNEL INITRD ROOT [DIR]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(clones_never_share_random_numbers);
    RUN(cycles_lose_nothing);
    RUN(memory_holds_under_pressure);
    return TAP_DONE();
}
