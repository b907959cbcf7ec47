/* Clients that are screened: who is dropped, who talks too early, who is greeted by the mail server. */
#include <string.h>

#include "load.h"

/* The verdict is the first reply that is no teaser (`220-`); what follows is the end. Any reply of 4xx or 5xx is as wanted. */
static void dropped_line(struct connection *c, int code, int more, const char *text, size_t length) {
    (void)text, (void)length;
    if (code == 220 && more) return;
    if (code < 400) {
        fail(c, FAIL_UNEXPECTED);
        return;
    }
    verdict(c);
}

const struct mode drop_mode = {
    .name = "drop",
    .about = "says nothing; waits for a 4xx or 5xx and the end",
    .line = dropped_line,
};

static void closed_line(struct connection *c, int code, int more, const char *text, size_t length) {
    (void)code, (void)more, (void)text, (void)length;
    fail(c, FAIL_UNEXPECTED);
}

static void closed_end(struct connection *c) {
    verdict(c);
    done(c);
}

const struct mode closed_mode = {
    .name = "closed",
    .about = "says nothing; waits for the end, without a reply",
    .line = closed_line,
    .ended = closed_end,
};

static const char EARLY[] = "EHLO zombie.example\r\nMAIL FROM:<a@example.com>\r\n";

static void early_connected(struct connection *c) { say(c, EARLY, sizeof EARLY - 1); }

const struct mode early_mode = {
    .name = "early",
    .about = "talks at once; waits for a 4xx or 5xx and the end",
    .connected = early_connected,
    .line = dropped_line,
};

static void greeted_line(struct connection *c, int code, int more, const char *text, size_t length) {
    (void)text, (void)length;
    if (more) return;
    if (c->step == 0 && code == 220) {
        verdict(c);
        c->step = 1;
        say(c, "QUIT\r\n", 6);
    } else if (c->step == 1 && code == 221) {
        c->step = 2;
    } else {
        fail(c, FAIL_UNEXPECTED);
    }
}

static void greeted_end(struct connection *c) {
    if (c->step == 2)
        done(c);
    else
        fail(c, FAIL_EARLY_END);
}

const struct mode greeted_mode = {
    .name = "greeted",
    .about = "waits for 220, says QUIT, waits for 221 and the end",
    .line = greeted_line,
    .ended = greeted_end,
};
