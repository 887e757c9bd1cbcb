/* SPDX-License-Identifier: Apache-2.0
 * Watchdogs that are none: preloaded into the guard, so that /dev/watchdog*, /sys/class/watchdog and the boot id are files of the test.
 *
 * Semantics of the kernel's watchdog core (drivers/watchdog/watchdog_dev.c) as softdog shows them: one opener; opening starts it; any write or
 * KEEPALIVE feeds; a 'V' in the last write lets close stop it unless nowayout; a time-out outside the range is refused; what runs on after a close
 * can be opened again. FAKEDOG is a folder: NAME.conf "options min max timeout nowayout bootstatus identity", NAME.log gets one line an event
 * (milliseconds of the monotonic clock, word, number), sys/ and boot_id stand for the kernel's. A feed after the deadline is logged as a bite.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <linux/watchdog.h>

#define MOST 8
struct dog {
    int fd, options, least, most, timeout, pretimeout, nowayout, bootstatus, release;
    long deadline;
    char name[32], identity[32];
};
static struct dog dogs[MOST];
static __thread int inside;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_ioctl)(int, unsigned long, ...);

__attribute__((constructor)) static void begin(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_ioctl = dlsym(RTLD_NEXT, "ioctl");
    for (int i = 0; i < MOST; i++)
        dogs[i].fd = -1;
}

static const char *folder(void) { return getenv("FAKEDOG"); }

static long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000L + t.tv_nsec / 1000000L;
}

static void note(struct dog *d, const char *word, long number) {
    char path[512], line[96];
    snprintf(path, sizeof path, "%s/%s.log", folder(), d->name);
    int n = snprintf(line, sizeof line, "%ld %s %ld\n", now_ms(), word, number);
    int fd = real_open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0) {
        real_write(fd, line, n);
        real_close(fd);
    }
}

static void state(struct dog *d, const char *word) {
    char path[512];
    snprintf(path, sizeof path, "%s/sys/%s/state", folder(), d->name);
    int fd = real_open(path, O_WRONLY | O_TRUNC | O_CLOEXEC, 0644); /* only where the test made one */
    if (fd >= 0) {
        real_write(fd, word, strlen(word));
        real_close(fd);
    }
}

static void ping(struct dog *d, const char *word) {
    long now = now_ms();
    if (d->deadline && now > d->deadline)
        note(d, "bite", now - d->deadline);
    d->deadline = now + d->timeout * 1000L;
    note(d, word, d->timeout);
}

static int open_dog(const char *name) {
    char path[512], text[256];
    struct dog *d = NULL;
    for (int i = 0; i < MOST; i++) {
        if (dogs[i].fd >= 0 && !strcmp(dogs[i].name, name)) {
            errno = EBUSY;
            return -1;
        }
        if (dogs[i].fd < 0)
            d = &dogs[i];
    }
    snprintf(path, sizeof path, "%s/%s.conf", folder(), name);
    int fd = d ? real_open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        real_close(fd);
        errno = EBUSY;
        return -1;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    memset(d, 0, sizeof *d);
    sscanf(text, "%i %d %d %d %d %i %31s", &d->options, &d->least, &d->most, &d->timeout, &d->nowayout, &d->bootstatus, d->identity);
    snprintf(d->name, sizeof d->name, "%s", name);
    d->fd = fd;
    note(d, "open", 0);
    ping(d, "start");
    state(d, "active\n");
    return fd;
}

static int redirect(const char *path, int flags, mode_t mode, int *done) {
    static const char boot[] = "/proc/sys/kernel/random/boot_id", sys[] = "/sys/class/watchdog/", dev[] = "/dev/watchdog";
    char to[512];
    *done = 0;
    if (inside || !folder() || !path)
        return -1;
    inside = 1;
    int fd = -1;
    if (!strncmp(path, dev, sizeof dev - 1)) {
        *done = 1;
        fd = open_dog(path + 5);
    } else if (!strcmp(path, boot) || !strncmp(path, sys, sizeof sys - 1)) {
        *done = 1;
        if (path[1] == 'p')
            snprintf(to, sizeof to, "%s/boot_id", folder());
        else
            snprintf(to, sizeof to, "%s/sys/%s", folder(), path + sizeof sys - 1);
        fd = real_open(to, flags, mode);
    }
    inside = 0;
    return fd;
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        int done, fd = redirect(path, flags, mode, &done); \
        return done ? fd : real_open(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define OPENSAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        int done, fd = redirect(path, flags, mode, &done); \
        return done ? fd : real_openat(at, path, flags, mode); \
    }
OPENSAT(openat)
OPENSAT(openat64)

static struct dog *dog_of(int fd) {
    for (int i = 0; fd >= 0 && i < MOST; i++)
        if (dogs[i].fd == fd)
            return &dogs[i];
    return NULL;
}

ssize_t write(int fd, const void *data, size_t length) {
    struct dog *d = dog_of(fd);
    if (!d)
        return real_write(fd, data, length);
    d->release = memchr(data, 'V', length) != NULL;
    ping(d, d->release ? "magic" : "feed");
    return length;
}

int close(int fd) {
    struct dog *d = dog_of(fd);
    if (d) {
        int stops = !d->nowayout && (d->release || !(d->options & WDIOF_MAGICCLOSE));
        note(d, "close", !stops);
        if (stops)
            state(d, "inactive\n");
        d->fd = -1;
        d->deadline = 0;
    }
    return real_close(fd);
}

static int answer(int *value, int said) {
    *value = said;
    return 0;
}

static int fail(int code) {
    errno = code;
    return -1;
}

int ioctl(int fd, unsigned long number, ...) {
    va_list more;
    va_start(more, number);
    void *arg = va_arg(more, void *);
    va_end(more);
    struct dog *d = dog_of(fd);
    if (!d)
        return real_ioctl(fd, number, arg);
    int *value = arg;
    switch ((uint32_t)number) {
    case WDIOC_GETSUPPORT: {
        struct watchdog_info info = {.options = d->options, .firmware_version = 1};
        memcpy(info.identity, d->identity, sizeof info.identity);
        memcpy(arg, &info, sizeof info);
        return 0;
    }
    case WDIOC_GETSTATUS:
        return answer(value, 0);
    case WDIOC_GETBOOTSTATUS:
        return answer(value, d->bootstatus);
    case WDIOC_SETOPTIONS:
        if (*value & WDIOS_DISABLECARD && d->nowayout)
            return fail(EBUSY);
        note(d, "options", *value);
        return 0;
    case WDIOC_KEEPALIVE:
        if (!(d->options & WDIOF_KEEPALIVEPING))
            return fail(EOPNOTSUPP);
        ping(d, "feed");
        return 0;
    case WDIOC_SETTIMEOUT:
        if (!(d->options & WDIOF_SETTIMEOUT))
            return fail(EOPNOTSUPP);
        if (*value < 1 || *value < d->least || (d->most && *value > d->most))
            return fail(EINVAL);
        d->timeout = *value;
        if (d->pretimeout >= d->timeout)
            d->pretimeout = 0;
        ping(d, "set");
        return answer(value, d->timeout);
    case WDIOC_GETTIMEOUT:
        return d->timeout ? answer(value, d->timeout) : fail(EOPNOTSUPP);
    case WDIOC_SETPRETIMEOUT:
        if (!(d->options & WDIOF_PRETIMEOUT))
            return fail(EOPNOTSUPP);
        if (*value < 0 || *value >= d->timeout)
            return fail(EINVAL);
        d->pretimeout = *value;
        note(d, "pretimeout", *value);
        return 0;
    case WDIOC_GETPRETIMEOUT:
        return answer(value, d->pretimeout);
    case WDIOC_GETTIMELEFT:
        return answer(value, (int)((d->deadline - now_ms()) / 1000));
    }
    return fail(ENOTTY);
}
