/* What the yardsticks share beside their work: a listener, a table of connections, an end. */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static _Noreturn void die(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    exit(1);
}

/* Listens on 127.0.0.1 and says where. What is set on a listener, accepted sockets inherit. */
static inline int bench_listen(int port, int socket_flags)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | socket_flags, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 ||
        listen(fd, 4096) < 0 || getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        die("cannot listen", errno);
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* A zeroed table with a place for every descriptor that the process may have. */
static inline void *table_by_fd(size_t size)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max = limit.rlim_max < 1 << 20 ? limit.rlim_max : 1 << 20;
    setrlimit(RLIMIT_NOFILE, &limit);
    void *table = calloc(limit.rlim_cur, size);
    if (!table)
        die("cannot allocate the connections", ENOMEM);
    return table;
}

#endif
