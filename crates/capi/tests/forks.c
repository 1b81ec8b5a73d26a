/*
 * Forks while other threads post, and make and free what belongs to no loop: the child finds no lock
 * closed. Run by tests/forks.rs.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "echoloop.h"

#define FORKS 300
#define THREADS 3

static echoloop *loop;
static echoloop_remote *remote;
static echoloop_selector *selector;

/* The end of the threads comes by this pipe: a read from it never blocks. */
static int going_on(int fd)
{
    fd_set set;
    struct timeval now = { 0, 0 };
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, &set, NULL, NULL, &now) == 0;
}

static void *hammer(void *user)
{
    const int end = *(const int *)user;
    while (going_on(end)) {
        int i;
        for (i = 0; i < 100; i++) {
            echoloop_selector *other;
            echoloop_workers *workers;
            echoloop *own = i == 0 ? echoloop_new(NULL) : NULL;
            echoloop_remote_wake(remote);
            echoloop_selector_wake(selector);
            if (echoloop_selector_new(&other) == 0)
                echoloop_selector_free(other);
            if (echoloop_workers_new(NULL, &workers) == 0)
                echoloop_workers_free(workers);
            if (own)
                echoloop_free(own);
        }
    }
    return NULL;
}

/* The exit status says which call went wrong; SIGALRM that one did not return. */
static int child(int i)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop *own;
    echoloop_remote *made;
    echoloop_selector *other;
    alarm(20);
    if (echoloop_remote_wake(remote) != ECHOLOOP_EFORKED)
        return 10;
    if (echoloop_selector_wake(selector) != ECHOLOOP_EFORKED || echoloop_selector_free(selector))
        return 11;
    if (i % 2 && (echoloop_after_fork(loop) || echoloop_remote_wake(remote)
                  || echoloop_run_once(loop, &hooks, NULL, 0) < 0))
        return 12;
    own = echoloop_new(NULL);
    if (!own || echoloop_remote_new(own, &made) || echoloop_selector_new(&other))
        return 13;
    if (echoloop_remote_wake(made) || echoloop_run_once(own, &hooks, NULL, 1000000) < 0)
        return 14;
    if (echoloop_live_handles() < 5)
        return 15;
    if (echoloop_free(own) || echoloop_free(loop) || echoloop_remote_free(made)
        || echoloop_selector_free(other))
        return 16;
    return echoloop_remote_wake(remote) == ECHOLOOP_ECLOSED ? 0 : 17;
}

int main(void)
{
    pthread_t threads[THREADS];
    int end[2], i, failures = 0;
    loop = echoloop_new(NULL);
    if (!loop || echoloop_remote_new(loop, &remote) || echoloop_selector_new(&selector)
        || pipe(end) < 0)
        return 2;
    for (i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, hammer, &end[0]))
            return 3;
    for (i = 0; i < FORKS && failures < 3; i++) {
        int status = 0;
        const pid_t pid = fork();
        if (pid < 0)
            return 4;
        if (pid == 0)
            _exit(child(i));
        if (waitpid(pid, &status, 0) != pid || status != 0) {
            printf("fork %d: status %#x\n", i, (unsigned)status);
            failures++;
        }
    }
    close(end[1]);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    echoloop_selector_free(selector);
    echoloop_remote_free(remote);
    echoloop_free(loop);
    if (echoloop_live_handles() != 0)
        printf("%ld handles are left\n", (long)echoloop_live_handles());
    return failures || echoloop_live_handles() ? 1 : 0;
}
