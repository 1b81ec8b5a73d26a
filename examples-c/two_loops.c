/*
 * Two loops on two threads, which talk by posting: one asks, the other computes and answers.
 *
 *     make && build/two_loops
 *
 * A post is one pointer, delivered once and in order. Whoever takes it off owns what it points to, so
 * nothing is shared, and no lock is needed.
 */
#include <echoloop.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { JOBS = 10 };

struct job {
    unsigned n;
    unsigned long long sum;
};
struct side {
    echoloop *loop;
    echoloop_remote *other; /* The other side's loop, for posts. */
    unsigned answers;
};

/* In the worker's loop: computes, and posts the job back. */
static void on_job(void *user, void *word)
{
    struct side *worker = user;
    struct job *job = word;
    unsigned i;
    for (i = 1; i <= job->n; i++)
        job->sum += i;
    if (echoloop_remote_post(worker->other, job) < 0)
        free(job); /* The other loop is gone. */
}

/* A loop belongs to the thread that makes it. Its remote is what others may have: the first post. */
static void *work(void *others)
{
    struct side worker = {NULL, NULL, 0};
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_remote *mine;
    hooks.on_post = on_job;
    worker.other = others;
    worker.loop = echoloop_new(NULL);
    if (echoloop_remote_new(worker.loop, &mine) < 0 || echoloop_remote_post(worker.other, mine) < 0
        || echoloop_run(worker.loop, &hooks, &worker) < 0)
    {
        fprintf(stderr, "worker: %s\n", echoloop_last_error());
        echoloop_remote_stop(others);
    }
    echoloop_free(worker.loop);
    return NULL;
}

/* In the main loop: asks when the worker is there, prints the answers, and stops after the last one. */
static void on_post(void *user, void *word)
{
    struct side *here = user;
    struct job *job = word;
    unsigned i;
    if (here->other == NULL) {
        here->other = word;
        for (i = 1; i <= JOBS; i++) {
            job = calloc(1, sizeof *job);
            if (job != NULL && (job->n = i * 100000, echoloop_remote_post(here->other, job) < 0))
                free(job);
        }
        return;
    }
    printf("1 + ... + %u = %llu\n", job->n, job->sum);
    free(job);
    if (++here->answers == JOBS)
        echoloop_stop(here->loop);
}

int main(void)
{
    struct side here = {NULL, NULL, 0};
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_remote *mine = NULL;
    pthread_t thread;
    int ran = -1;
    hooks.on_post = on_post;
    here.loop = echoloop_new(NULL);
    if (echoloop_remote_new(here.loop, &mine) == 0
        && pthread_create(&thread, NULL, work, mine) == 0) {
        ran = echoloop_run(here.loop, &hooks, &here);
        echoloop_remote_stop(here.other);
        pthread_join(thread, NULL);
    }
    if (ran < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    echoloop_remote_free(here.other);
    echoloop_remote_free(mine);
    echoloop_free(here.loop);
    return ran < 0;
}
