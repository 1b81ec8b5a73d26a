/*
 * A UDP echo server (RFC 862): every datagram goes back to who sent it.
 *
 *     make && build/udp_echo 127.0.0.1:7007
 *     printf hello | nc -u -w1 127.0.0.1 7007
 *
 * Datagrams come in runs, and what is sent in one callback leaves in as few system calls as can be.
 */
#include <echoloop.h>

#include <signal.h>
#include <stdio.h>

struct server {
    echoloop *loop;
    unsigned long long datagrams, bytes, dropped;
};

static void on_datagrams(void *user, echoloop_udp *udp, const echoloop_datagram *datagrams, size_t n)
{
    struct server *server = user;
    size_t i;
    for (i = 0; i < n; i++) {
        const echoloop_datagram *d = &datagrams[i];
        /* Full: this one is dropped, as any network may do. It is never sent in part. */
        if (echoloop_udp_send_to(udp, &d->from, d->data, d->len) < 0)
            server->dropped++;
        server->bytes += d->len;
    }
    server->datagrams += n;
}

/* Of a peer that is not there, for example; the socket goes on. */
static void on_error(void *user, int status, const char *text)
{
    (void)user;
    fprintf(stderr, "%s (%s)\n", text, echoloop_errname(status));
}

static void on_signal(void *user, echoloop_signal *signal, int number)
{
    (void)signal, (void)number;
    echoloop_stop(((struct server *)user)->loop);
}

int main(int argc, char **argv)
{
    struct server server = {NULL, 0, 0, 0};
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_udp *udp;
    echoloop_signal *signal;
    char where[ECHOLOOP_ADDR_MAX];
    int ran = -1;
    hooks.on_datagrams = on_datagrams;
    hooks.on_error = on_error;
    hooks.on_signal = on_signal;
    server.loop = echoloop_new(NULL);
    if (echoloop_udp_bind(server.loop, argc > 1 ? argv[1] : "127.0.0.1:7007", NULL, &udp) == 0
        && echoloop_udp_local_addr(udp, where, sizeof where) > 0
        && echoloop_signal_watch(server.loop, SIGINT, &signal) == 0
        && echoloop_signal_watch(server.loop, SIGTERM, &signal) == 0
        && printf("listening on %s\n", where) > 0 && fflush(stdout) == 0)
        ran = echoloop_run(server.loop, &hooks, &server);
    if (ran < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    else
        fprintf(stderr, "%llu datagrams, %llu bytes, %llu dropped\n", server.datagrams, server.bytes,
                server.dropped);
    echoloop_free(server.loop);
    return ran < 0;
}
