/* process_stats.h - what the system says about this process. */
#ifndef SRV_PROCESS_STATS_H
#define SRV_PROCESS_STATS_H

#include "base/base.h"

/* Zero where the system does not tell (all but Linux, for most). */
typedef struct srv_process {
    double cpu_seconds;
    uint64_t resident_bytes, virtual_bytes, open_descriptors, max_descriptors, threads;
} srv_process;

void srv_process_read(srv_process *process);

#endif
