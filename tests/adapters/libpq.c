/* Scenarios for echoloop/adapters/libpq.h: `libpq SCENARIO CONNINFO`. */
#include <echoloop/adapters/libpq.h>

#include "check.h"

/* What has been told, in order, as letters: Connected, Tuples, cOmmand, Fail, End, Notify, Lost. */
static char told[4096];
static size_t told_len;
static echoloop_libpq_hooks hooks;

static void tell(char what)
{
    CHECK(told_len < sizeof told - 1);
    told[told_len++] = what;
}

static void expect(const char *all)
{
    if (strcmp(told, all) != 0)
        fprintf(stderr, "told %s\n", told);
    CHECK(strcmp(told, all) == 0);
}

static void ask(echoloop_libpq *pg, const char *query)
{
    CHECK(PQsendQuery(pg->conn, query) == 1);
    CHECK(echoloop_libpq_flush(pg) == 0);
}

static void on_connected(void *user, echoloop_libpq *pg)
{
    tell('C');
    if (user != NULL)
        ask(pg, user);
}

static void note_result(PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK: tell('T'); break;
    case PGRES_COMMAND_OK: tell('O'); break;
    default: tell(result == NULL ? 'E' : 'F');
    }
}

/* Ends at the end of the first query. */
static void on_result(void *user, echoloop_libpq *pg, PGresult *result)
{
    (void)user;
    note_result(result);
    if (result == NULL) {
        echoloop_libpq_close(pg);
        stop();
    }
}

static void on_lost(void *user, echoloop_libpq *pg)
{
    (void)user;
    CHECK(strlen(PQerrorMessage(pg->conn)) > 0);
    tell('L');
    echoloop_libpq_close(pg);
    stop();
}

static echoloop_libpq *begin(const char *conninfo, const char *query)
{
    echoloop_libpq *pg;
    if (hooks.on_connected == NULL)
        hooks.on_connected = on_connected;
    if (hooks.on_result == NULL)
        hooks.on_result = on_result;
    if (hooks.on_lost == NULL)
        hooks.on_lost = on_lost;
    pg = echoloop_libpq_connect(loop, conninfo, &hooks, (void *)(uintptr_t)query);
    CHECK(pg != NULL);
    CHECK(told_len == 0 || told[told_len - 1] != 'L');
    return pg;
}

/* Several results of one query, the last of them an error. */
static void results(char **arguments)
{
    begin(arguments[0], "select 1; create temp table t (n int); select 2; select 1/0; select 3");
    run();
    expect("CTOTFE");
}

#define MANY 500

static void on_next(void *user, echoloop_libpq *pg, PGresult *result)
{
    static int sent;
    char query[64];
    (void)user;
    if (result != NULL) {
        CHECK(PQresultStatus(result) == PGRES_TUPLES_OK);
        CHECK(atoi(PQgetvalue(result, 0, 0)) == sent);
        return;
    }
    if (sent == MANY) {
        echoloop_libpq_close(pg);
        stop();
        return;
    }
    snprintf(query, sizeof query, "select %d", ++sent);
    ask(pg, query);
}

/* One query after the other, each sent where the end of the one before is told. */
static void sequence(char **arguments)
{
    hooks.on_result = on_next;
    begin(arguments[0], "select 0");
    run();
}

static const int large_len = 30000000;

static void send_large(void *user, echoloop_libpq *pg)
{
    char *text = malloc((size_t)large_len + 1);
    const char *value = text;
    (void)user;
    CHECK(text != NULL);
    memset(text, 'x', (size_t)large_len);
    text[large_len] = '\0';
    CHECK(PQsendQueryParams(pg->conn, "select $1::text", 1, NULL, &value, NULL, NULL, 0) == 1);
    CHECK(echoloop_libpq_flush(pg) == 0);
    free(text);
}

static void on_large(void *user, echoloop_libpq *pg, PGresult *result)
{
    if (result != NULL)
        CHECK(PQgetlength(result, 0, 0) == large_len);
    on_result(user, pg, result);
}

/* More than a socket takes at once, both ways. */
static void large(char **arguments)
{
    hooks.on_connected = send_large;
    hooks.on_result = on_large;
    begin(arguments[0], NULL);
    run();
    expect("TE");
}

#define ROWS 20000

static int rows_put, rows_got;

static void on_copy(void *user, echoloop_libpq *pg, PGresult *result)
{
    char line[128], *row;
    int len, put = 1;
    (void)user;
    switch (PQresultStatus(result)) {
    case PGRES_COPY_IN:
        while (rows_put < ROWS && put == 1) {
            len = snprintf(line, sizeof line, "%d\t%0100d\n", rows_put, 7);
            put = PQputCopyData(pg->conn, line, len);
            CHECK(put >= 0);
            rows_put += put;
        }
        if (rows_put == ROWS && put == 1)
            CHECK(PQputCopyEnd(pg->conn, NULL) == 1);
        CHECK(echoloop_libpq_flush(pg) == 0);
        break;
    case PGRES_COPY_OUT:
        while ((len = PQgetCopyData(pg->conn, &row, 1)) > 0) {
            CHECK(atoi(row) == rows_got++);
            PQfreemem(row);
        }
        CHECK(len == 0 || len == -1);
        break;
    default:
        note_result(result);
        if (result == NULL) {
            echoloop_libpq_close(pg);
            stop();
        }
    }
}

/* COPY into a table and out of it. */
static void copies(char **arguments)
{
    hooks.on_result = on_copy;
    begin(arguments[0], "create temp table t (n int, x text); copy t from stdin; "
                        "copy t to stdout; select count(*) from t");
    run();
    CHECK(rows_put == ROWS && rows_got == ROWS);
    expect("COOOTE");
}

#define NOTES 200

static echoloop_libpq *speaker;
static int heard;

static void on_listening(void *user, echoloop_libpq *pg, PGresult *result)
{
    (void)user;
    if (pg == speaker || result != NULL) {
        CHECK(result == NULL || PQresultStatus(result) == PGRES_COMMAND_OK);
        return;
    }
    speaker = echoloop_libpq_connect(loop, getenv("CONNINFO"), &hooks,
                                     "do $$ begin for i in 1..200 loop "
                                     "perform pg_notify('news', i::text); end loop; end $$");
    CHECK(speaker != NULL);
}

static void on_notify(void *user, echoloop_libpq *pg, PGnotify *notify)
{
    (void)user;
    CHECK(strcmp(notify->relname, "news") == 0);
    CHECK(atoi(notify->extra) == ++heard);
    if (heard == NOTES) {
        echoloop_libpq_close(pg); /* notify is still good, and freed later. */
        CHECK(atoi(notify->extra) == NOTES);
        echoloop_libpq_close(speaker);
        stop();
    }
}

/* One connection listens and says nothing; another one notifies. */
static void notifications(char **arguments)
{
    setenv("CONNINFO", arguments[0], 1);
    hooks.on_result = on_listening;
    hooks.on_notify = on_notify;
    begin(arguments[0], "listen news");
    run();
    CHECK(heard == NOTES);
}

static void try_again(void *user, echoloop_timer *timer)
{
    (void)timer;
    CHECK(echoloop_libpq_reset(user) == 0);
}

static int losses;

static void on_lost_for_now(void *user, echoloop_libpq *pg)
{
    (void)user;
    if (losses++ == 0) {
        tell('L');
        say("lost");
    }
    later(ECHOLOOP_MS(20), try_again, pg);
}

static void on_connected_again(void *user, echoloop_libpq *pg)
{
    tell('C');
    ask(pg, losses == 0 ? (const char *)user : "select 1");
    if (losses == 0)
        say("in flight");
}

static void on_result_again(void *user, echoloop_libpq *pg, PGresult *result)
{
    if (losses > 0)
        on_result(user, pg, result);
    else
        note_result(result);
}

/* The server goes away under a query, and comes back. */
static void server_goes_away(char **arguments)
{
    hooks.on_connected = on_connected_again;
    hooks.on_result = on_result_again;
    hooks.on_lost = on_lost_for_now;
    begin(arguments[0], "select pg_sleep(600)");
    run();
    printf("lost %d times\n", losses);
    expect("CFELCTE");
}

/* Nothing is under way when the server ends the connection: that is told, and nothing else. */
static void terminated(char **arguments)
{
    PGconn *other = PQconnectdb(arguments[0]);
    echoloop_libpq *pg = begin(arguments[0], NULL);
    char query[64];
    CHECK(PQstatus(other) == CONNECTION_OK);
    while (told_len == 0)
        turn(ECHOLOOP_SECONDS(10));
    snprintf(query, sizeof query, "select pg_terminate_backend(%d)", PQbackendPID(pg->conn));
    PQclear(PQexec(other, query));
    PQfinish(other);
    run();
    expect("CL");
}

/* Nobody is there: known at once, and told by the loop. Once more by a reset. */
static void on_refused(void *user, echoloop_libpq *pg)
{
    (void)user;
    tell('L');
    if (told_len < 3) {
        CHECK(echoloop_libpq_reset(pg) == 0);
        return;
    }
    echoloop_libpq_close(pg);
    stop();
}

static void refused(char **arguments)
{
    hooks.on_lost = on_refused;
    begin(arguments[0], NULL);
    run();
    expect("LLL");
    memset(told, 0, sizeof told);
    told_len = 0;
    begin("no such option = 1", NULL);
    run();
    expect("LLL");
}

static void close_when_connected(void *user, echoloop_libpq *pg)
{
    (void)user;
    tell('C');
    ask(pg, "select 1");
    echoloop_libpq_close(pg);
    stop();
}

static void close_at_first_result(void *user, echoloop_libpq *pg, PGresult *result)
{
    (void)user;
    note_result(result);
    echoloop_libpq_close(pg);
    stop();
}

static void close_now(void *user, echoloop_timer *timer)
{
    (void)timer;
    echoloop_libpq_close(user);
    stop();
}

static void close_soon(void *user, echoloop_libpq *pg)
{
    on_connected(user, pg);
    later(ECHOLOOP_MS(1), close_now, pg);
}

/* Closed in each callback, by a timer under a query, and while it connects. */
static void closed(char **arguments)
{
    echoloop_libpq_close(NULL);
    echoloop_libpq_close(begin(arguments[0], NULL));
    hooks.on_connected = close_when_connected;
    begin(arguments[0], NULL);
    run();
    hooks.on_connected = on_connected;
    hooks.on_result = close_at_first_result;
    begin(arguments[0], "select 1; select 2");
    run();
    hooks.on_connected = close_soon;
    begin(arguments[0], "select pg_sleep(600)");
    run();
    expect("CCTC");
}

/* Reset under a query, in a callback: what it would have answered is not told. */
static void on_first(void *user, echoloop_libpq *pg, PGresult *result)
{
    if (told_len == 1) {
        note_result(result);
        CHECK(echoloop_libpq_reset(pg) == 0);
        CHECK(echoloop_libpq_flush(pg) == -ENOTCONN);
    } else {
        on_result(user, pg, result);
    }
}

static void reset(char **arguments)
{
    hooks.on_result = on_first;
    begin(arguments[0], "select 1; select 2");
    run();
    expect("CTCTTE");
}

/* Two queries at once, each with its own end. */
static void send_pipeline(void *user, echoloop_libpq *pg)
{
    (void)user;
    CHECK(PQenterPipelineMode(pg->conn) == 1);
    CHECK(PQsendQueryParams(pg->conn, "select 1", 0, NULL, NULL, NULL, NULL, 0) == 1);
    CHECK(PQsendQueryParams(pg->conn, "select 2", 0, NULL, NULL, NULL, NULL, 0) == 1);
    CHECK(PQpipelineSync(pg->conn) == 1);
    CHECK(echoloop_libpq_flush(pg) == 0);
}

static void on_pipelined(void *user, echoloop_libpq *pg, PGresult *result)
{
    (void)user;
    if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
        note_result(result);
        return;
    }
    echoloop_libpq_close(pg);
    stop();
}

static void pipelined(char **arguments)
{
    hooks.on_connected = send_pipeline;
    hooks.on_result = on_pipelined;
    begin(arguments[0], NULL);
    run();
    expect("TETE");
}

int main(int argc, char **argv)
{
    static const struct scenario scenarios[] = {
        { "results", results },
        { "sequence", sequence },
        { "large", large },
        { "copies", copies },
        { "notifications", notifications },
        { "server-goes-away", server_goes_away },
        { "terminated", terminated },
        { "refused", refused },
        { "closed", closed },
        { "reset", reset },
        { "pipelined", pipelined },
    };
    return play(scenarios, COUNT(scenarios), argc, argv);
}
