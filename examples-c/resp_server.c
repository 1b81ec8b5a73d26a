/*
 * A protocol in messages: a server that speaks RESP, as Redis does, with PING, SET and GET.
 *
 *     make && build/resp_server 127.0.0.1:7379
 *     redis-benchmark -p 7379 -t ping,set,get -P 16 -c 50 -n 200000
 *
 * on_data uses whole commands only: what it leaves is offered again with what comes next, and a command
 * whose answer has no room in the queue when the peer has read.
 */
#include <echoloop.h>

#include "resp.h"
#include <signal.h>
#include <stdio.h>
#include <strings.h>

/* One send for each answer, so it is taken whole or not at all. */
static int answer(echoloop_conn *conn, const struct text *words, long n)
{
    const char *line = "-ERR unknown command\r\n";
    if (strncasecmp(words->at, "$4\r\nPING\r\n", 10) == 0 || strncasecmp(words->at, "PING\r\n", 6) == 0) {
        line = "+PONG\r\n";
    } else if (n == 3 && strncasecmp(words->at, "$3\r\nSET\r\n", 9) == 0) {
        line = resp_set(words[1], words[2]);
    } else if (n == 2 && strncasecmp(words->at, "$3\r\nGET\r\n", 9) == 0) {
        const struct text *value = resp_get(words[1]);
        if (value != NULL)
            return echoloop_conn_send(conn, value->at, value->len);
        line = "$-1\r\n";
    }
    return echoloop_conn_send(conn, line, strlen(line));
}

static size_t on_data(void *loop, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    struct text in = {(const char *)data, len}, words[RESP_WORDS];
    size_t used = 0;
    long n;
    (void)loop;
    while ((n = resp_command(&in, words)) > 0 && answer(conn, words, n) != ECHOLOOP_EQUEUEFULL)
        used = len - in.len;
    if (n == RESP_WRONG) {
        echoloop_conn_send(conn, "-ERR Protocol error\r\n", 21);
        echoloop_conn_close(conn);
    }
    return used;
}

static void on_signal(void *loop, echoloop_signal *signal, int number)
{
    (void)signal, (void)number;
    echoloop_stop(loop);
}

int main(int argc, char **argv)
{
    echoloop *loop = echoloop_new(NULL);
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_listener *listener;
    echoloop_signal *signal;
    char where[ECHOLOOP_ADDR_MAX];
    int ran = -1;
    hooks.on_data = on_data;
    hooks.on_signal = on_signal;
    if (echoloop_listen(loop, argc > 1 ? argv[1] : "127.0.0.1:7379", NULL, &listener) == 0
        && echoloop_listener_addr(listener, where, sizeof where) > 0
        && echoloop_signal_watch(loop, SIGINT, &signal) == 0
        && echoloop_signal_watch(loop, SIGTERM, &signal) == 0
        && printf("listening on %s\n", where) > 0 && fflush(stdout) == 0)
        ran = echoloop_run(loop, &hooks, loop);
    if (ran < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    echoloop_free(loop);
    return ran < 0;
}
