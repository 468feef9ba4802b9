// SPDX-License-Identifier: Apache-2.0
/* See payload_memory.h. */
#include "payload_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define MB   (1u << 20)

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static int number(int argc, char **argv, int i, int def)
{
    return i < argc ? atoi(argv[i]) : def;
}

static char *take(size_t size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int verb_memhog(int argc, char **argv)
{
    int mb = number(argc, argv, 1, 100000);
    for (int i = 0; i < mb; i++) {
        char *p = take(MB);
        if (p == MAP_FAILED)
            return fail("mmap");
        memset(p, 0x5a, MB);
    }
    printf("took %d MiB\n", mb);
    return 0;
}

/* Every word of a page differs from that of every other page, process and round. */
static uint64_t mark(unsigned who, unsigned round, size_t page, unsigned word)
{
    return ((uint64_t)who << 56 | (uint64_t)round << 48 | (uint64_t)page << 16 | word) *
           0x9e3779b97f4a7c15u;
}

static void write_page(uint64_t *at, unsigned who, unsigned round, size_t page)
{
    for (unsigned i = 0; i < PAGE / sizeof *at; i++)
        at[i] = mark(who, round, page, i);
}

static int check_page(const uint64_t *at, unsigned who, unsigned round, size_t page)
{
    for (unsigned i = 0; i < PAGE / sizeof *at; i++) {
        if (at[i] != mark(who, round, page, i)) {
            fprintf(stderr,
                    "process %u, round %u: word %u of page %zu is not what was written\n", who,
                    round, i, page);
            return 1;
        }
    }
    return 0;
}

/* Half of the memory is given back after each round, every other page of it. */
static int hold_memory(unsigned who, size_t mb, unsigned rounds)
{
    size_t pages = mb * (MB / PAGE);
    char *p = take(pages * PAGE);
    if (p == MAP_FAILED)
        return fail("mmap");
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < pages; i++)
            write_page((uint64_t *)(void *)(p + i * PAGE), who, round, i);
        for (size_t i = 0; i < pages; i++)
            if (check_page((uint64_t *)(void *)(p + i * PAGE), who, round, i))
                return 1;
        for (size_t i = round % 2; i < pages; i += 2)
            if (madvise(p + i * PAGE, PAGE, MADV_DONTNEED) < 0)
                return fail("madvise");
    }
    return 0;
}

static int fill_file(const char *path, unsigned who, size_t mb, unsigned rounds)
{
    uint64_t page[PAGE / sizeof(uint64_t)];
    size_t pages = mb * (MB / PAGE);
    for (unsigned round = 0; round < rounds; round++) {
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0)
            return fail(path);
        for (size_t i = 0; i < pages; i++) {
            write_page(page, who, round, i);
            if (write(fd, page, PAGE) != PAGE)
                return fail("write");
        }
        for (size_t i = 0; i < pages; i++)
            if (pread(fd, page, PAGE, (off_t)(i * PAGE)) != PAGE ||
                check_page(page, who, round, i))
                return fail("the file");
        close(fd);
    }
    return unlink(path) < 0 ? fail("unlink") : 0;
}

int verb_pressure(int argc, char **argv)
{
    unsigned procs = (unsigned)number(argc, argv, 1, 2);
    size_t mb = (size_t)number(argc, argv, 2, 16), file_mb = (size_t)number(argc, argv, 4, 16);
    unsigned rounds = (unsigned)number(argc, argv, 5, 2);
    const char *path = argc > 3 ? argv[3] : "/tmp/pressure";
    unsigned bad = 0;
    fflush(stdout);
    for (unsigned i = 0; i <= procs; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return fail("fork");
        if (pid == 0)
            _exit(i < procs ? hold_memory(i, mb, rounds) : fill_file(path, i, file_mb, rounds));
    }
    for (int status; wait(&status) > 0;)
        bad += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    printf("%u of %u processes found what they had written\n", procs + 1 - bad, procs + 1);
    return bad != 0;
}
