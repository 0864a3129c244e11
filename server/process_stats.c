/*
 * process_stats.c - processor time, memory, descriptors and threads of this process.
 */
#include "process_stats.h"

#include <dirent.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__linux__)

static uint64_t count_entries(const char *path) {
    DIR *directory = opendir(path);
    uint64_t count = 0;
    if (directory == NULL) return 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static void read_memory(srv_process *process) {
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long size = 0, resident = 0;
    if (file == NULL) return;
    if (fscanf(file, "%llu %llu", &size, &resident) == 2) {
        process->virtual_bytes = size * (uint64_t)sysconf(_SC_PAGESIZE);
        process->resident_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    fclose(file);
}

static void read_system(srv_process *process) {
    uint64_t open = count_entries("/proc/self/fd");
    process->open_descriptors = open > 0 ? open - 1 : 0; /* not the directory itself */
    process->threads = count_entries("/proc/self/task");
    read_memory(process);
}

#else

static void read_system(srv_process *process) { (void)process; }

#endif

void srv_process_read(srv_process *process) {
    struct rusage usage;
    struct rlimit limit;
    *process = (srv_process){0};
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        process->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                               1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) process->max_descriptors = limit.rlim_cur;
    read_system(process);
}
