// SPDX-License-Identifier: Apache-2.0
/* dormoused's settings: what wins, and what is refused by name. */
#include "../../api/config.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char file[64];

static int load(struct config *c, struct err *e, const char *text, const char *const *options)
{
    char *argv[16] = {(char *)"dormoused", (char *)"--config", file};
    int argc = 3;
    enum config_action action;
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || fd_write_full(fd, text, strlen(text)) < 0)
        abort();
    close(fd);
    for (; options && *options; options++)
        argv[argc++] = (char *)(uintptr_t)*options;
    err_clear(e);
    return config_load(c, argc, argv, &action, e);
}

static int load_file_text(const char *text, struct err *e)
{
    struct config c;
    return load(&c, e, text, NULL);
}

TEST(order)
{
    struct config c;
    struct err e = ERR_INIT;
    CHECK(load(&c, &e, "", NULL) == 0);
    CHECK_STR(c.listen, "127.0.0.1");
    CHECK_STR(c.region, "us-east-1");
    CHECK(c.port == 8443 && c.public_port == 0 && c.max_duration_s == 28800);
    static const char *const options[] = {"--region", "eu-x-1", "--port=9000", NULL};
    CHECK(load(&c, &e, "# x\n\n region = us-y-2 # why\nport=1\r\ndomain = a.b\n", options) ==
          0);
    CHECK_STR(c.region, "eu-x-1");
    CHECK_STR(c.domain, "a.b");
    CHECK(c.port == 9000);
    setenv("DORMOUSE_PUBLIC_PORT", "7000", 1);
    CHECK(load(&c, &e, "public-port = 6000\n", NULL) == 0 && c.public_port == 7000);
    static const char *const port[] = {"--public-port", "5000", NULL};
    CHECK(load(&c, &e, "", port) == 0 && c.public_port == 5000);
    setenv("DORMOUSE_PUBLIC_PORT", "x", 1);
    CHECK(load(&c, &e, "", NULL) == -EINVAL && strstr(e.msg, "DORMOUSE_PUBLIC_PORT"));
    unsetenv("DORMOUSE_PUBLIC_PORT");
}

TEST(listen)
{
    static const struct {
        const char *text, *address;
        uint64_t port;
    } good[] = {{"listen = 0.0.0.0\n", "0.0.0.0", 8443},
                {"listen = 0.0.0.0:99\n", "0.0.0.0", 99},
                {"listen = ::1\n", "::1", 8443},
                {"listen = [::1]:77\n", "::1", 77},
                {"listen = [::]\n", "::", 8443}};
    struct err e = ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct config c;
        CHECK(load(&c, &e, good[i].text, NULL) == 0 && c.port == good[i].port);
        CHECK_STR(c.listen, good[i].address);
    }
    CHECK(load_file_text("listen = 0.0.0.0:0\n", &e) == -EINVAL);
    CHECK(load_file_text("listen = 0.0.0.0:x\n", &e) == -EINVAL);
}

TEST(refusals)
{
    static const struct {
        const char *text, *says;
    } bad[] = {{"region\n", "line 1"},
               {"\nregoin = x\n", "line 2: there is no setting 'regoin'"},
               {"port = 0\n", "port must be a number from 1 to 65535"},
               {"port = 1x\n", "'1x'"},
               {"region = A\n", "region"},
               {"region = \n", "region"},
               {"domain = a b\n", "domain"},
               {"account = 1\n", "account"},
               {"tls-cert = /x\n", "tls-key"},
               {"state = var\n", "absolute"},
               {"log-level = loud\n", "log-level"}};
    struct err e = ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(load_file_text(bad[i].text, &e) == -EINVAL);
        if (!CHECK(strstr(e.msg, bad[i].says) != NULL))
            printf("# %s\n", e.msg);
    }
    static const char *const options[][3] = {
        {"--nope", "1", NULL}, {"nope", NULL, NULL}, {"--port", NULL, NULL}, {"-p", "1", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        struct config c;
        CHECK(load(&c, &e, "", options[i]) == -EINVAL && e.msg[0]);
    }
    struct config c;
    enum config_action action;
    char *missing[] = {(char *)"dormoused", (char *)"--config", (char *)"/nonexistent", NULL};
    CHECK(config_load(&c, 3, missing, &action, &e) == -ENOENT);
}

TEST(help)
{
    struct config c;
    struct err e = ERR_INIT;
    enum config_action action;
    char *help[] = {(char *)"dormoused", (char *)"--help", NULL};
    char *version[] = {(char *)"dormoused", (char *)"--version", NULL};
    CHECK(config_load(&c, 2, help, &action, &e) == 0 && action == CONFIG_HELP);
    CHECK(config_load(&c, 2, version, &action, &e) == 0 && action == CONFIG_VERSION);
    AUTO_FREE char *text = config_help();
    CHECK(text && strstr(text, "--public-port") && strstr(text, "[8443]"));
}

int main(void)
{
    snprintf(file, sizeof file, "/tmp/dormouse-test-config.XXXXXX");
    int fd = mkstemp(file);
    if (fd < 0)
        return 1;
    close(fd);
    RUN(order);
    RUN(listen);
    RUN(refusals);
    RUN(help);
    unlink(file);
    return TAP_DONE();
}
