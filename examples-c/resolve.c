/*
 * Resolves names, all at once: the loop never waits for a name server.
 *
 *     make && build/resolve localhost ip6-localhost no.such.invalid
 *
 * echoloop_connect() resolves names by itself; this is for programs that want the addresses.
 */
#include <echoloop.h>

#include <stdio.h>

struct program {
    echoloop *loop;
    int waiting, failed;
};

static void on_resolved(void *user, echoloop_lookup *lookup, void *name, int status, size_t n)
{
    struct program *program = user;
    char text[ECHOLOOP_ADDR_MAX];
    echoloop_ip ip;
    size_t i;
    if (status < 0) {
        /* EAI_NONAME and its like, or -ETIMEDOUT. */
        fprintf(stderr, "%s: %s (%s)\n", (const char *)name, echoloop_strerror(status),
                echoloop_errname(status));
        program->failed++;
    }
    /* In the order in which they should be tried (RFC 6724). */
    for (i = 0; i < n; i++) {
        if (echoloop_lookup_addr(lookup, i, &ip) == 0 && echoloop_ip_text(&ip, text, sizeof text) > 0)
            printf("%s: %s\n", (const char *)name, text);
    }
    if (--program->waiting == 0)
        echoloop_stop(program->loop);
}

int main(int argc, char **argv)
{
    struct program program = {NULL, 0, 0};
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_lookup *lookup;
    int i;
    hooks.on_resolved = on_resolved;
    program.loop = echoloop_new(NULL);
    for (i = 1; i < argc; i++) {
        if (echoloop_resolve(program.loop, argv[i], ECHOLOOP_SECONDS(10), argv[i], &lookup) == 0) {
            program.waiting++;
        } else {
            fprintf(stderr, "%s: %s\n", argv[i], echoloop_last_error());
            program.failed++;
        }
    }
    if (program.waiting > 0 && echoloop_run(program.loop, &hooks, &program) < 0) {
        fprintf(stderr, "%s\n", echoloop_last_error());
        program.failed++;
    }
    echoloop_free(program.loop);
    return program.failed > 0;
}
