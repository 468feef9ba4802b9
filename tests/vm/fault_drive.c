// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon under faults, inside the emulated host: killed at any moment, alone
 * or with its parent, while clients work; afterwards everything acknowledged has
 * to be there and nothing else.
 *     fault_drive IMAGE-FOLDER [CASE...]     KILLS=10 SEED=1 CLIENTS=4 from the environment
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "../tap.h"
#include "fault_cases.h"
#include "fault_host.h"

#define IMAGE "fault"

static unsigned kills, clients;

static bool run_program(const char *command)
{
    int status = system(command);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* As a shell's `. bootstrap.env`. */
static bool read_keys(void)
{
    char line[512];
    AUTO_FCLOSE FILE *f = fopen(STATE_DIR "/bootstrap.env", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *value = strchr(line, '=');
        if (value) {
            *value++ = '\0';
            setenv(line, value, 1);
        }
    }
    setenv("DORMOUSE_URL", "https://localhost:8443", 1);
    setenv("AWS_CA_BUNDLE", STATE_DIR "/ca.pem", 1);
    return f != NULL;
}

static bool terminate_all(struct client *c)
{
    json_t *items = NULL;
    bool ok = cli_list(&c->cli, MICROVMS, NULL, &items) == CLI_OK;
    for (size_t i = 0; ok && i < json_array_size(items); i++) {
        json_t *v = json_array_get(items, i);
        const char *state = json_string_value(json_object_get(v, "state"));
        if (strcmp(state, "TERMINATED") == 0)
            continue;
        snprintf(c->id, sizeof c->id, "%s", json_string_value(json_object_get(v, "microvmId")));
        ok = client_act(c, "terminate");
        c->id[0] = '\0';
    }
    json_decref(items);
    return ok;
}

/* Embryos that wait at most, whatever images they are prepared for. */
#define POOL 8

/* How often a line stands in a log of the microVM, from its beginning. */
static unsigned logged(const struct client *c, unsigned long count)
{
    char path[200], line[300], want[40];
    unsigned n = 0;
    snprintf(path, sizeof path, STATE_DIR "/vms/%s/app.log", c->id);
    snprintf(want, sizeof want, " stdout count %lu\n", count);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, " stdout count ");
        n += at && strcmp(at, want) == 0;
    }
    return n;
}

/* From the first answer on: the build's look whether it listens may have counted, too. */
static bool log_is_whole(const struct client *c, unsigned long first)
{
    uint64_t end = now_ms() + 20000;
    while (!logged(c, c->counted) && now_ms() < end)
        nap(20);
    for (unsigned long i = first; i <= c->counted; i++) {
        if (logged(c, i) != 1) {
            printf("# line %lu stands %u times in the log\n", i, logged(c, i));
            return false;
        }
    }
    return true;
}

static bool is_state(struct client *c, const char *want)
{
    char state[24];
    client_state(c, state);
    if (strcmp(state, want) != 0)
        printf("# its state is %s, not %s\n", state, want);
    return strcmp(state, want) == 0;
}

/* The same microVM before and after, whoever of the daemon dies. */
TEST(readopt)
{
    static const char *const names[VICTIMS] = {"both processes", "the parent", "the api"};
    struct client c;
    if (!CHECK(client_open(&c, 0, IMAGE) && client_run(&c) && client_ask(&c)))
        return;
    unsigned long first = c.counted;
    for (unsigned v = 0; v < VICTIMS; v++) {
        printf("# killing %s\n", names[v]);
        unsigned long before = c.counted;
        CHECK(client_ask(&c) && client_ask(&c));
        daemon_kill((enum victim)v);
        if (!CHECK(daemon_again(NULL)))
            return;
        CHECK(client_check(&c)); /* asks, too */
        CHECK(c.counted == before + 3);
        CHECK(log_is_whole(&c, first));
        CHECK(is_state(&c, "RUNNING"));
        CHECK(client_act(&c, "suspend") && is_state(&c, "SUSPENDED"));
        CHECK(client_ask(&c) && is_state(&c, "RUNNING")); /* woken by the request */
        CHECK(host_leftovers(1 + POOL) == 0);
    }
    CHECK(host_closed_groups() == 0);
    /* Suspended over a kill, and twice in a row. */
    CHECK(client_act(&c, "suspend"));
    daemon_kill(VICTIM_ALL);
    CHECK(daemon_again(NULL));
    daemon_kill(VICTIM_ALL);
    CHECK(daemon_again(NULL));
    CHECK(is_state(&c, "SUSPENDED") && client_ask(&c) && log_is_whole(&c, first));
    daemon_kill(VICTIM_ALL);
    CHECK(daemon_again(NULL));
    CHECK(client_act(&c, "terminate") && is_state(&c, "TERMINATED"));
    CHECK(c.lost == 0);
    client_close(&c);
}

/* Killed again and again, in the middle of whatever it does. */
TEST(kills)
{
    unsigned ops, failed, lost, bad = 0;
    struct client c;
    if (!CHECK(client_open(&c, 98, IMAGE)))
        return;
    struct crowd *w = crowd_start(clients, IMAGE);
    for (unsigned i = 0; i < kills && bad < 3; i++) {
        enum victim v = draw(4) < 2 ? VICTIM_ALL : (enum victim)(1 + draw(2));
        unsigned after = 20 + draw(1500);
        crowd_go(w);
        nap(after);
        daemon_kill(v);
        printf("# kill %u: victim %u after %u ms\n", i, (unsigned)v, after);
        fflush(stdout);
        if (!CHECK(daemon_again(NULL))) {
            bad = 3;
            break;
        }
        crowd_stop(w);
        bool ok = crowd_check(w);
        int runs = client_count(&c);
        unsigned left = runs < 0 || host_leftovers((unsigned)runs + POOL);
        if (!ok || left) {
            printf("# kill %u (victim %u, after %u ms) did harm\n", i, (unsigned)v, after);
            bad++;
        }
    }
    crowd_end(w, &ops, &failed, &lost);
    client_close(&c);
    printf("# %u kills, %u operations, %u not answered, %u promises broken\n", kills, ops,
           failed, lost);
    CHECK(bad == 0);
    CHECK(lost == 0);
    CHECK(ops > failed);
}

/* In order: what requests may wake sleeps, the rest has ended, nothing runs. */
TEST(end)
{
    struct client c;
    CHECK(client_open(&c, 99, IMAGE) && terminate_all(&c));
    CHECK(daemon_stop());
    CHECK(host_leftovers(0) == 0);
    client_close(&c);
}

static const struct {
    const char *name;
    void (*fn)(void);
    bool (*elsewhere)(const char *image);
    bool asked_for; /* only */
} cases[] = {
    {"readopt", test_readopt, NULL, false}, {"layers", NULL, case_layers, false},
    {"drift", NULL, case_drift, false},     {"kills", test_kills, NULL, false},
    {"full", NULL, case_full, false},       {"slow", NULL, case_slow, false},
    {"busy", NULL, case_busy, false},       {"files", NULL, case_files, false},
    {"room", NULL, case_room, false},       {"rate", NULL, case_rate, false},
    {"runs", NULL, case_runs, true},        {"load", NULL, case_load, true},
    {"rows", NULL, case_rows, true},
};

static bool wanted(int argc, char **argv, const char *name, bool asked_for)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return argc <= 2 && !asked_for;
}

int main(int argc, char **argv)
{
    char command[300];
    unsigned s = setting("SEED", 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    kills = setting("KILLS", 10);
    clients = setting("CLIENTS", 4);
    seed(s);
    printf("# seed %u, %u kills, %u clients\n", s, kills, clients);
    if (argc < 2)
        return 2;
    snprintf(command, sizeof command,
             "/tests/dormouse images | grep -qw " IMAGE
             " || /tests/dormouse build --name " IMAGE " --memory 512 --quiet %s",
             argv[1]);
    if (!CHECK(daemon_start(NULL) && read_keys() && run_program(command)))
        return TAP_DONE();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (!wanted(argc, argv, cases[i].name, cases[i].asked_for))
            continue;
        uint64_t begin = now_ms();
        tap_.in_test = true;
        tap_.test_failed = false;
        if (cases[i].fn)
            cases[i].fn();
        bool ok = cases[i].fn ? !tap_.test_failed : cases[i].elsewhere(IMAGE);
        tap_.in_test = false;
        tap_report_(ok, cases[i].name);
        printf("# %s took %llu s\n", cases[i].name,
               (unsigned long long)(now_ms() - begin) / 1000);
    }
    RUN(end);
    return TAP_DONE();
}
