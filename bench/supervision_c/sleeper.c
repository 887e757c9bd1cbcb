/* SPDX-License-Identifier: Apache-2.0
 * The bench's app: says when it came up ("pid monotonic_ns" appended to its file), then waits for a signal.
 * usage: sleeper FILE
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (argc < 2)
        return 2;
    int fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    int n = snprintf(line, sizeof line, "%d %lld\n", getpid(), (long long)now.tv_sec * 1000000000LL + now.tv_nsec);
    if (fd < 0 || write(fd, line, n) != n)
        return 1;
    close(fd);
    for (;;)
        pause();
}
