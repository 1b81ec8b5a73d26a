/* floor.c: the fastest echo server we know how to write by hand, and the measure of all others.
 *
 * One thread, one edge-triggered epoll set, each descriptor registered once for both directions.
 * A message costs one recv and one send; the wait is shared by all that is ready. One read buffer
 * for everybody. A short read ends the reading of a connection for this turn. What the kernel does
 * not take is kept in a queue of that connection (allocated the first time it is needed), and the
 * connection is not read until the queue is empty. Nothing is allocated in the steady state.
 *
 * It keeps no limits, no timers and no statistics: that is the point of it.
 *
 * cc -O2 -o floor floor.c && ./floor [PORT]      prints "listening on 127.0.0.1:PORT", ends on SIGTERM
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_SIZE = 64 * 1024, MAX_EVENTS = 512, MAX_DESCRIPTORS = 1 << 20 };

struct queue {
    size_t start, end;
    char bytes[READ_SIZE];
};

static char buffer[READ_SIZE];
static struct queue *queues[MAX_DESCRIPTORS]; /* by descriptor; a page is touched only when written */
static int poller;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void end_connection(int fd) {
    if (queues[fd]) {
        free(queues[fd]);
        queues[fd] = NULL;
    }
    close(fd);
}

static void keep(int fd, const char *bytes, size_t n) {
    struct queue *q = queues[fd];
    if (!q) {
        q = queues[fd] = malloc(sizeof *q);
        if (!q) die("malloc");
    }
    memcpy(q->bytes, bytes, n);
    q->start = 0;
    q->end = n;
}

/* 1: nothing is queued any more, 0: the kernel takes no more now, -1: the connection has failed. */
static int flush(int fd) {
    struct queue *q = queues[fd];
    while (q && q->start < q->end) {
        ssize_t sent = send(fd, q->bytes + q->start, q->end - q->start, MSG_NOSIGNAL);
        if (sent >= 0)
            q->start += (size_t)sent;
        else if (errno == EAGAIN)
            return 0;
        else if (errno != EINTR)
            return -1;
    }
    return 1;
}

/* Echoes what has come until the kernel has no more (a short read) or takes no more (a queue). */
static void serve(int fd, uint32_t events) {
    int to_the_end = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR); /* then a short read is not the last */
    int empty = flush(fd);
    while (empty > 0) {
        ssize_t n = recv(fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            end_connection(fd);
            return;
        }
        ssize_t sent;
        do
            sent = send(fd, buffer, (size_t)n, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent < 0 && errno != EAGAIN) {
            end_connection(fd);
            return;
        }
        if (sent < n) {
            size_t done = sent < 0 ? 0 : (size_t)sent;
            keep(fd, buffer + done, (size_t)n - done);
            return; /* the kernel reports when there is room again */
        }
        if (n < READ_SIZE && !to_the_end) return;
    }
    if (empty < 0) end_connection(fd);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            return; /* level-triggered: what is still waiting is reported again */
        }
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (fd >= MAX_DESCRIPTORS || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) < 0) close(fd);
    }
}

static void watch(int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll_ctl");
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1;
    sigset_t ends;

    address.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* accepted sockets inherit it */
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(listener, 4096) < 0) die("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0) die("getsockname");

    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int signals = signalfd(-1, &ends, SFD_CLOEXEC);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (signals < 0 || poller < 0) die("signalfd or epoll_create1");
    watch(listener);
    watch(signals);

    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);

    static struct epoll_event ready[MAX_EVENTS];
    for (;;) {
        int n = epoll_wait(poller, ready, MAX_EVENTS, -1);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == signals) return 0;
            if (fd == listener)
                accept_all(listener);
            else
                serve(fd, ready[i].events);
        }
    }
}
