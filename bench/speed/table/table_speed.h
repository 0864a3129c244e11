/* table_speed.h - the parts of the program table_speed; each takes its arguments and prints one
 * line of JSON. */
#ifndef SRI_TABLE_SPEED_H
#define SRI_TABLE_SPEED_H

#include "table_input.h"

/* A route of five utterances whose vectors are rows `first` to `first` + 4, stored as `durability`
 * says; it is replaced when it is there. */
void table_put(sr_router *router, const char *name, const table_rows *rows, size_t first,
               sr_durability durability);
void table_remove(sr_router *router, const char *name, sr_durability durability);

int table_mutate(int count, char **arguments);
int table_extend(int count, char **arguments);
int table_beside(int count, char **arguments);
int table_rival(int count, char **arguments);
int table_churn(int count, char **arguments);
int table_stress(int count, char **arguments);

#endif
