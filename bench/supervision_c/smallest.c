/* SPDX-License-Identifier: Apache-2.0
 * The smallest supervisor there can be: posix_spawn + pidfd + epoll, no budgets, no state, no adoption.
 * It is the physical limit that restart times are stated against.
 * usage: smallest COUNT then COUNT lines of "program arg" on standard input
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 64
static char *words[MOST][8];
static pid_t pids[MOST];
static int fds[MOST];
extern char **environ;

static void spawn(int epoll, int i)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = (unsigned)i };
    if (posix_spawn(&pids[i], words[i][0], NULL, NULL, words[i], environ) != 0)
        exit(1);
    fds[i] = (int)syscall(SYS_pidfd_open, pids[i], 0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 0, epoll = epoll_create1(EPOLL_CLOEXEC);
    char line[4096];
    for (int i = 0; i < count && i < MOST; i++) {
        int n = 0;
        if (!fgets(line, sizeof line, stdin))
            return 2;
        line[strcspn(line, "\n")] = 0;
        for (char *word = strtok(strdup(line), " "); word && n < 7; word = strtok(NULL, " "))
            words[i][n++] = word;
        words[i][n] = NULL;
    }
    for (int i = 0; i < count; i++)
        spawn(epoll, i);
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(epoll, &event, 1, -1) == 1) {
            int i = (int)event.data.u32;
            waitpid(pids[i], NULL, 0);
            close(fds[i]);
            spawn(epoll, i);
        }
    }
}
