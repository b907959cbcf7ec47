/* accept_loop: the limit. Accepts, answers 521, closes; no look-up, no log, no state. `accept_loop ADDRESS PORT` until it is killed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char REPLY[] = "521 5.7.1 Service unavailable; client blocked\r\n";

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: accept_loop ADDRESS PORT\n"), 2;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (inet_pton(AF_INET, argv[1], &here.sin_addr) != 1 || bind(listener, (struct sockaddr *)&here, sizeof here) < 0 ||
        listen(listener, SOMAXCONN) < 0)
        return perror("accept_loop"), 1;
    for (;;) {
        /* The address is asked for, as whoever screens must. */
        struct sockaddr_in peer;
        socklen_t size = sizeof peer;
        int client = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            return perror("accept4"), 1;
        }
        if (send(client, REPLY, sizeof REPLY - 1, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET) perror("send");
        close(client);
    }
}
