/*
 * progress.c - a bar with rate and time left on standard error, drawn at most ten times a second and only
 * where somebody can see it.
 */
#include "cli.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#define BAR 24

static volatile sig_atomic_t interrupted;

/* The second Ctrl-C ends the program as usual. */
static void on_interrupt(int number) {
    interrupted = 1;
    signal(number, SIG_DFL);
}

void cli_progress_begin(const cli_state *cli, cli_progress *progress, const char *what) {
    *progress = (cli_progress){.what = what, .began = sri_seconds()};
    progress->shown = !cli->quiet && isatty(STDERR_FILENO);
    interrupted = 0;
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    struct sigaction before;
    /* nohup and background jobs ignore it: so do we. */
    if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(SIGINT, &action, NULL);
}

static void draw(cli_progress *progress, uint64_t done, uint64_t total, double now) {
    char bar[BAR + 1], left[32] = "";
    double part = total == 0 ? 1 : (double)done / (double)total, spent = now - progress->began;
    double rate = spent > 0 ? (double)done / spent : 0;
    size_t filled = (size_t)(part * BAR);
    memset(bar, '.', BAR);
    memset(bar, '#', SRI_MIN(filled, (size_t)BAR));
    bar[BAR] = '\0';
    if (rate > 0) {
        unsigned long seconds = (unsigned long)((double)(total - done) / rate + 0.5);
        snprintf(left, sizeof left, "%lu:%02lu left", seconds / 60, seconds % 60);
    }
    if (progress->share)
        fprintf(stderr, "\r%s [%s] %3.0f %%  %s\033[K", progress->what, bar, part * 100, left);
    else
        fprintf(stderr, "\r%s [%s] %3.0f %%  %llu of %llu  %.0f/s  %s\033[K", progress->what, bar,
                part * 100, (unsigned long long)done, (unsigned long long)total, rate, left);
    progress->drawn = true;
    progress->drawn_at = now;
}

int cli_progress_step(void *user, uint64_t done, uint64_t total) {
    cli_progress *progress = user;
    double now = sri_seconds();
    /* Nothing for work that is over at once. */
    if (progress->shown && now - progress->began > 0.3 && now - progress->drawn_at >= 0.1)
        draw(progress, done, total, now);
    return interrupted;
}

void cli_progress_end(cli_progress *progress) {
    struct sigaction now;
    if (sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler == on_interrupt)
        signal(SIGINT, SIG_DFL);
    if (progress->drawn) fputs("\r\033[K", stderr);
    progress->drawn = progress->shown = false;
}
