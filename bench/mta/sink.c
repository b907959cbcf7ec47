/* sink: a mail server that takes everything and keeps nothing, at once: what a client waits for is then what stands before it.
 *
 * `sink ADDRESS PORT` until it is killed. With `proxy` as third word each connection begins with a PROXY v2 header, which is read and
 * not looked at. One thread; it offers SIZE and ENHANCEDSTATUSCODES.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FDS = 20000, HEADER = 16, INPUT = 65536 };

struct session {
    int in_use, in_data;
    size_t header_left;      /* bytes of the PROXY header still to come; its length is known once HEADER are there */
    size_t header_filled;
    unsigned char header[HEADER];
    size_t filled;
    char line[1024];         /* a command that is not yet whole */
    char tail[5];            /* the last bytes of the data */
};

static struct session sessions[MAX_FDS];
static int poller, with_header;

static void say(int fd, const char *text) { send(fd, text, strlen(text), MSG_NOSIGNAL); }

static void end(int fd) {
    sessions[fd].in_use = 0;
    close(fd);
}

static void begin(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sessions[fd] = (struct session){.in_use = 1, .header_left = with_header ? HEADER : 0};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    if (!with_header) say(fd, "220 sink.example ESMTP\r\n");
}

static int is(const char *line, const char *verb) { return strncasecmp(line, verb, strlen(verb)) == 0; }

/* 0: the session is over. */
static int command(int fd, struct session *s, const char *line) {
    if (is(line, "EHLO")) say(fd, "250-sink.example\r\n250-SIZE 20000000\r\n250 ENHANCEDSTATUSCODES\r\n");
    else if (is(line, "DATA")) s->in_data = 1, memcpy(s->tail, "\0\0\0\r\n", 5), say(fd, "354 go on\r\n");
    else if (is(line, "RCPT") && strcasestr(line, "relay-test.invalid")) say(fd, "554 5.7.1 relay access denied\r\n");
    else if (is(line, "QUIT")) return say(fd, "221 2.0.0 bye\r\n"), end(fd), 0;
    else if (is(line, "HELO") || is(line, "MAIL") || is(line, "RCPT") || is(line, "RSET") || is(line, "NOOP")) say(fd, "250 2.0.0 ok\r\n");
    else say(fd, "500 5.5.2 what?\r\n");
    return 1;
}

/* Bytes of data up to the dot; how many were taken. */
static size_t data(int fd, struct session *s, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        memmove(s->tail, s->tail + 1, 4);
        s->tail[4] = bytes[i];
        if (bytes[i] == '\n' && !memcmp(s->tail, "\r\n.\r\n", 5)) {
            s->in_data = 0;
            say(fd, "250 2.0.0 taken\r\n");
            return i + 1;
        }
    }
    return count;
}

static size_t header(int fd, struct session *s, const char *bytes, size_t count) {
    size_t taken = count < s->header_left ? count : s->header_left;
    for (size_t i = 0; i < taken && s->header_filled < HEADER; i++) s->header[s->header_filled++] = (unsigned char)bytes[i];
    s->header_left -= taken;
    if (!s->header_left && s->header_filled == HEADER) {
        s->header_filled++;  /* the length is read once */
        s->header_left = (size_t)s->header[14] << 8 | s->header[15];
    }
    if (!s->header_left) say(fd, "220 sink.example ESMTP\r\n");
    return taken;
}

static void receive(int fd) {
    static char input[INPUT];
    struct session *s = &sessions[fd];
    ssize_t n = recv(fd, input, sizeof input, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        end(fd);
        return;
    }
    for (size_t at = 0; at < (size_t)n;) {
        if (s->header_left) at += header(fd, s, input + at, (size_t)n - at);
        else if (s->in_data) at += data(fd, s, input + at, (size_t)n - at);
        else {
            char c = input[at++];
            if (s->filled < sizeof s->line - 1) s->line[s->filled++] = c;
            if (c != '\n') continue;
            s->line[s->filled] = 0;
            s->filled = 0;
            if (!command(fd, s, s->line)) return;
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: sink ADDRESS PORT [proxy]\n"), 2;
    with_header = argc > 3 && !strcmp(argv[3], "proxy");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (inet_pton(AF_INET, argv[1], &here.sin_addr) != 1 || bind(listener, (struct sockaddr *)&here, sizeof here) < 0 ||
        listen(listener, SOMAXCONN) < 0)
        return perror("sink"), 1;
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                if (sessions[fd].in_use) receive(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                if (fd < MAX_FDS) begin(fd);
                else close(fd);
            }
        }
    }
}
