/* What the load generator offers to its modes, each of which is one kind of client.
 *
 * A mode is told of events of a connection and answers by the functions below. Several modes share a file where they are alike; a new
 * one is added to `modes` in load.c. All times are nanoseconds of CLOCK_MONOTONIC. One thread, no locks.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stddef.h>
#include <stdint.h>

enum failure { FAIL_CONNECT, FAIL_RESET, FAIL_TIMEOUT, FAIL_EARLY_END, FAIL_UNEXPECTED, FAILURES };

struct connection {
    int fd;                  /* -1: the slot is free */
    int established;         /* whether connect(2) is done */
    int step;                /* the mode's own; 0 at the start */
    uint32_t number;         /* counted from 0 */
    uint64_t started;        /* when connect(2) was called */
    uint64_t verdict;        /* when the verdict had come; 0: not yet */
    uint64_t touched;        /* the last event, for the timeout */
    uint64_t wake;           /* when `timer` is to be called; 0: never */
    void *own;               /* the mode's; freed with the connection */
    const char *output;      /* not yet written; must live on */
    size_t output_left;
    size_t filled;
    char input[1024];        /* a line that is not yet whole */
};

struct mode {
    const char *name;
    const char *about;
    /* The connection stands. May be NULL. */
    void (*connected)(struct connection *c);
    /* A whole reply line came, without its end. code: its three digits, or 0; more: whether `-` follows them. */
    void (*line)(struct connection *c, int code, int more, const char *text, size_t length);
    /* The server has closed, in order. NULL: well after the verdict, FAIL_EARLY_END before. */
    void (*ended)(struct connection *c);
    /* All output is written. May be NULL. */
    void (*written)(struct connection *c);
    /* `wake` has come. May be NULL. */
    void (*timer)(struct connection *c);
    /* Once at the end, to print members of the JSON object, each with a comma before it. May be NULL. */
    void (*report)(void);
};

struct options {
    uint32_t connections, concurrency;
    double rate;             /* new connections a second; 0: as fast as concurrency lets */
    double timeout;          /* seconds without an event, after which a connection fails */
    double limit;            /* seconds after which no more are begun */
    const char *argument;    /* --argument, a mode's own */
};

extern struct options options;
extern uint64_t now;         /* of the present event */

/* The text is written as the socket takes it; it must live until then. One at a time. */
void say(struct connection *c, const char *text, size_t length);
/* The verdict has come: its time counts. Only the first call of a connection does. */
void verdict(struct connection *c);
/* The connection was as wanted, and is closed. */
void done(struct connection *c);
void fail(struct connection *c, enum failure why);
/* Prints `, "NAME": {"p50": …, "p90": …, "p99": …, "max": …}` in microseconds of nanoseconds, which it sorts. */
void print_quantiles(const char *name, uint64_t *samples, size_t count);

extern const struct mode drop_mode, closed_mode, early_mode, greeted_mode, mail_mode, hold_mode;

#endif
