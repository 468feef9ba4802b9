// SPDX-License-Identifier: Apache-2.0
/* dormoused's settings; see config.h. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "parent.h"
#include "priv.h"

#define NUMBER 0 /* cap of a number */

struct setting {
    const char *name, *what, *by_default;
    size_t offset, cap;
    uint64_t min, max;
};

#define TEXT(field, name, by_default, what)                     \
    {                                                           \
        name, what, by_default, offsetof(struct config, field), \
            sizeof(((struct config *)0)->field), 0, 0           \
    }
#define COUNT(field, name, by_default, min, max, what)                           \
    {                                                                            \
        name, what, by_default, offsetof(struct config, field), NUMBER, min, max \
    }

static const struct setting settings[] = {
    TEXT(state, "state", "/var/lib/dormouse", "directory with everything that lasts"),
    TEXT(run, "run", "/run/dormouse", "directory for the file `ready`"),
    TEXT(listen, "listen", "127.0.0.1", "address to listen on, with or without :PORT"),
    COUNT(port, "port", "8443", 1, 65535, "port to listen on"),
    COUNT(public_port, "public-port", "0", 0, 65535,
          "port that clients use, when it is another one"),
    TEXT(region, "region", "us-east-1", "region in names and ARNs"),
    TEXT(account, "account", "000000000000", "account in ARNs, 12 digits"),
    TEXT(domain, "domain", "localhost",
         "endpoints are <uuid>.lambda-microvm.<region>.<domain>"),
    TEXT(bases, "bases", "/usr/share/dormouse/bases", "directory of managed base images"),
    TEXT(snapshot_key, "snapshot-key", "",
         "file with a key (64 hex digits) that snapshots are sealed with; others are refused"),
    TEXT(kernel, "kernel", "/usr/lib/dormouse/Image", "the guest kernel"),
    TEXT(initrd, "initrd", "/usr/lib/dormouse/initrd.cpio", "the guest's initramfs"),
    TEXT(vmm, "vmm", "/usr/bin/dormouse-vmm", "the program that runs one microVM"),
    TEXT(nft, "nft", "/usr/sbin/nft", "the program that loads firewall rules"),
    TEXT(tls_cert, "tls-cert", "", "certificate (PEM) instead of one by our own CA"),
    TEXT(tls_key, "tls-key", "", "its key (PEM)"),
    TEXT(tls_names, "tls-names", "", "more names for our own certificate, commas between"),
    TEXT(tls_client_ca, "tls-client-ca", "",
         "CA (PEM) of the certificates that clients of the API must show, also"),
    COUNT(max_conns, "max-connections", "1024", 8, 16384, "connections at once"),
    COUNT(vm_requests, "vm-requests", "256", 1, 16384, "requests at once to one microVM"),
    COUNT(artifact_quota_mib, "artifact-quota", "32768", 1, 1u << 30,
          "MiB that all artifacts may take"),
    COUNT(artifact_max_mib, "artifact-max", "5120", 1, 1u << 30, "MiB that one may take"),
    COUNT(checkpoint_max, "checkpoint-max", "32", 0, 1000, "checkpoints of one microVM"),
    COUNT(checkpoint_vm_mib, "checkpoint-vm-quota", "8192", 0, 1u << 30,
          "MiB that the checkpoints of one microVM may take"),
    COUNT(checkpoint_quota_mib, "checkpoint-quota", "65536", 0, 1u << 30,
          "MiB that all checkpoints may take"),
    COUNT(disk_layers, "disk-layers", "3", 1, 4,
          "frozen layers of a disk; more are joined in the background (4: never)"),
    COUNT(max_duration_s, "max-duration", "28800", 0, UINT32_MAX - 1,
          "longest life of a microVM in seconds, 0: no limit"),
    COUNT(max_running, "max-running", "0", 0, PRIV_SLOTS,
          "microVMs that may run at once, 0: as many as fit"),
    COUNT(api_rate, "api-rate", "0", 0, 1000000,
          "operations per second, with a burst of twice that; 0: no limit"),
    COUNT(api_operations, "api-operations", "0", 0, 16384, "operations at once, 0: no limit"),
    COUNT(working_sets, "working-sets", "2", 0, 2,
          "pages a microVM touches first: 0 as it does, 1 made present at its start, 2 before"),
    COUNT(drift_percent, "working-set-drift", "25", 0, 1000,
          "recorded again when most runs touch so many more pages, percent; 0: never"),
    COUNT(api_uid, "api-uid", "63000", 0, 65533,
          "user that the network-facing process runs as, 0: root without capabilities"),
    TEXT(log_level, "log-level", "info", "error, warn, info or debug"),
};

static int set(struct config *c, const struct setting *s, const char *value, const char *where,
               struct err *e)
{
    char *at = (char *)c + s->offset;
    if (s->cap == NUMBER) {
        uint64_t v;
        if (!parse_u64(value, s->min, s->max, &v))
            return err_set(e, EINVAL, "%s: %s must be a number from %llu to %llu, not '%.60s'",
                           where, s->name, (unsigned long long)s->min,
                           (unsigned long long)s->max, value);
        memcpy(at, &v, sizeof v);
        return 0;
    }
    if (strlen(value) >= s->cap)
        return err_set(e, EINVAL, "%s: %s is longer than %zu characters", where, s->name,
                       s->cap - 1);
    memcpy(at, value, strlen(value) + 1);
    return 0;
}

static const struct setting *find(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (strlen(settings[i].name) == len && memcmp(settings[i].name, name, len) == 0)
            return &settings[i];
    }
    return NULL;
}

static char *trim(char *s)
{
    s += strspn(s, " \t\r");
    size_t len = strlen(s);
    while (len > 0 && strchr(" \t\r", s[len - 1]))
        s[--len] = '\0';
    return s;
}

static int load_file(struct config *c, const char *path, bool must_exist, struct err *e)
{
    AUTO_FREE char *text = NULL;
    char where[600];
    if (!must_exist && access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    int r = fd_read_file(AT_FDCWD, path, 65536, &text, NULL, e);
    if (r < 0)
        return r;
    char *rest = text, *line;
    for (unsigned n = 1; (line = strsep(&rest, "\n")); n++) {
        line[strcspn(line, "#")] = '\0';
        line = trim(line);
        if (!*line)
            continue;
        snprintf(where, sizeof where, "%.500s line %u", path, n);
        char *equals = strchr(line, '=');
        if (!equals)
            return err_set(e, EINVAL, "%s: expected name = value", where);
        *equals = '\0';
        char *name = trim(line);
        const struct setting *s = find(name, strlen(name));
        if (!s)
            return err_set(e, EINVAL, "%s: there is no setting '%.60s'", where, name);
        r = set(c, s, trim(equals + 1), where, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* --name value or --name=value. Advances *i over a separate value. */
static int read_option(int argc, char **argv, int *i, const char **ret_name, size_t *ret_len,
                       const char **ret_value, struct err *e)
{
    const char *arg = argv[*i];
    if (strncmp(arg, "--", 2) != 0)
        return err_set(e, EINVAL, "unexpected argument '%.60s'; try --help", arg);
    *ret_name = arg + 2;
    *ret_len = strcspn(*ret_name, "=");
    if ((*ret_name)[*ret_len] == '=') {
        *ret_value = *ret_name + *ret_len + 1;
        return 0;
    }
    if (*i + 1 >= argc)
        return err_set(e, EINVAL, "option '%.60s' needs a value; try --help", arg);
    *ret_value = argv[++*i];
    return 0;
}

/* The configuration file is read before the other options, wherever it is named. */
static int load_options(struct config *c, int argc, char **argv, bool config_pass,
                        bool *ret_named, struct err *e)
{
    for (int i = 1; i < argc; i++) {
        const char *name = "", *value = "";
        size_t len = 0;
        int r = read_option(argc, argv, &i, &name, &len, &value, e);
        if (r < 0)
            return r;
        bool is_config = len == 6 && memcmp(name, "config", 6) == 0;
        if (config_pass) {
            if (is_config) {
                *ret_named = true;
                r = load_file(c, value, true, e);
            }
        } else if (!is_config) {
            const struct setting *s = find(name, len);
            r = s ? set(c, s, value, "command line", e)
                  : err_set(e, EINVAL, "there is no option '--%.*s'; try --help", (int)len,
                            name);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* ADDRESS, ADDRESS:PORT or [ADDRESS6]:PORT. */
static int split_listen(struct config *c, struct err *e)
{
    char *colon = strrchr(c->listen, ':'), *bracket = strchr(c->listen, ']');
    bool has_port = colon && (bracket ? colon == bracket + 1 : strchr(c->listen, ':') == colon);
    if (has_port && !parse_u64(colon + 1, 1, 65535, &c->port))
        return err_set(e, EINVAL, "listen: '%s' does not end with a port", c->listen);
    if (has_port)
        *colon = '\0';
    if (c->listen[0] == '[' && bracket) {
        *bracket = '\0';
        memmove(c->listen, c->listen + 1, strlen(c->listen));
    }
    return 0;
}

/* Region and domain become host names and ARNs. */
static bool name_valid(const char *s)
{
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == strlen(s) &&
           s[0] != '.' && s[0] != '-' && s[strlen(s) - 1] != '.';
}

static int check(struct config *c, struct err *e)
{
    int r = split_listen(c, e);
    if (r < 0)
        return r;
    if (!name_valid(c->region) || strchr(c->region, '.'))
        return err_set(e, EINVAL, "region must be lower-case letters, digits and '-'");
    if (!name_valid(c->domain))
        return err_set(e, EINVAL, "domain must be a lower-case host name");
    if (strlen(c->account) != 12 || strspn(c->account, "0123456789") != 12)
        return err_set(e, EINVAL, "account must be 12 digits");
    if (!c->tls_cert[0] != !c->tls_key[0])
        return err_set(e, EINVAL, "tls-cert and tls-key must be given together");
    /* Each microVM has a user of its own; theirs is a stranger's. */
    if (c->api_uid >= PARENT_VMM_UID && c->api_uid < PARENT_VMM_UID + PRIV_SLOTS)
        return err_set(e, EINVAL, "api-uid: users %u to %u belong to the microVMs",
                       PARENT_VMM_UID, PARENT_VMM_UID + PRIV_SLOTS - 1);
    if (c->state[0] != '/' || c->run[0] != '/')
        return err_set(e, EINVAL, "state and run must be absolute paths");
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        if (strcmp(c->log_level, levels[i]) == 0)
            return 0;
    }
    return err_set(e, EINVAL, "log-level must be error, warn, info or debug");
}

int config_load(struct config *c, int argc, char **argv, enum config_action *ret, struct err *e)
{
    memset(c, 0, sizeof *c);
    *ret = CONFIG_RUN;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            *ret = CONFIG_HELP;
        else if (!strcmp(argv[i], "--version"))
            *ret = CONFIG_VERSION;
    }
    if (*ret != CONFIG_RUN)
        return 0;
    int r = 0;
    bool named = false;
    for (size_t i = 0; i < ARRAY_LEN(settings) && r == 0; i++)
        r = set(c, &settings[i], settings[i].by_default, "default", e);
    if (r == 0)
        r = load_options(c, argc, argv, true, &named, e);
    if (r == 0 && !named)
        r = load_file(c, CONFIG_FILE, false, e);
    /* How whoever starts an emulated host says which port it forwards. */
    const char *port = getenv("DORMOUSE_PUBLIC_PORT");
    if (r == 0 && port)
        r = set(c, find("public-port", 11), port, "DORMOUSE_PUBLIC_PORT", e);
    if (r == 0)
        r = load_options(c, argc, argv, false, &named, e);
    return r < 0 ? r : check(c, e);
}

char *config_help(void)
{
    struct buf b = BUF_INIT;
    buf_str(&b, "Usage: dormoused [--config FILE] [--NAME VALUE]...\n\n"
                "The Dormouse daemon: control API, artifact store and endpoint proxy on one\n"
                "TLS port. Must be started as root. Settings are read from " CONFIG_FILE "\n"
                "(or FILE) as lines `name = value`; options come after and win.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const struct setting *s = &settings[i];
        buf_printf(&b, "  --%-16s %s%s%s%s\n", s->name, s->what, *s->by_default ? " [" : "",
                   s->by_default, *s->by_default ? "]" : "");
    }
    buf_str(&b, "  --version          say the version\n");
    char *text = buf_cstr(&b);
    if (!text)
        buf_free(&b);
    return text;
}
