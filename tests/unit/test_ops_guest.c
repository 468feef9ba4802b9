// SPDX-License-Identifier: Apache-2.0
/*
 * Commands and files inside a microVM: the operations against a guest that a thread plays,
 * well-behaved and hostile.
 */
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../api/conn.h"
#include "../../api/guest_link.h"
#include "../../guest/abi/proto.h"
#include "../tap.h"
#include "ops_client.h"

static char path[] = "/tmp/dormouse-test-guest-XXXXXX";
static char exec_path[200], files_path[200], dir_path[200];
static struct client c;

/* ---- the guest ---- */

struct guest {
    pthread_t thread;
    struct glink link;
    void (*play)(struct guest *g);
    uint8_t request[65536]; /* body of the first message */
    size_t request_len;
    uint16_t request_type;
    struct buf input;
};

static bool next(struct guest *g, struct gp_header *h, const uint8_t **body)
{
    int r;
    while ((r = glink_next(&g->link, h, body)) == 0) {
        if ((r = glink_fill(&g->link)) == -EAGAIN)
            usleep(1000);
        else if (r < 0)
            return false;
    }
    return r > 0;
}

static void *guest_main(void *arg)
{
    struct guest *g = arg;
    struct gp_header h;
    const uint8_t *body;
    if (next(g, &h, &body) && h.len <= sizeof g->request) {
        memcpy(g->request, body, h.len);
        g->request_len = h.len;
        g->request_type = h.type;
        g->play(g);
    }
    glink_close(&g->link);
    return NULL;
}

static void guest_start(struct guest *g, void (*play)(struct guest *g))
{
    int pair[2];
    memset(g, 0, sizeof *g);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        exit(1);
    g->link = (struct glink)GLINK_INIT;
    glink_open(&g->link, pair[0]);
    g->play = play;
    c.fleet.stream = pair[1];
    pthread_create(&g->thread, NULL, guest_main, g);
}

static void guest_end(struct guest *g)
{
    pthread_join(g->thread, NULL);
    buf_free(&g->input);
    CHECK(c.fleet.acquired == 0);
}

/* A field of the request, as text; the i-th of that tag. */
static const char *field(const struct guest *g, uint16_t want, unsigned i)
{
    static char text[4096];
    struct tlv_reader r = tlv_reader_init(g->request, g->request_len);
    uint16_t tag;
    const uint8_t *d;
    size_t n;
    while (tlv_next(&r, &tag, &d, &n)) {
        if (tag == want && i-- == 0 && tlv_get_str(d, n, text, sizeof text))
            return text;
    }
    return "";
}

static uint8_t space[128 * 1024];

static void say(struct guest *g, uint16_t type, struct tlv_writer *w)
{
    glink_send(&g->link, type, 1, w->p, w->len, deadline_ms(5000));
    *w = tlv_writer_init(space, sizeof space);
}

static void say_started(struct guest *g)
{
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_u32(&w, GP_T_ERRNO, 0);
    say(g, GP_REPLY, &w);
}

static void say_data(struct guest *g, uint16_t type, const void *data, size_t len)
{
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_bytes(&w, GP_T_DATA, data, len);
    say(g, type, &w);
}

static void say_exit(struct guest *g, uint32_t status)
{
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_u32(&w, GP_T_EXIT_STATUS, status);
    say(g, GP_EXIT, &w);
}

static void take_input(struct guest *g)
{
    struct gp_header h;
    const uint8_t *body, *d;
    uint16_t tag;
    size_t n;
    while (next(g, &h, &body) && h.type == GP_STDIN) {
        struct tlv_reader r = tlv_reader_init(body, h.len);
        if (!tlv_next(&r, &tag, &d, &n) || n == 0)
            return;
        buf_add(&g->input, d, n);
    }
}

/* ---- commands ---- */

static void play_plain(struct guest *g)
{
    say_started(g);
    take_input(g);
    say_data(g, GP_STDOUT, "hel", 3);
    say_data(g, GP_STDERR, "oh\n", 3);
    say_data(g, GP_STDOUT, "lo\n", 3);
    say_exit(g, 3);
}

TEST(a_command)
{
    struct guest g;
    guest_start(&g, play_plain);
    CHECK(call(&c, "POST", exec_path,
               "{'command':['sh','-c','x'],'user':'app','workingDirectory':'/srv',"
               "'environmentVariables':{'A':'1'},'stdin':'typed'}") == 200);
    CHECK_STR(text_at(&c, "stdout"), "hello\n");
    CHECK_STR(text_at(&c, "stderr"), "oh\n");
    CHECK(json_integer_value(json_object_get(c.json, "exitCode")) == 3);
    CHECK(json_is_false(json_object_get(c.json, "timedOut")) &&
          json_is_false(json_object_get(c.json, "stdoutTruncated")));
    guest_end(&g);
    CHECK(g.request_type == GP_EXEC);
    CHECK_STR(field(&g, GP_T_ARG, 0), "sh");
    CHECK_STR(field(&g, GP_T_ARG, 2), "x");
    CHECK_STR(field(&g, GP_T_ENV, 0), "A=1");
    CHECK_STR(field(&g, GP_T_USER, 0), "app");
    CHECK_STR(field(&g, GP_T_WORKDIR, 0), "/srv");
}

/* Writes more than any buffer takes before it reads: input and output must not wait for each
 * other. */
static void play_flood(struct guest *g)
{
    static char block[32768];
    memset(block, 'x', sizeof block);
    say_started(g);
    for (unsigned i = 0; i < 100; i++)
        say_data(g, GP_STDOUT, block, sizeof block);
    take_input(g);
    say_exit(g, g->input.len == 300000 ? 0 : 1);
}

TEST(floods_both_ways)
{
    struct guest g;
    AUTO_FREE char *typed = malloc(300001);
    memset(typed, 'y', 300000);
    typed[300000] = '\0';
    guest_start(&g, play_flood);
    CHECK(call(&c, "POST", exec_path, "{'command':['x'],'maxOutputBytes':1000,'stdin':'%s'}",
               typed) == 200);
    CHECK(strlen(text_at(&c, "stdout")) == 1000);
    CHECK(json_is_true(json_object_get(c.json, "stdoutTruncated")));
    CHECK(json_integer_value(json_object_get(c.json, "exitCode")) == 0);
    guest_end(&g);
}

static void play_binary(struct guest *g)
{
    say_started(g);
    take_input(g);
    say_data(g, GP_STDOUT, g->input.data, g->input.len);
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_u32(&w, GP_T_SIGNAL, 9);
    tlv_put_str(&w, GP_T_TEXT, "its time was up");
    say(g, GP_EXIT, &w);
}

TEST(bytes_that_are_no_text)
{
    struct guest g;
    guest_start(&g, play_binary);
    CHECK(call(&c, "POST", exec_path, "{'command':['x'],'stdinBase64':'/wD+'}") == 200);
    CHECK_STR(text_at(&c, "stdoutBase64"), "/wD+");
    CHECK(!json_object_get(c.json, "stdout"));
    CHECK(json_integer_value(json_object_get(c.json, "signal")) == 9);
    CHECK(json_is_true(json_object_get(c.json, "timedOut")));
    guest_end(&g);
}

static void play_refusal(struct guest *g)
{
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_u32(&w, GP_T_ERRNO, ENOENT);
    tlv_put_str(&w, GP_T_TEXT, "nothing: no such program");
    say(g, GP_REPLY, &w);
}

static void play_gone(struct guest *g)
{
    say_started(g);
}

static void play_nonsense(struct guest *g)
{
    send(g->link.fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
}

static void play_early_end(struct guest *g)
{
    say_exit(g, 0); /* before it has started */
}

TEST(commands_that_fail)
{
    struct guest g;
    guest_start(&g, play_refusal);
    CHECK(call(&c, "POST", exec_path, "{'command':['nothing']}") == 404);
    CHECK(failed(&c, 404, "ResourceNotFoundException", "nothing: no such program"));
    guest_end(&g);
    guest_start(&g, play_gone);
    CHECK(call(&c, "POST", exec_path, "{'command':['x']}") == 409);
    guest_end(&g);
    guest_start(&g, play_nonsense);
    CHECK(call(&c, "POST", exec_path, "{'command':['x']}") == 409);
    guest_end(&g);
    guest_start(&g, play_early_end);
    CHECK(call(&c, "POST", exec_path, "{'command':['x']}") == 409);
    guest_end(&g);
}

static bool ended; /* our stream, as the guest saw it */

static void play_for_ever(struct guest *g)
{
    struct gp_header h;
    const uint8_t *body;
    say_started(g);
    while (next(g, &h, &body))
        ;
    ended = true;
}

/* Nobody waits for the answer any more: the stream ends, which kills the command. */
TEST(a_client_that_leaves)
{
    static char json[] = "{\"command\":[\"sleep\",\"1000\"]}";
    struct guest g;
    struct http_req req = {
        .method = "POST", .path = exec_path, .query = exec_path + strlen(exec_path)};
    struct conn *peer;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
        conn_plain(&peer, pair[0], NULL) < 0)
        exit(1);
    guest_start(&g, play_for_ever);
    req.peer = peer;
    close(pair[1]);
    api_handle(&c.api, &req, RIGHTS_ADMIN, json, strlen(json), &c.res);
    CHECK(c.res.status == 409);
    guest_end(&g);
    CHECK(ended);
    conn_close(peer);
}

TEST(command_requests_are_checked)
{
    c.fleet.stream = -1;
    CHECK(call(&c, "POST", exec_path, "{}") == 400);
    CHECK(call(&c, "POST", exec_path, "{'command':[]}") == 400);
    CHECK(call(&c, "POST", exec_path, "{'command':['x'],'timeoutInSeconds':3601}") == 400);
    CHECK(call(&c, "POST", exec_path, "{'command':['x'],'workingDirectory':'srv'}") == 400);
    CHECK(call(&c, "POST", exec_path, "{'command':['x'],'stdin':'a','stdinBase64':'YQ=='}") ==
          400);
    CHECK(call(&c, "POST", exec_path, "{'command':['x'],'stdinBase64':'YQ'}") == 400);
    CHECK(call(&c, "POST", exec_path, "{'command':['x'],'stdinBase64':'Y-=='}") == 400);
    AUTO_FREE char *word = malloc(120001);
    memset(word, 'w', 120000);
    word[120000] = '\0';
    CHECK(call(&c, "POST", exec_path, "{'command':['%s','%s']}", word, word) == 400);
    /* The microVM went between the two looks. */
    CHECK(call(&c, "POST", exec_path, "{'command':['x']}") == 409);
    CHECK(c.fleet.acquired == 0);
    CHECK(call(&c, "POST", "/dormouse/v1/microvms/nobody/exec", "{'command':['x']}") == 404);
}

/* ---- files ---- */

static void play_file(struct guest *g)
{
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_u32(&w, GP_T_ERRNO, 0);
    tlv_put_bytes(&w, GP_T_DATA, "abc", 3);
    say(g, GP_REPLY, &w);
    tlv_put_u32(&w, GP_T_ERRNO, 0);
    tlv_put_bytes(&w, GP_T_DATA, "def", 3);
    say(g, GP_REPLY, &w);
    tlv_put_u32(&w, GP_T_ERRNO, 0);
    tlv_put_u64(&w, GP_T_SIZE, 100);
    tlv_put_u32(&w, GP_T_EOF, 0);
    say(g, GP_REPLY, &w);
}

static bool has_header(const char *line)
{
    const char *all = buf_cstr(&c.res.headers);
    return all && strstr(all, line) != NULL;
}

TEST(a_file_is_read)
{
    struct guest g;
    char target[300];
    guest_start(&g, play_file);
    snprintf(target, sizeof target, "%s?path=/etc/my%%20file&offset=4&limit=6", files_path);
    CHECK(call(&c, "GET", target, "%s", "") == 200);
    CHECK(c.res.body.len == 6 && memcmp(c.res.body.data, "abcdef", 6) == 0);
    CHECK(has_header("x-dormouse-next-offset: 10\r\n"));
    CHECK(has_header("x-dormouse-file-size: 100\r\n"));
    CHECK(has_header("x-dormouse-end-of-file: false\r\n"));
    guest_end(&g);
    CHECK_STR(field(&g, GP_T_PATH, 0), "/etc/my file");
    guest_start(&g, play_file); /* more than was asked for */
    snprintf(target, sizeof target, "%s?path=/x&limit=5", files_path);
    CHECK(call(&c, "GET", target, "%s", "") == 409);
    guest_end(&g);
    guest_start(&g, play_refusal);
    CHECK(call(&c, "GET", target, "%s", "") == 404);
    guest_end(&g);
    snprintf(target, sizeof target, "%s?path=x", files_path);
    CHECK(call(&c, "GET", target, "%s", "") == 400);
    CHECK(call(&c, "GET", files_path, "%s", "") == 400);
}

static uint64_t told; /* where the guest says that the data ended */

static void play_write(struct guest *g)
{
    take_input(g);
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_u32(&w, GP_T_ERRNO, 0);
    if (told)
        tlv_put_u64(&w, GP_T_SIZE, told);
    say(g, GP_REPLY, &w);
}

TEST(a_file_is_written)
{
    struct guest g;
    char target[300];
    told = 5;
    guest_start(&g, play_write);
    snprintf(target, sizeof target, "%s?path=/x&mode=755&user=app", files_path);
    CHECK(call(&c, "PUT", target, "%s", "hello") == 200);
    CHECK(json_integer_value(json_object_get(c.json, "nextOffset")) == 5);
    pthread_join(g.thread, NULL);
    CHECK(g.input.len == 5 && memcmp(g.input.data, "hello", 5) == 0);
    CHECK_STR(field(&g, GP_T_USER, 0), "app");
    buf_free(&g.input);
    told = 9;
    guest_start(&g, play_write);
    snprintf(target, sizeof target, "%s?path=/x&offset=4", files_path);
    CHECK(call(&c, "PUT", target, "%s", "hello") == 200);
    guest_end(&g);
    told = 0; /* an init that does not know offsets */
    guest_start(&g, play_write);
    CHECK(call(&c, "PUT", target, "%s", "hello") == 409);
    guest_end(&g);
    snprintf(target, sizeof target, "%s?path=/x&mode=89", files_path);
    CHECK(call(&c, "PUT", target, "%s", "hello") == 400);
}

static void play_list(struct guest *g)
{
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_u32(&w, GP_T_ERRNO, 0);
    tlv_put_str(&w, GP_T_ENTRY, "f 644 12 1700000000 a file");
    tlv_put_str(&w, GP_T_ENTRY, "d 1777 4096 1700000001 \"quoted\"");
    say(g, GP_REPLY, &w);
    tlv_put_u32(&w, GP_T_ERRNO, 0);
    tlv_put_u32(&w, GP_T_EOF, 1);
    say(g, GP_REPLY, &w);
}

static void play_bad_list(struct guest *g)
{
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    tlv_put_u32(&w, GP_T_ERRNO, 0);
    tlv_put_str(&w, GP_T_ENTRY, "what is this");
    say(g, GP_REPLY, &w);
}

TEST(a_directory)
{
    struct guest g;
    guest_start(&g, play_list);
    CHECK(call(&c, "GET", dir_path, "%s", "") == 200 && items(&c) == 2);
    CHECK_STR(text_at(&c, "items.0.name"), "a file");
    CHECK_STR(text_at(&c, "items.0.type"), "file");
    CHECK_STR(text_at(&c, "items.0.mode"), "0644");
    CHECK_STR(text_at(&c, "items.1.name"), "\"quoted\"");
    CHECK_STR(text_at(&c, "items.1.mode"), "1777");
    guest_end(&g);
    guest_start(&g, play_bad_list);
    CHECK(call(&c, "GET", dir_path, "%s", "") == 409);
    guest_end(&g);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    client_open(&c, path);
    CHECK(call(&c, "POST", V "/microvm-images", "{'name':'box'," CONFIG "}") == 201);
    CHECK(call(&c, "POST", V "/microvms", "{'imageIdentifier':'" ARN "box'}") == 200);
    const char *id = text_at(&c, "microvmId");
    snprintf(exec_path, sizeof exec_path, "/dormouse/v1/microvms/%s/exec", id);
    snprintf(files_path, sizeof files_path, "/dormouse/v1/microvms/%s/files", id);
    snprintf(dir_path, sizeof dir_path, "/dormouse/v1/microvms/%s/directory?path=/srv", id);
    RUN(a_command);
    RUN(floods_both_ways);
    RUN(bytes_that_are_no_text);
    RUN(commands_that_fail);
    RUN(a_client_that_leaves);
    RUN(command_requests_are_checked);
    RUN(a_file_is_read);
    RUN(a_file_is_written);
    RUN(a_directory);
    client_close(&c);
    store_file_remove(path);
    return TAP_DONE();
}
