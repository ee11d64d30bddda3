/* The loop of the epoll yardsticks: edge-triggered, every socket registered once for everything. */
#ifndef BENCH_EPOLL_H
#define BENCH_EPOLL_H

#include "server.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

/* What a socket did not take at once; nothing more is received on that connection meanwhile. */
struct unsent {
    char *data;
    size_t length;
};

/* Sends and keeps the rest. False when the connection has ended. `data` may be what was kept before. */
static bool send_or_keep(struct unsent *unsent, int fd, const char *data, size_t length)
{
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return false;
    size_t done = sent < 0 ? 0 : (size_t)sent, left = length - done;
    char *kept = NULL;
    if (left && !(kept = malloc(left)))
        die("cannot keep what is unsent", ENOMEM);
    if (left)
        memcpy(kept, data + done, left);
    free(unsent->data);
    *unsent = (struct unsent){kept, left};
    return true;
}

/* Whether a receive that did not fill its buffer has emptied the socket: unless the end of the stream is there too. */
static bool emptied(uint32_t events)
{
    return !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}

static void accept_all(int epoll_fd, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
            return;
        if (fd < 0)
            die("accept4", errno);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            die("epoll_ctl", errno);
    }
}

static _Noreturn void serve_forever(int argc, char **argv, void (*serve)(int fd, uint32_t events))
{
    int port = argc == 3 && !strcmp(argv[1], "-p") ? atoi(argv[2]) : 0;
    int listener = bench_listen(port, SOCK_NONBLOCK), epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[512] = {{.events = EPOLLIN, .data.fd = listener}};
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, events) < 0)
        die("epoll", errno);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, 512, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait", errno);
        for (int i = 0; i < count; i++)
            if (events[i].data.fd == listener)
                accept_all(epoll_fd, listener);
            else
                serve(events[i].data.fd, events[i].events);
    }
}

#endif
