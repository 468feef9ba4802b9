// SPDX-License-Identifier: Apache-2.0
/*
 * What the benchmarks say to Firecracker, where no Firecracker is: a small stand-in takes the
 * requests as its API's documentation has them, in their order, and answers as it would.
 */
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../bench/firecracker_api.c"
#include "../tap.h"

static struct {
    int fd;
    char log[2048];    /* "PUT /path\n" for each request */
    json_t *last;      /* the body of the last one */
    const char *fault; /* the path that is refused */
    bool started, paused, saved;
} fake;

/* What a machine must be for a request to make sense; the rest is refused like there. */
static bool allowed(const char *method, const char *path)
{
    const char *state = json_string_value(json_object_get(fake.last, "state"));
    if (strcmp(path, "/actions") == 0) {
        bool ok = !fake.started && strstr(fake.log, "PUT /boot-source");
        fake.started = ok;
        return ok;
    }
    if (strcmp(path, "/vm") == 0) {
        fake.paused = fake.started && strcmp(method, "PATCH") == 0 && state &&
                      strcmp(state, "Paused") == 0;
        return fake.paused;
    }
    if (strcmp(path, "/snapshot/create") == 0)
        return fake.saved = fake.paused;
    if (strcmp(path, "/snapshot/load") == 0)
        return !fake.started && !strstr(fake.log, "machine-config");
    return !fake.started && strcmp(method, "PUT") == 0;
}

static void answer(bool ok)
{
    static const char yes[] = "HTTP/1.1 204 \r\nServer: Firecracker API\r\n"
                              "Connection: keep-alive\r\n\r\n";
    static const char body[] = "{\"fault_message\":\"not now\"}";
    char no[256];
    snprintf(no, sizeof no,
             "HTTP/1.1 400 \r\nServer: Firecracker API\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n%s",
             sizeof body - 1, body);
    /* In two pieces: a stream has no borders. */
    const char *text = ok ? yes : no;
    fd_write_full(fake.fd, text, 10);
    fd_write_full(fake.fd, text + 10, strlen(text) - 10);
}

static void *serve(void *arg)
{
    char text[4096], method[8], path[64];
    size_t len = 0;
    (void)arg;
    for (;;) {
        ssize_t n = read(fake.fd, text + len, sizeof text - 1 - len);
        if (n <= 0)
            return NULL;
        len += (size_t)n;
        text[len] = '\0';
        char *end = strstr(text, "\r\n\r\n"), *size = strcasestr(text, "\r\ncontent-length: ");
        if (!end || !size || len - (size_t)(end + 4 - text) < strtoul(size + 18, NULL, 10))
            continue;
        bool line = sscanf(text, "%7s %63s HTTP/1.1\r", method, path) == 2;
        json_decref(fake.last);
        fake.last = json_loads(end + 4, 0, NULL);
        bool ok = line && fake.last && !(fake.fault && strcmp(fake.fault, path) == 0) &&
                  allowed(method, path);
        size_t at = strlen(fake.log);
        snprintf(fake.log + at, sizeof fake.log - at, "%s %s\n", method, path);
        answer(ok);
        len = 0;
    }
}

static int begin(const char *fault, pthread_t *thread)
{
    int pair[2];
    json_decref(fake.last);
    memset(&fake, 0, sizeof fake);
    fake.fault = fault;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    fake.fd = pair[1];
    pthread_create(thread, NULL, serve, NULL);
    return pair[0];
}

static void end(int fd, pthread_t thread)
{
    close(fd);
    pthread_join(thread, NULL);
    close(fake.fd);
}

static const struct fc_machine machine = {.vcpus = 2,
                                          .mem = 128u << 20,
                                          .kernel = "/k",
                                          .initrd = "/i",
                                          .cmdline = "quiet",
                                          .disk = "/d",
                                          .tap = "tap0",
                                          .mac = "02:00:00:00:00:01"};

TEST(boots_and_saves)
{
    pthread_t thread;
    char why[300];
    int fd = begin(NULL, &thread);
    CHECK(fc_boot(fd, &machine, why, sizeof why));
    CHECK(fc_pause(fd, why, sizeof why));
    CHECK(fc_save(fd, "/s", "/m", why, sizeof why));
    CHECK_STR(json_string_value(json_object_get(fake.last, "snapshot_type")), "Full");
    CHECK_STR(json_string_value(json_object_get(fake.last, "mem_file_path")), "/m");
    end(fd, thread);
    CHECK_STR(fake.log, "PUT /machine-config\nPUT /boot-source\nPUT /drives/d\n"
                        "PUT /network-interfaces/n\nPUT /actions\nPATCH /vm\n"
                        "PUT /snapshot/create\n");
    CHECK(fake.saved);
}

TEST(loads)
{
    pthread_t thread;
    char why[300];
    int fd = begin(NULL, &thread);
    CHECK(fc_load(fd, "/s", "/m", why, sizeof why));
    const json_t *mem = json_object_get(fake.last, "mem_backend");
    CHECK_STR(json_string_value(json_object_get(mem, "backend_type")), "File");
    CHECK(json_is_true(json_object_get(fake.last, "resume_vm")));
    end(fd, thread);
}

TEST(says_why_not)
{
    pthread_t thread;
    char why[300] = "";
    int fd = begin("/boot-source", &thread);
    CHECK(!fc_boot(fd, &machine, why, sizeof why));
    CHECK_STR(why, "PUT /boot-source: status 400 {\"fault_message\":\"not now\"}");
    CHECK(!fake.started);
    end(fd, thread);
}

TEST(an_end_is_no_answer)
{
    int pair[2];
    char why[300];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    shutdown(pair[1], SHUT_WR);
    CHECK(!fc_pause(pair[0], why, sizeof why));
    CHECK_STR(why, "PATCH /vm: no answer");
    close(pair[0]);
    close(pair[1]);
}

TEST(waits_for_its_socket)
{
    char dir[] = "/tmp/bench-peers.XXXXXX", path[64];
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/api", dir);
    CHECK(fc_connect(path, 5) < 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 1) == 0);
    int c = fc_connect(path, 1000);
    CHECK(c >= 0);
    close(c);
    close(fd);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    RUN(boots_and_saves);
    RUN(loads);
    RUN(says_why_not);
    RUN(an_end_is_no_answer);
    RUN(waits_for_its_socket);
    return TAP_DONE();
}
