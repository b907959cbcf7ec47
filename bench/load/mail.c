/* Clients with a whole mail, and clients that only hold a connection. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

enum step { GREETING, HELLO, SENDER, RECIPIENT, DATA, DOT, BYE, OVER };

/* By the step whose reply lets the next be said; the message itself comes after DATA's. */
static const char *const COMMANDS[] = {
    [HELLO] = "EHLO client.example\r\n", [SENDER] = "MAIL FROM:<sender@example.com>\r\n",
    [RECIPIENT] = "RCPT TO:<someone@example.org>\r\n", [DATA] = "DATA\r\n", [BYE] = "QUIT\r\n",
};

static char *message;
static size_t message_size;
static uint64_t *greetings;
static size_t greeting_count;

/* --argument bytes of header, lines of 76 and the dot; 10,240 without it. */
static void make_message(void) {
    static const char HEAD[] = "From: <sender@example.com>\r\nTo: <someone@example.org>\r\nSubject: a mail of the benchmark\r\n\r\n";
    static const char END[] = "\r\n.\r\n";
    size_t size = options.argument ? strtoul(options.argument, NULL, 10) : 10240;
    if (size < sizeof HEAD + sizeof END) size = sizeof HEAD + sizeof END;
    message = malloc(size);
    greetings = calloc(options.connections, sizeof *greetings);
    if (!message || !greetings) exit(1);
    memcpy(message, HEAD, sizeof HEAD - 1);
    size_t at = sizeof HEAD - 1, body = size - (sizeof END - 1);
    for (size_t column = 0; at < body; at++, column = (column + 1) % 78)
        message[at] = column == 76 ? '\r' : column == 77 ? '\n' : (char)('a' + column % 26);
    /* A line's end that the dot's own would follow, or cut in two, is part of the text. */
    if (message[body - 1] == '\r') message[body - 1] = 'a';
    memcpy(message + body, END, sizeof END - 1);
    message_size = size;
}

static void mail_line(struct connection *c, int code, int more, const char *text, size_t length) {
    static const int WANTED[] = {[GREETING] = 220, [HELLO] = 250, [SENDER] = 250, [RECIPIENT] = 250, [DATA] = 354, [DOT] = 250, [BYE] = 221};
    (void)text, (void)length;
    if (more) return;
    if (c->step >= OVER || code != WANTED[c->step]) {
        fail(c, FAIL_UNEXPECTED);
        return;
    }
    if (!message) make_message();
    if (c->step == GREETING) greetings[greeting_count++] = now - c->started;
    if (c->step == DOT) verdict(c);
    c->step++;
    if (c->step == DOT)
        say(c, message, message_size);
    else if (c->step < OVER)
        say(c, COMMANDS[c->step], strlen(COMMANDS[c->step]));
}

static void mail_end(struct connection *c) {
    if (c->step == OVER)
        done(c);
    else
        fail(c, FAIL_EARLY_END);
}

static void mail_report(void) { print_quantiles("greeting_us", greetings, greeting_count); }

const struct mode mail_mode = {
    .name = "mail",
    .about = "sends a mail of --argument bytes; the verdict is the reply to its end",
    .line = mail_line,
    .ended = mail_end,
    .report = mail_report,
};

static void held_line(struct connection *c, int code, int more, const char *text, size_t length) {
    (void)text, (void)length;
    if (code == 220 && more)
        verdict(c);
    else
        fail(c, FAIL_UNEXPECTED);
}

const struct mode hold_mode = {
    .name = "hold",
    .about = "says nothing after the teaser until the server ends it, or load is killed; --timeout must allow for it",
    .line = held_line,
};
