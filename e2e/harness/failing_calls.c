/* Preloaded into a program, this makes system calls fail as they do where the kernel is short of memory or descriptors.

   FAILING_CALLS names a file of one byte: how many of 256 calls fail now; 0, none. Only a process whose command line has FAILING_IN in it
   is concerned. Which call fails with which error is drawn by a generator that begins the same in each process. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static volatile const uint8_t *share;
static uint64_t state = 88172645463325252ull;

static uint32_t draw(void) { /* xorshift64 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static void *next_of(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAILING_CALLS"), *wanted = getenv("FAILING_IN");
    char command[4096];
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : read(file, command, sizeof command);
    if (file >= 0)
        close(file);
    if (!path || !wanted || size < 0 || !memmem(command, (size_t)size, wanted, strlen(wanted)))
        return;
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, 1, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        share = mapped;
}

static int fails(const int *errors, unsigned count) {
    if (!share || !*share || (draw() & 255) >= *share)
        return 0;
    errno = errors[draw() % count];
    return 1;
}

static const int new_one[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
static const int buffers[] = {ENOBUFS, ENOMEM};
static const int no_way[] = {ENOBUFS, ENOMEM, EADDRNOTAVAIL, ENETUNREACH};

#define FAIL(errors) fails(errors, sizeof errors / sizeof *errors)
#define PASS_ON(type, name, ...)                                                                                                    \
    static type (*real)();                                                                                                          \
    if (!real)                                                                                                                      \
        real = (type(*)())next_of(name);                                                                                            \
    return real(__VA_ARGS__)

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict size, int flags) {
    if (FAIL(new_one))
        return -1;
    PASS_ON(int, "accept4", fd, address, size, flags);
}

int socket(int domain, int type, int protocol) {
    if (FAIL(new_one))
        return -1;
    PASS_ON(int, "socket", domain, type, protocol);
}

int socketpair(int domain, int type, int protocol, int ends[2]) {
    if (FAIL(new_one))
        return -1;
    PASS_ON(int, "socketpair", domain, type, protocol, ends);
}

int connect(int fd, const struct sockaddr *address, socklen_t size) {
    if (FAIL(no_way))
        return -1;
    PASS_ON(int, "connect", fd, address, size);
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    if (FAIL(buffers))
        return -1;
    PASS_ON(ssize_t, "send", fd, data, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (FAIL(buffers))
        return -1;
    PASS_ON(ssize_t, "sendmsg", fd, message, flags);
}

ssize_t recv(int fd, void *data, size_t size, int flags) {
    if (FAIL(buffers))
        return -1;
    PASS_ON(ssize_t, "recv", fd, data, size, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    if (FAIL(buffers))
        return -1;
    PASS_ON(ssize_t, "recvmsg", fd, message, flags);
}
