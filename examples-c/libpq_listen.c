/*
 * Listens for PostgreSQL's notifications by libpq, on an echoloop, and connects again when the
 * server went away.
 *
 *     make && build/libpq_listen "host=/run/postgresql dbname=postgres" news
 *     psql -c "notify news, 'hello'"
 *
 * libpq_listen [CONNINFO [CHANNEL [COUNT]]]. Ends after COUNT notifications; 0: never.
 */
#include <echoloop.h>
#include <echoloop/adapters/libpq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct listener {
    echoloop *loop;
    const char *channel;
    long left;
};

static void on_connected(void *user, echoloop_libpq *pg)
{
    struct listener *listener = user;
    char query[256];
    char *channel = PQescapeIdentifier(pg->conn, listener->channel, strlen(listener->channel));

    if (channel == NULL)
        return;
    snprintf(query, sizeof query, "listen %s", channel);
    PQfreemem(channel);
    PQsendQuery(pg->conn, query);
    echoloop_libpq_flush(pg);
}

/* NULL is the end of the query. */
static void on_result(void *user, echoloop_libpq *pg, PGresult *result)
{
    struct listener *listener = user;

    if (result == NULL)
        printf("listening on %s\n", listener->channel);
    else if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fprintf(stderr, "%s", PQerrorMessage(pg->conn));
    fflush(stdout);
}

static void on_notify(void *user, echoloop_libpq *pg, PGnotify *notify)
{
    struct listener *listener = user;

    printf("%s from %d: %s\n", notify->relname, notify->be_pid, notify->extra);
    fflush(stdout);
    if (--listener->left == 0) {
        echoloop_libpq_close(pg);
        echoloop_stop(listener->loop);
    }
}

static void on_timer(void *user, echoloop_timer *timer)
{
    (void)timer;
    if (echoloop_libpq_reset(user) < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
}

/* Could not be made, or is lost. A second later it tries again. */
static void on_lost(void *user, echoloop_libpq *pg)
{
    struct listener *listener = user;
    echoloop_timer *timer;

    fprintf(stderr, "%s", PQerrorMessage(pg->conn));
    if (echoloop_timer_new(listener->loop, ECHOLOOP_SECONDS(1), 0, pg, &timer) < 0
        || echoloop_timer_set_callback(timer, on_timer) < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
}

int main(int argc, char **argv)
{
    const echoloop_libpq_hooks told = { on_connected, on_result, on_notify, on_lost };
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    struct listener listener;
    int status = EXIT_FAILURE;

    listener.loop = echoloop_new(NULL);
    listener.channel = argc > 2 ? argv[2] : "news";
    listener.left = argc > 3 ? atol(argv[3]) : 0;
    if (listener.loop != NULL
        && echoloop_libpq_connect(listener.loop, argc > 1 ? argv[1] : "", &told, &listener) != NULL
        && echoloop_run(listener.loop, &hooks, NULL) >= 0)
        status = EXIT_SUCCESS;
    else
        fprintf(stderr, "%s\n", echoloop_last_error());
    echoloop_free(listener.loop);
    return status;
}
