/* load: many SMTP clients in one thread, for measurements of what a server costs.
 *
 * `load --target 127.0.0.1:25 --sources 127.64.0.0:10000 --connections 100000 --concurrency 64 --mode drop` prints one JSON object: how
 * many connections were as the mode wants them, failures by kind, seconds, replies by code, and quantiles of the time to the verdict, from
 * connect(2) on, in microseconds. Each connection has the next of the source addresses. Loopback only: others are refused.
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const struct mode *const modes[] = {&drop_mode, &closed_mode, &early_mode, &greeted_mode, &mail_mode, &hold_mode};

static const char *const FAILURE_NAMES[FAILURES] = {"connect", "reset", "timeout", "early_end", "unexpected"};

enum { EVENTS = 256, SWEEP_MS = 50 };

struct options options = {.connections = 10000, .concurrency = 64, .timeout = 30, .limit = 120};
uint64_t now;

static const struct mode *mode;
static struct sockaddr_in target;
static uint32_t first_source, sources = 1;
static struct connection *slots;
static uint32_t *free_slots, free_count;
static int poller;
static uint64_t begun_at;
static uint32_t begun, ended, succeeded, resets;
static uint32_t failures[FAILURES], codes[1000];
static uint64_t *latencies;
static size_t latency_count;
static int first_failure_said;

static void clock_tick(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void release(struct connection *c) {
    close(c->fd);
    free(c->own);
    c->own = NULL;
    c->fd = -1;
    ended++;
    free_slots[free_count++] = (uint32_t)(c - slots);
}

void done(struct connection *c) {
    succeeded++;
    release(c);
}

void fail(struct connection *c, enum failure why) {
    if (!first_failure_said) {
        first_failure_said = 1;
        fprintf(stderr, "load: connection %u: %s (%s)\n", c->number, FAILURE_NAMES[why], strerror(errno));
    }
    failures[why]++;
    release(c);
}

void verdict(struct connection *c) {
    if (c->verdict) return;
    c->verdict = now;
    latencies[latency_count++] = now - c->started;
}

static void want(struct connection *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = (uint32_t)(c - slots)};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) < 0) die("epoll_ctl");
}

static void flush(struct connection *c) {
    while (c->output_left) {
        ssize_t n = send(c->fd, c->output, c->output_left, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                want(c, EPOLLIN | EPOLLOUT);
                return;
            }
            /* What the server said before it closed is still to be read. */
            c->output_left = 0;
            want(c, EPOLLIN);
            return;
        }
        c->output += n;
        c->output_left -= (size_t)n;
    }
    if (mode->written) mode->written(c);
}

void say(struct connection *c, const char *text, size_t length) {
    c->output = text;
    c->output_left = length;
    if (c->established) flush(c);
}

static void begin(void) {
    struct connection *c = &slots[free_slots[--free_count]];
    *c = (struct connection){.number = begun++};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(first_source + c->number % sources)};
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(c->fd, (struct sockaddr *)&source, sizeof source) < 0) die("bind");
    clock_tick();
    c->started = c->touched = now;
    if (connect(c->fd, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS) {
        fail(c, FAIL_CONNECT);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)(c - slots)};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0) die("epoll_ctl");
}

/* Gives the whole lines in the input to the mode. 0: the connection is gone. */
static int take_lines(struct connection *c) {
    int fd = c->fd;
    size_t start = 0;
    char *end;
    while ((end = memchr(c->input + start, '\n', c->filled - start))) {
        char *line = c->input + start;
        size_t length = (size_t)(end - line);
        start += length + 1;
        if (length && line[length - 1] == '\r') length--;
        int code = 0;
        if (length >= 3 && line[0] >= '0' && line[0] <= '9' && line[1] >= '0' && line[1] <= '9' && line[2] >= '0' && line[2] <= '9')
            code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
        codes[code]++;
        mode->line(c, code, length > 3 && line[3] == '-', line, length);
        if (c->fd != fd) return 0;
    }
    memmove(c->input, c->input + start, c->filled - start);
    c->filled -= start;
    return 1;
}

static void readable(struct connection *c) {
    for (;;) {
        if (c->filled == sizeof c->input) {
            fail(c, FAIL_UNEXPECTED);
            return;
        }
        ssize_t n = recv(c->fd, c->input + c->filled, sizeof c->input - c->filled, 0);
        if (n > 0) {
            c->filled += (size_t)n;
            if (!take_lines(c)) return;
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0 && c->verdict && !mode->ended) {
            /* It closed with our input unread. The client has its answer all the same. */
            resets++;
            done(c);
        } else if (n < 0) {
            fail(c, c->established ? FAIL_RESET : FAIL_CONNECT);
        } else if (mode->ended) {
            mode->ended(c);
        } else if (c->verdict) {
            done(c);
        } else {
            fail(c, FAIL_EARLY_END);
        }
        return;
    }
}

static void handle(struct connection *c, uint32_t events) {
    if (c->fd < 0) return;
    c->touched = now;
    int fd = c->fd;
    if (!c->established && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t size = sizeof error;
        if (events & EPOLLERR) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            errno = error;
            fail(c, error == ECONNRESET ? FAIL_RESET : FAIL_CONNECT);
            return;
        }
        c->established = 1;
        want(c, EPOLLIN);
        if (mode->connected) mode->connected(c);
    } else if (events & EPOLLOUT && c->output_left) {
        flush(c);
        if (c->fd == fd && !c->output_left) want(c, EPOLLIN);
    }
    if (c->fd == fd && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
}

static void sweep(void) {
    uint64_t longest = (uint64_t)(options.timeout * 1e9);
    for (uint32_t i = 0; i < options.concurrency; i++) {
        struct connection *c = &slots[i];
        if (c->fd >= 0 && c->wake && c->wake <= now && mode->timer) {
            c->wake = 0;
            mode->timer(c);
        }
        if (c->fd >= 0 && !c->wake && now > c->touched && now - c->touched > longest) {
            errno = ETIMEDOUT;
            fail(c, FAIL_TIMEOUT);
        }
    }
}

static int may_begin(void) {
    if (begun == options.connections || !free_count) return 0;
    if ((double)(now - begun_at) / 1e9 > options.limit) return 0;
    return options.rate <= 0 || begun < (double)(now - begun_at) / 1e9 * options.rate;
}

static void run(void) {
    struct epoll_event events[EVENTS];
    uint64_t swept;
    clock_tick();
    begun_at = swept = now;
    for (;;) {
        /* A few at a time: who has an answer is not to wait for a burst of new ones. */
        for (int i = 0; i < 32 && may_begin(); i++) begin();
        if (ended == begun && (begun == options.connections || (double)(now - begun_at) / 1e9 > options.limit)) return;
        int wait = may_begin() ? 0 : options.rate > 0 || mode->timer ? 1 : SWEEP_MS;
        int count = epoll_wait(poller, events, EVENTS, wait);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        clock_tick();
        for (int i = 0; i < count; i++) handle(&slots[events[i].data.u32], events[i].events);
        if (now - swept > (mode->timer ? 1u : SWEEP_MS) * 1000000u) {
            sweep();
            swept = now;
        }
    }
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void print_quantiles(const char *name, uint64_t *samples, size_t count) {
    qsort(samples, count, sizeof *samples, ascending);
    static const struct { const char *name; double part; } QUANTILES[] = {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"max", 1}};
    printf(", \"%s\": {", name);
    for (int i = 0; i < 4; i++) {
        size_t at = count ? (size_t)((double)(count - 1) * QUANTILES[i].part + .5) : 0;
        printf("%s\"%s\": %.1f", i ? ", " : "", QUANTILES[i].name, count ? (double)samples[at] / 1000 : 0.0);
    }
    printf("}");
}

static void report(void) {
    printf("{\"connections\": %u, \"failures\": {", succeeded);
    const char *comma = "";
    for (int i = 0; i < FAILURES; i++)
        if (failures[i]) printf("%s\"%s\": %u", comma, FAILURE_NAMES[i], failures[i]), comma = ", ";
    printf("}, \"seconds\": %.6f, \"replies\": {", (double)(now - begun_at) / 1e9);
    comma = "";
    for (int i = 0; i < 1000; i++)
        if (codes[i]) printf("%s\"%03d\": %u", comma, i, codes[i]), comma = ", ";
    printf("}, \"reset_after_verdict\": %u", resets);
    print_quantiles("latency_us", latencies, latency_count);
    if (mode->report) mode->report();
    printf("}\n");
}

static void usage(const char *wrong) {
    fprintf(stderr, "load: %s\nusage: load --target HOST:PORT --mode MODE [--sources FIRST:COUNT] [--connections N] [--concurrency N]\n"
            "  [--rate PER_SECOND] [--timeout SECONDS] [--limit SECONDS] [--argument TEXT]\nmodes:\n", wrong);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) fprintf(stderr, "  %-8s %s\n", modes[i]->name, modes[i]->about);
    exit(2);
}

/* ADDRESS:NUMBER; the address in host order. */
static uint32_t parse_pair(const char *text, uint32_t *number, const char *wrong) {
    char host[64];
    const char *colon = strrchr(text, ':');
    struct in_addr address;
    if (!colon || (size_t)(colon - text) >= sizeof host) usage(wrong);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    host[strcspn(host, "/")] = 0;
    if (inet_pton(AF_INET, host, &address) != 1) usage(wrong);
    *number = (uint32_t)strtoul(colon + 1, NULL, 10);
    if (!*number || ntohl(address.s_addr) >> 24 != 127) usage(wrong);
    return ntohl(address.s_addr);
}

int main(int argc, char **argv) {
    static const struct option NAMES[] = {
        {"target", 1, 0, 't'}, {"sources", 1, 0, 's'}, {"connections", 1, 0, 'n'}, {"concurrency", 1, 0, 'c'}, {"mode", 1, 0, 'm'},
        {"rate", 1, 0, 'r'}, {"timeout", 1, 0, 'o'}, {"limit", 1, 0, 'l'}, {"argument", 1, 0, 'a'}, {0}};
    int option;
    uint32_t port = 0;
    first_source = INADDR_LOOPBACK;
    while ((option = getopt_long(argc, argv, "", NAMES, NULL)) != -1) switch (option) {
        case 't': target.sin_addr.s_addr = htonl(parse_pair(optarg, &port, "--target must be 127.x.x.x:PORT")); break;
        case 's': first_source = parse_pair(optarg, &sources, "--sources must be 127.x.x.x:COUNT"); break;
        case 'n': options.connections = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'c': options.concurrency = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'r': options.rate = strtod(optarg, NULL); break;
        case 'o': options.timeout = strtod(optarg, NULL); break;
        case 'l': options.limit = strtod(optarg, NULL); break;
        case 'a': options.argument = optarg; break;
        case 'm':
            for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
                if (!strcmp(modes[i]->name, optarg)) mode = modes[i];
            break;
        default: usage("unknown option");
    }
    if (!mode) usage("--mode is missing or unknown");
    if (!port) usage("--target is missing");
    if (!options.connections || !options.concurrency) usage("--connections and --concurrency must be positive");
    if (first_source + sources - 1 > 0x7fffffff) usage("--sources leave 127.0.0.0/8");
    if (options.concurrency > options.connections) options.concurrency = options.connections;
    target.sin_family = AF_INET;
    target.sin_port = htons((uint16_t)port);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (options.concurrency + 16 > files.rlim_cur) usage("--concurrency is beyond the limit of open files");
    slots = calloc(options.concurrency, sizeof *slots);
    free_slots = calloc(options.concurrency, sizeof *free_slots);
    latencies = calloc(options.connections, sizeof *latencies);
    if (!slots || !free_slots || !latencies) die("memory");
    for (uint32_t i = 0; i < options.concurrency; i++) {
        slots[i].fd = -1;
        free_slots[free_count++] = options.concurrency - 1 - i;
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) die("epoll_create1");
    run();
    report();
    return succeeded == options.connections ? 0 : 3;
}
