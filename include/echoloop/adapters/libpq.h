/*
 * PostgreSQL connections of libpq on an echoloop; libpq 9.1 and later.
 *
 *     echoloop_libpq_hooks hooks = { on_connected, on_result, on_notify, on_lost };
 *     echoloop_libpq *pg = echoloop_libpq_connect(loop, "host=/run/postgresql", &hooks, user);
 *
 *     PQsendQuery(pg->conn, "select 1");     In on_connected, or any time after it;
 *     echoloop_libpq_flush(pg);              this follows whatever sends.
 *     echoloop_libpq_close(pg);              Any time, in its callbacks too.
 *
 * Everything is called on the loop's thread. pg->conn is for all functions of libpq that neither
 * wait nor finish it: PQsend..., PQputCopyData, PQerrorMessage. PQgetResult and PQnotifies are
 * called here. A connect has no timeout (libpq leaves it to its user): let a timer close or reset
 * it. libpq looks up a host's name by itself, and waits for it: prefer hostaddr or a socket.
 */
#ifndef ECHOLOOP_ADAPTERS_LIBPQ_H
#define ECHOLOOP_ADAPTERS_LIBPQ_H

#include <echoloop.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct echoloop_libpq echoloop_libpq;

/** What is told of a connection; each may be NULL. */
typedef struct echoloop_libpq_hooks {
    /* The connection is made, or made again. */
    void (*on_connected)(void *user, echoloop_libpq *pg);
    /*
     * One result of a query, freed afterwards. NULL: the query has ended, and the next may be sent.
     * PGRES_COPY_IN and _OUT are told again whenever more can be put, or has come to be got.
     */
    void (*on_result)(void *user, echoloop_libpq *pg, PGresult *result);
    /* NOTIFY by somebody; freed afterwards. */
    void (*on_notify)(void *user, echoloop_libpq *pg, PGnotify *notify);
    /*
     * The connection could not be made, or is lost: PQerrorMessage(pg->conn). What a query had not
     * answered ended as a failed result before. echoloop_libpq_reset() tries again.
     */
    void (*on_lost)(void *user, echoloop_libpq *pg);
} echoloop_libpq_hooks;

struct echoloop_libpq {
    PGconn *conn;
    echoloop *loop;
    echoloop_watch *watch; /* A handle that may be stale: libpq changes sockets, and closes them. */
    echoloop_timer *timer; /* To tell of a start that failed at once. */
    int interest;          /* 0: not watching. */
    int resetting, connected, closed;
    int busy; /* Calls of ours further up the stack. */
    echoloop_libpq_hooks hooks;
    void *user;
};

static inline void echoloop_libpq_on_ready(void *user, echoloop_watch *watch, int readiness);

static inline void echoloop_libpq_unwatch(echoloop_libpq *pg)
{
    echoloop_watch_close(pg->watch);
    pg->interest = 0;
}

/* Watches the socket that libpq has now. Returns 0 or a status. */
static inline int echoloop_libpq_ask(echoloop_libpq *pg, int interest)
{
    int status;
    if (interest == pg->interest)
        return 0;
    if (pg->interest != 0 && echoloop_watch_modify(pg->watch, interest) >= 0) {
        pg->interest = interest;
        return 0;
    }
    echoloop_libpq_unwatch(pg);
    status = echoloop_watch_new(pg->loop, PQsocket(pg->conn), interest, NULL, pg, &pg->watch);
    if (status < 0)
        return status;
    pg->interest = interest;
    return echoloop_watch_set_callback(pg->watch, echoloop_libpq_on_ready);
}

/** Sends what libpq has gathered, now and when the server takes it. Returns 0 or a status. */
static inline int echoloop_libpq_flush(echoloop_libpq *pg)
{
    if (!pg->connected)
        return -ENOTCONN;
    /* What fails here is told by the next read, after what the server said before. */
    if (PQflush(pg->conn) == 1)
        return echoloop_libpq_ask(pg, ECHOLOOP_READABLE | ECHOLOOP_WRITABLE);
    return echoloop_libpq_ask(pg, ECHOLOOP_READABLE);
}

static inline void echoloop_libpq_lost(echoloop_libpq *pg)
{
    pg->connected = 0;
    echoloop_libpq_unwatch(pg);
    if (pg->hooks.on_lost != NULL)
        pg->hooks.on_lost(pg->user, pg);
}

/* Hands out all results that are there; PQgetResult() is called only where it does not wait. */
static inline void echoloop_libpq_results(echoloop_libpq *pg)
{
    int copied = 0, told = 0;
    while (pg->connected) { /* Callbacks may close it, or reset it. */
        int dead = PQstatus(pg->conn) == CONNECTION_BAD, copies;
        PGresult *result;
        if (!dead && (PQtransactionStatus(pg->conn) != PQTRANS_ACTIVE || PQisBusy(pg->conn)))
            return;
        result = PQgetResult(pg->conn);
        copies = PQresultStatus(result) == PGRES_COPY_IN
                 || PQresultStatus(result) == PGRES_COPY_OUT;
        if ((copies && copied) || (dead && result == NULL && !told)) {
            PQclear(result); /* Copying still, or no query was under way. */
            return;
        }
        if (pg->hooks.on_result != NULL)
            pg->hooks.on_result(pg->user, pg, result);
        PQclear(result);
        if (dead && result == NULL)
            return;
        copied = copies;
        told = 1;
    }
}

static inline void echoloop_libpq_receive(echoloop_libpq *pg)
{
    int alive = PQconsumeInput(pg->conn);
    PGnotify *notify;
    echoloop_libpq_results(pg);
    while (pg->connected && (notify = PQnotifies(pg->conn)) != NULL) {
        if (pg->hooks.on_notify != NULL)
            pg->hooks.on_notify(pg->user, pg, notify);
        PQfreemem(notify);
    }
    if (pg->connected
        && (!alive || PQstatus(pg->conn) == CONNECTION_BAD || echoloop_libpq_flush(pg) < 0))
        echoloop_libpq_lost(pg);
}

static inline void echoloop_libpq_go_on_connecting(echoloop_libpq *pg)
{
    PostgresPollingStatusType next;
    echoloop_libpq_unwatch(pg); /* It may close its socket, and open another of that number. */
    next = pg->resetting ? PQresetPoll(pg->conn) : PQconnectPoll(pg->conn);
    if (next == PGRES_POLLING_OK && PQsetnonblocking(pg->conn, 1) == 0) {
        pg->connected = 1;
        if (pg->hooks.on_connected != NULL)
            pg->hooks.on_connected(pg->user, pg);
        if (pg->connected)
            echoloop_libpq_receive(pg);
        return;
    }
    if (next == PGRES_POLLING_READING && echoloop_libpq_ask(pg, ECHOLOOP_READABLE) >= 0)
        return;
    if (next == PGRES_POLLING_WRITING && echoloop_libpq_ask(pg, ECHOLOOP_WRITABLE) >= 0)
        return;
    echoloop_libpq_lost(pg);
}

static inline void echoloop_libpq_on_ready(void *user, echoloop_watch *watch, int readiness)
{
    echoloop_libpq *pg = (echoloop_libpq *)user;
    (void)watch;
    (void)readiness;
    pg->busy++;
    if (pg->connected)
        echoloop_libpq_receive(pg);
    else
        echoloop_libpq_go_on_connecting(pg);
    if (--pg->busy == 0 && pg->closed) {
        PQfinish(pg->conn);
        free(pg);
    }
}

static inline void echoloop_libpq_on_timer(void *user, echoloop_timer *timer)
{
    (void)timer;
    echoloop_libpq_on_ready(user, NULL, 0);
}

/* The answer always comes from the loop: what failed at once fails again when it goes on. */
static inline int echoloop_libpq_start(echoloop_libpq *pg)
{
    int status;
    if (PQstatus(pg->conn) != CONNECTION_BAD)
        return echoloop_libpq_ask(pg, ECHOLOOP_WRITABLE);
    status = echoloop_timer_new(pg->loop, 0, 0, pg, &pg->timer);
    return status < 0 ? status : echoloop_timer_set_callback(pg->timer, echoloop_libpq_on_timer);
}

/** Ends a connection: nothing more is told of it. NULL is fine. */
static inline void echoloop_libpq_close(echoloop_libpq *pg)
{
    if (pg == NULL || pg->closed)
        return;
    echoloop_libpq_unwatch(pg);
    echoloop_timer_cancel(pg->timer);
    pg->connected = 0;
    pg->closed = 1;
    if (pg->busy > 0)
        return; /* In a callback: later. */
    PQfinish(pg->conn);
    free(pg);
}

/** Connects anew, whatever it does now. After 0, on_connected or on_lost follows. */
static inline int echoloop_libpq_reset(echoloop_libpq *pg)
{
    echoloop_libpq_unwatch(pg);
    echoloop_timer_cancel(pg->timer);
    pg->connected = 0;
    pg->resetting = 1;
    PQresetStart(pg->conn);
    return echoloop_libpq_start(pg);
}

/**
 * Begins to connect, as PQconnectStart() does; on_connected or on_lost follows, from the loop.
 * hooks is copied. NULL: out of memory, or see echoloop_last_status().
 */
static inline echoloop_libpq *echoloop_libpq_connect(echoloop *loop, const char *conninfo,
                                                     const echoloop_libpq_hooks *hooks, void *user)
{
    echoloop_libpq *pg = (echoloop_libpq *)calloc(1, sizeof *pg);
    if (pg == NULL)
        return NULL;
    pg->loop = loop;
    pg->hooks = *hooks;
    pg->user = user;
    pg->conn = PQconnectStart(conninfo);
    if (pg->conn != NULL && echoloop_libpq_start(pg) >= 0)
        return pg;
    echoloop_libpq_close(pg);
    return NULL;
}

#ifdef __cplusplus
}
#endif

#endif
